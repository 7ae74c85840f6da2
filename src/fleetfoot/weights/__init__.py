"""Weights: which are published and under what terms, how their files are read safely, and in which
layouts their keys are.

``pretrained`` and ``published`` are tables; ``hub`` fetches; ``files`` reads; ``layout`` and
``layouts`` tell whose keys a file has, ``folded`` and ``own`` what keys do not; ``loading`` puts
the tensors into a network.
"""
