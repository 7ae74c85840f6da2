"""What does it cost on paper? Operations, bytes and memory, counted from a network's shapes."""

from fleetfoot.count.trace import ModuleCost, Operator, Trace, count, trace

__all__ = ["ModuleCost", "Operator", "Trace", "count", "trace"]
