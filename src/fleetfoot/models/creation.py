"""A network by its name: of the zoo or a peer, fresh or with weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch import nn

from fleetfoot.models import peers
from fleetfoot.models.base import FeatureExtractor
from fleetfoot.models.catalogue import configure, variant
from fleetfoot.models.loader import load_weights
from fleetfoot.weights import hub
from fleetfoot.weights.files import read
from fleetfoot.weights.pretrained import choose


def create_model(
    name: str,
    *,
    pretrained: bool | str = False,
    weights: str | os.PathLike[str] | None = None,
    accept_licence: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    """A network by name, in train mode, as timm's function of that name makes one.

    It carries ``pretrained_cfg``, the preprocessing, terms and score of its weights, and
    ``load_report``, what was done with their file (``None`` for a fresh network).

    Args:
        pretrained: ``True`` for the network's default published weights, or the tag of others
            (``"apple_dist_in1k"``).
        weights: a file of weights instead, in any known layout; options that the layout needs are
            set unless given here, and ``num_classes`` is the file's unless given here: another
            number keeps the body and makes a fresh classifier.
        accept_licence: yes to a licence that does not allow every use.
        features_only: the feature maps without a head.
        out_indices: which of them; see ``FeatureExtractor``.
        options: fields of the family's config: ``num_classes`` (0: no classifier), ``in_chans``,
            ``drop_path_rate``, ``input_size`` and the family's own.

    Raises:
        UnknownNameError: no such network, option or tag.
        ValueError: both ``pretrained`` and ``weights`` are given.
        WeightsError: the weights cannot be had, read, or used in this network.
    """
    if pretrained and weights is not None:
        raise ValueError(f"give pretrained ({pretrained!r}) or weights ({weights}), not both")
    if peers.is_peer(name):
        return peers.create(
            name,
            pretrained=pretrained,
            weights=weights,
            accept_licence=accept_licence,
            features_only=features_only,
            out_indices=out_indices,
            **options,
        )
    config = configure(name, **options)  # a wrong option is said before anything is fetched
    if weights is not None:
        model = load_weights(name, read(weights), **options)
    elif pretrained:
        published = choose(name, pretrained if isinstance(pretrained, str) else None)
        path = hub.fetch(published, accept_licence=accept_licence)
        model = load_weights(name, read(path), published=published, **options)
    else:
        model = variant(name)[0].build(config)
    return FeatureExtractor(model, out_indices) if features_only else model
