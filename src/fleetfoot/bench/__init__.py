"""Measuring: the clock, the protocols, what surrounds a run, and the records that come of it."""
