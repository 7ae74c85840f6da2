"""Published accuracy as scores: what is printed of the networks that were measured."""

from __future__ import annotations

from collections.abc import Iterable

from fleetfoot.errors import UnknownNameError
from fleetfoot.evaluate.score import Score, published
from fleetfoot.network import Size, is_file, is_weights
from fleetfoot.network import published as published_figure


def published_scores(networks: Iterable[tuple[str, Size]]) -> list[Score]:
    """The published top-1 of each network, by name and input size, each once; those of which none
    is known are left out."""
    found = (published_score(name, size) for name, size in dict.fromkeys(networks))
    return [score for score in found if score is not None]


def published_score(model: str, size: Size) -> Score | None:
    """The published top-1 of a network of the zoo, timm or torchvision, whose source says so if it
    is that of another input size; None if none is known, or ``model`` is a file of the user's.

    >>> published_score("fastvit_t8", 256).value
    76.184
    """
    if is_file(model) or is_weights(model):
        return None
    try:
        top1, source = published_figure(model, size)
    except UnknownNameError:  # a network that was measured under a name of its own
        return None
    return None if top1 is None else published(model, size, top1, source)
