"""What a network costs, counted from its shapes, and what the machine can do, measured."""

from fleetfoot.cost.trace import ModuleCost, Operator, Trace, count, trace

__all__ = ["ModuleCost", "Operator", "Trace", "count", "trace"]
