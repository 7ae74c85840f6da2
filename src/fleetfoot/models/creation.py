"""Creating a network by name: from the zoo or a peer, fresh or with weights."""

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
    key: str | None = None,
    accept_licence: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    """Creates a network by name, in train mode, like timm's function of the same name.

    The network carries ``pretrained_cfg``, the preprocessing, terms and score of its weights, and
    ``load_report``, the result of loading their file (``None`` for a fresh network).

    >>> import torch
    >>> model = create_model("fasternet_t0", num_classes=10).eval()
    >>> model(torch.zeros(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    >>> body = create_model("fasternet_t0", features_only=True, out_indices=(1, 3))
    >>> [tuple(feature.shape) for feature in body(torch.zeros(1, 3, 64, 64))]
    [(1, 80, 8, 8), (1, 320, 2, 2)]

    Args:
        pretrained: ``True`` for the network's default published weights, or another tag
            (``"apple_dist_in1k"``).
        weights: a file of weights instead, in any known layout. Options that the layout needs are
            set unless given here. ``num_classes`` is the file's unless given here: another number
            keeps the body and makes a fresh classifier.
        key: the part of the file to take, if it holds several sets of weights: an entry
            (``"model_ema"``) or the start of keys. Default: the part whose keys are the network's;
            averaged weights before others.
        accept_licence: accept a licence that does not allow every use.
        features_only: return the feature maps instead of logits. A file of weights may then have a
            head or none.
        out_indices: which feature maps; see ``FeatureExtractor``.
        options: fields of the family's config: ``num_classes`` (0: no classifier), ``in_chans``,
            ``drop_path_rate``, ``input_size`` and the family's own.

    Raises:
        UnknownNameError: there is no such network, option or tag.
        ValueError: both ``pretrained`` and ``weights`` are given, or ``key`` without ``weights``.
        WeightsError: the weights cannot be fetched, read, or used in this network.
    """
    if pretrained and weights is not None:
        raise ValueError(f"give pretrained ({pretrained!r}) or weights ({weights}), not both")
    if key is not None and weights is None:
        raise ValueError(
            f"key={key!r} (--key) is a part of a file of weights; give weights=FILE too"
        )
    if ":" in name:  # a library's, or an unknown one's, which is refused by its name
        return peers.create(
            name,
            pretrained=pretrained,
            weights=weights,
            key=key,
            accept_licence=accept_licence,
            features_only=features_only,
            out_indices=out_indices,
            **options,
        )
    config = configure(name, **options)  # a wrong option is reported before anything is fetched
    if weights is not None:
        model = load_weights(name, read(weights, key), features_only=features_only, **options)
    elif pretrained:
        published = choose(name, pretrained if isinstance(pretrained, str) else None)
        path = hub.fetch(published, accept_licence=accept_licence)
        model = load_weights(name, read(path), published=published, **options)
    else:
        model = variant(name)[0].build(config)
    return FeatureExtractor(model, out_indices) if features_only else model
