"""LR-ASPP: a coarse map, gated by its own mean over the picture, beside a fine one.

Howard et al. 2019, "Searching for MobileNetV3", https://arxiv.org/abs/1905.02244, section 6.4 and
figure 10. The gate pools the whole map, as in torchvision; the paper pools windows of 49×49.

B batch · N classes · h w the map at stride 8 · H W the input
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fleetfoot.models.dilation import dilate_
from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.tasks.backbone import feature_maps, options_of, preprocessing, sides, stated
from fleetfoot.tasks.segment.network import EarlyMap, Segmenter, check_classes

FINE, COARSE = 8, 32
"""Strides of the maps that the head reads, before the coarse one is made denser."""

Form = Literal["plain", "torchvision"]


class Head(nn.Module):
    """Logits of the fine map and of the gated coarse one, added at the fine map's size."""

    def __init__(self, fine: int, coarse: int, num_classes: int, width: int) -> None:
        super().__init__()
        self.reduce = conv_norm_act(coarse, width)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(coarse, width, 1, bias=False), nn.Sigmoid()
        )
        self.fine = nn.Conv2d(fine, num_classes, 1)
        self.coarse = nn.Conv2d(width, num_classes, 1)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        x = self.reduce(coarse) * self.gate(coarse)
        x = F.interpolate(x, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        return self.fine(fine) + self.coarse(x)


class LRASPP(Segmenter):
    """LR-ASPP on any backbone with maps at strides 8 and 32. (B, 3, H, W) -> ``logits`` (B, N,
    H/8, W/8)

    With ``form="torchvision"``, ``backbone_options={"norm_eps": 1e-3, "norm_momentum": 0.01}`` and
    the backbone ``mobilenetv3_large_100`` it is torchvision's network.

    Args:
        backbone: a network of the zoo, or ``timm:NAME``.
        num_classes: classes of the data, a background among them.
        pretrained_backbone: ``True`` for the backbone's default published weights, or a tag.
        backbone_weights: a file of the backbone's weights instead.
        backbone_options: fields of the backbone's config.
        input_size: height and width to which pictures are brought; one number if they are equal.
        output_stride: stride of the coarse map: 32 as the backbone has it, 16 or 8 by dilation.
        width: channels of the gated map.
        form: ``torchvision`` reads the fine map after the first block of its stage, and dilates the
            layer itself whose stride is taken away.

    Raises:
        UnknownNameError: there is no such backbone, or it has no such option.
        ValueError: an option is outside its range, or the backbone cannot be dilated.
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
        output_stride: int = 16,
        width: int = 128,
        form: Form = "plain",
    ) -> None:
        super().__init__()
        self.options = options_of(type(self), locals())
        check_classes("lraspp", num_classes)
        check_form("lraspp", form)
        sides(input_size)
        body = feature_maps(
            backbone,
            (FINE, COARSE),
            pretrained=pretrained_backbone,
            weights=backbone_weights,
            in_chans=in_chans,
            options=backbone_options,
        )
        self.options |= stated(backbone, body, backbone_options)
        self.backbone = dilated(body, output_stride, form, in_chans)
        self.num_classes = num_classes
        info: Any = body.feature_info
        fine, coarse = info.channels()
        self.head = Head(fine, coarse, num_classes, width)
        self.pretrained_cfg = preprocessing(
            self.backbone, input_size=input_size, resize_mode="letterbox"
        )

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("backbone",), "head": ("head",)}

    def head_logits(self, maps: Sequence[Tensor]) -> Tensor:
        fine, coarse = maps
        return self.head(fine, coarse)


def check_form(network: str, form: str) -> None:
    """Checks that ``form`` is one of ``Form``.

    Raises:
        ValueError: it is not.
    """
    if form not in ("plain", "torchvision"):
        raise ValueError(f"{network}: form must be 'plain' or 'torchvision', not {form!r}")


def dilated(body: nn.Module, output_stride: int, form: Form, in_chans: int) -> nn.Module:
    """``body`` with no map beyond ``output_stride``, in the given form; its weights are shared.

    Raises:
        ValueError: ``output_stride`` is none that is offered, or ``body`` cannot be changed so.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, not {output_stride}")
    torchvisions = form == "torchvision"
    if torchvisions:
        body = EarlyMap(body, FINE)
    dilate_(body, output_stride, strided=torchvisions, in_chans=in_chans)
    return body
