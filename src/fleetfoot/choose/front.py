"""The Pareto front: the networks that no other beats in both time and accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

Choice = TypeVar("Choice")


def pareto(
    found: Iterable[Choice], *, time_s: Callable[[Choice], float], top1: Callable[[Choice], float]
) -> list[Choice]:
    """The front, from fast to slow: for each on it, no other is faster and as accurate, or as fast
    and more accurate. Two that are equal in both are both on the front.

    >>> found = [(1.0, 70.0), (2.0, 69.0), (3.0, 75.0)]
    >>> pareto(found, time_s=lambda one: one[0], top1=lambda one: one[1])
    [(1.0, 70.0), (3.0, 75.0)]
    """
    front: list[Choice] = []
    for one in sorted(found, key=lambda one: (time_s(one), -top1(one))):
        last = front[-1] if front else None
        if (
            last is None
            or top1(one) > top1(last)
            or (time_s(one), top1(one)) == (time_s(last), top1(last))
        ):
            front.append(one)
    return front
