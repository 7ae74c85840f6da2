"""The common structure of every network of the zoo: a stem, stages that each end in a feature map,
and a head.

``forward`` is ``head(features(x)[-1])``. Detection and segmentation take ``features``;
classification takes logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fleetfoot.weights.loading import LoadReport
from fleetfoot.weights.pretrained import PretrainedConfig, untrained


@dataclass(frozen=True, kw_only=True)
class Config:
    """Definition of a model. Each family adds its own fields; a variant is one row of the family's
    ``VARIANTS``."""

    num_classes: int = 1000
    """Size of the classifier; 0 builds none, and the network's output is its pooled features."""
    in_chans: int = 3
    drop_path_rate: float = 0.0
    """Stochastic depth rate of the last block; from the first block on it rises linearly."""
    drop_rate: float = 0.0
    """Dropout rate before the classifier."""
    input_size: int = 224
    """Height and width, in pixels, at which the paper reports the network."""

    def __post_init__(self) -> None:
        if self.num_classes < 0:
            raise ValueError(f"num_classes must be 0 or more, not {self.num_classes}")
        if self.in_chans < 1:
            raise ValueError(f"in_chans must be 1 or more, not {self.in_chans}")
        for name in ("drop_path_rate", "drop_rate"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} must be in [0, 1), not {getattr(self, name)}")


@dataclass(frozen=True)
class FeatureInfo:
    """One map of ``features``: its channels, its stride relative to the input, and the module
    whose output it is."""

    channels: int
    reduction: int
    module: str


class ClassifierHead(nn.Module):
    """Turns the last feature map into logits: ``body`` to one vector an image, dropout, one linear
    layer.

    (B, C, H, W) -> (B, N)
    """

    def __init__(
        self,
        body: nn.Module,
        features: int,
        num_classes: int,
        *,
        drop_rate: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.body = body
        self.features = features
        self.bias = bias
        self.dropout = nn.Dropout(drop_rate)
        self.classifier = self._classifier(num_classes)

    def _classifier(self, num_classes: int) -> nn.Module:
        if num_classes == 0:
            return nn.Identity()
        return nn.Linear(self.features, num_classes, bias=self.bias)

    def reset(self, num_classes: int) -> None:
        """Replaces the classifier by a fresh one of that size, on the same device and in the same
        dtype; 0 removes it."""
        like = next(self.parameters(), None)
        self.classifier = self._classifier(num_classes)
        if like is not None:
            self.classifier.to(like)

    def forward(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.body(x)
        if pre_logits:
            return x
        return self.classifier(self.dropout(x))


class Backbone(nn.Module):
    """Base of the zoo's networks. (B, in_chans, H, W) -> (B, num_classes)

    A family sets ``stem``, ``stages`` (one module a feature map) and ``head``, and passes
    ``feature_info``, one row a stage, to ``__init__``; if the stem's map counts too, its row comes
    first.
    """

    stem: nn.Module
    stages: nn.ModuleList
    head: ClassifierHead

    def __init__(self, config: Config, feature_info: Sequence[FeatureInfo]) -> None:
        super().__init__()
        self.config = config
        self.num_classes = config.num_classes
        self.feature_info = tuple(feature_info)
        self.pretrained_cfg: PretrainedConfig = untrained(config.input_size)
        self.load_report: LoadReport | None = None

    @property
    def num_features(self) -> int:
        """Number of channels of ``forward_features``."""
        return self.feature_info[-1].channels

    def features(self, x: Tensor) -> list[Tensor]:
        """The feature maps of a batch, (B, in_chans, H, W); channels and strides are those of
        ``feature_info``."""
        maps = [self.stem(x)]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        return maps[-len(self.feature_info) :]

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map of ``features``. (B, in_chans, H, W) -> (B, num_features, H', W')"""
        return self.features(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits from the last map, or with ``pre_logits`` the classifier's input. (B,
        num_features, H', W') -> (B, num_classes)"""
        return self.head(x, pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        """The last linear layer; an ``Identity`` if ``num_classes`` is 0."""
        return self.head.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replaces the classifier by a fresh one of ``num_classes`` outputs; 0 removes it.

        Raises:
            ValueError: ``num_classes`` is negative.
        """
        if num_classes < 0:
            raise ValueError(f"num_classes must be 0 or more, not {num_classes}")
        self.head.reset(num_classes)
        self.num_classes = num_classes


class FeatureInfoList(tuple[FeatureInfo, ...]):
    """``feature_info`` of the chosen maps, with timm's two methods."""

    __slots__ = ()

    def channels(self) -> list[int]:
        return [info.channels for info in self]

    def reduction(self) -> list[int]:
        return [info.reduction for info in self]


class FeatureExtractor(nn.Module):
    """A backbone without its head; its output is the feature maps. (B, in_chans, H, W) -> list of
    (B, C_i, H / s_i, W / s_i)

    ``out_indices`` count stages, not the modules between them: the conditional positional encoding
    of a FastViT-SA is part of its last stage, so index 3 is the attention stage. (In Apple's own
    list of modules it is number 7, and their segmentation code read number 6,
    https://github.com/apple/ml-fastvit/pull/4.)

    Raises:
        ValueError: an index is outside the stages, or one is named twice.
    """

    def __init__(self, backbone: Backbone, out_indices: Sequence[int] | None = None) -> None:
        super().__init__()
        count = len(backbone.feature_info)
        chosen = tuple(range(count)) if out_indices is None else tuple(out_indices)
        for index in chosen:
            if not -count <= index < count:
                raise ValueError(
                    f"out_indices: {index} is outside the {count} feature maps of this network "
                    f"(strides {[info.reduction for info in backbone.feature_info]})"
                )
        self.out_indices = tuple(sorted(index % count for index in chosen))
        if not chosen or len(set(self.out_indices)) != len(chosen):
            raise ValueError(f"out_indices must name each map once, not {chosen}")
        self.feature_info = FeatureInfoList(backbone.feature_info[i] for i in self.out_indices)
        self.config = backbone.config
        self.pretrained_cfg = backbone.pretrained_cfg
        self.load_report = backbone.load_report
        self.backbone = backbone
        del self.backbone.head

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = self.backbone.features(x)
        return [maps[i] for i in self.out_indices]
