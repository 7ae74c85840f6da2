"""Choosing a network and an engine: a latency model fitted to the machine, candidates, a front."""
