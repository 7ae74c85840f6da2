"""Which network? A latency model fitted to the machine, candidates, and the fastest engine."""
