"""Weights: which are published and under what terms, how files of them are read safely, and in
which layouts.

``pretrained`` and ``published`` are tables; ``hub`` fetches; ``files`` reads; ``layout`` and
``layouts`` say whose keys a file has, ``folded`` and ``own`` what keys do not say; ``loading`` puts
the tensors into a network.
"""
