"""What a network costs, counted from its shapes, and what the machine can do, measured."""

from fleetfoot.cost.trace import Operator, Trace, count, trace

__all__ = ["Operator", "Trace", "count", "trace"]
