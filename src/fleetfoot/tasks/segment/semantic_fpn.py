"""Semantic FPN: a feature pyramid whose maps are all brought to the finest one's size and added.

Kirillov et al. 2019, "Panoptic Feature Pyramid Networks", https://arxiv.org/abs/1901.02446, section
3.1 and figure 3. Widths, norm and dropout are those with which PVT, PoolFormer and FastViT were
judged on ADE20K (PoolFormer, https://arxiv.org/abs/2111.11418, section 4.3): 256 channels in the
pyramid, 128 after it, batch norms in place of group norms.

B batch · N classes · C channels · h w the map at stride 4 · H W the input
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import add
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.tasks.backbone import feature_maps, options_of, preprocessing, sides, stated
from fleetfoot.tasks.detect.pyramid import FeaturePyramid
from fleetfoot.tasks.segment.network import Segmenter, check_classes

STRIDES = (4, 8, 16, 32)
"""Strides of the maps that the pyramid reads."""


class Ascent(nn.Module):
    """One map of the pyramid brought to the size of the finest: 3×3 convolutions, and after each
    the doubling of the map, as often as needed. (B, C, h / 2^n, w / 2^n) -> (B, width, h, w)

    The last step is to the finest map's own size, which at inputs that are no multiple of 32 is a
    few pixels more or less than the double.
    """

    def __init__(self, channels: int, width: int, doublings: int) -> None:
        super().__init__()
        self.doublings = doublings
        self.convs = nn.ModuleList(
            conv_norm_act(channels if i == 0 else width, width, 3) for i in range(max(1, doublings))
        )

    def forward(self, x: Tensor, finest: Tensor) -> Tensor:
        for step, conv in enumerate(self.convs, start=1):
            x = conv(x)
            if step < self.doublings:
                x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            elif self.doublings:
                size = finest.shape[-2:]
                x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        return x


class SemanticFPN(Segmenter):
    """Semantic FPN on any backbone with maps at strides 4, 8, 16 and 32. (B, 3, H, W) -> ``logits``
    (B, N, H/4, W/4)

    Args:
        backbone: a network of the zoo, or ``timm:NAME``.
        num_classes: classes of the data, a background among them.
        pretrained_backbone: ``True`` for the backbone's default published weights, or a tag.
        backbone_weights: a file of the backbone's weights instead.
        backbone_options: fields of the backbone's config.
        input_size: height and width to which pictures are brought; one number if they are equal.
        channels: channels of the pyramid.
        width: channels after it.
        drop_rate: rate at which whole maps of channels are dropped before the classifier.

    Raises:
        UnknownNameError: there is no such backbone, or it has no such option.
        ValueError: an option is outside its range.
        WeightsError: the backbone's weights cannot be fetched, read, or used in it.
    """

    def __init__(
        self,
        *,
        backbone: str,
        num_classes: int,
        pretrained_backbone: bool | str = False,
        backbone_weights: str | os.PathLike[str] | None = None,
        backbone_options: Mapping[str, Any] | None = None,
        in_chans: int = 3,
        input_size: int | tuple[int, int] = 512,
        channels: int = 256,
        width: int = 128,
        drop_rate: float = 0.1,
    ) -> None:
        super().__init__()
        self.options = options_of(type(self), locals())
        check_classes("semantic_fpn", num_classes)
        sides(input_size)
        if not 0 <= drop_rate < 1:
            raise ValueError(f"semantic_fpn: drop_rate must be in [0, 1), not {drop_rate}")
        self.backbone = feature_maps(
            backbone,
            STRIDES,
            pretrained=pretrained_backbone,
            weights=backbone_weights,
            in_chans=in_chans,
            options=backbone_options,
        )
        self.options |= stated(backbone, self.backbone, backbone_options)
        self.num_classes = num_classes
        info: Any = self.backbone.feature_info
        self.neck = FeaturePyramid(info.channels(), channels)
        self.ascents = nn.ModuleList(Ascent(channels, width, n) for n in range(len(STRIDES)))
        self.dropout = nn.Dropout2d(drop_rate)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.pretrained_cfg = preprocessing(
            self.backbone, input_size=input_size, resize_mode="letterbox"
        )

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {
            "backbone": ("backbone",),
            "neck": ("neck",),
            "head": ("ascents", "classifier"),
        }

    def head_logits(self, maps: Sequence[Tensor]) -> Tensor:
        levels = self.neck(maps)
        sums = [ascent(x, levels[0]) for ascent, x in zip(self.ascents, levels, strict=True)]
        return self.classifier(self.dropout(reduce(add, sums)))
