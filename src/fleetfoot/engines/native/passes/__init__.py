"""Passes over a graph that are the same for every processor: fusing, and the order of channels."""
