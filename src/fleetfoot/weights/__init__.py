"""Weights: which are published and under what terms, how files of them are read safely, and in
which layouts."""
