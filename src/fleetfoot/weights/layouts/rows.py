"""Helpers for the tables of layouts: rows of blocks, and the same parts in each block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


def blocks(*depths: int, root: str = "stages", first: int = 0) -> list[str]:
    """Names of all blocks in order: ``stages.0.0``, ``stages.1.0``, ``stages.1.1``, ..."""
    return [f"{root}.{i}.{j}" for i, depth in enumerate(depths, first) for j in range(depth)]


def each(theirs: Iterable[str], ours: Iterable[str], parts: Mapping[str, str]) -> dict[str, str]:
    """Pairs of module names: the same parts in each block of a row."""
    return {
        f"{a}.{part}": f"{b}.{our_part}"
        for a, b in zip(theirs, ours, strict=True)
        for part, our_part in parts.items()
    }
