"""Choices for a CPU: Winograd's tiles, strips of rows, and the packing of weights."""
