"""Tools for this project alone: generators of its pages, and the targets of its own engine."""
