"""DeepLabV3: a dense map, seen through kernels of several dilations and through its own mean.

Chen et al. 2017, "Rethinking Atrous Convolution for Semantic Image Segmentation",
https://arxiv.org/abs/1706.05587, section 3.3. Sandler et al. 2018, "MobileNetV2",
https://arxiv.org/abs/1801.04381, section 6.3 and table 7, put it on mobile networks, also without
the dilated kernels: 4.52 M and 2.11 M parameters on MobileNetV2, 21 classes.

torchvision's form has one 3×3 convolution more before the classifier, the rates of stride 8 at
every stride, and more dropout.

B batch · N classes · C channels · h w the map at the output stride · H W the input
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.ops.conv import conv_norm_act
from fleetfoot.tasks.backbone import feature_maps, options_of, preprocessing, sides, stated
from fleetfoot.tasks.network import Targets
from fleetfoot.tasks.segment.lraspp import COARSE, FINE, Form, check_form, dilated
from fleetfoot.tasks.segment.network import Segmenter, check_classes

RATES = {8: (12, 24, 36), 16: (6, 12, 18), 32: (3, 6, 9)}
"""Dilations of the 3×3 kernels by the map's stride: they span the same pixels of the picture."""


class PyramidPooling(nn.Module):
    """A 1×1 convolution, 3×3 ones of several dilations and the mean of the map, side by side, then
    a 1×1 across them. (B, C, h, w) -> (B, width, h, w)"""

    def __init__(self, channels: int, width: int, rates: Sequence[int], drop_rate: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_norm_act(channels, width)])
        for rate in rates:
            branch = conv_norm_act(channels, width, 3)
            conv: Any = branch[0]
            conv.dilation, conv.padding = (rate, rate), (rate, rate)
            self.branches.append(branch)
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), conv_norm_act(channels, width))
        self.project = conv_norm_act(width * (len(rates) + 2), width)
        self.dropout = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        found = [branch(x) for branch in self.branches]
        found.append(self.pooled(x).expand_as(found[0]))
        return self.dropout(self.project(torch.cat(found, dim=1)))


class AuxiliaryHead(nn.Sequential):
    """A small head on an inner map, for training only. (B, C, h, w) -> (B, N, h, w)"""

    def __init__(self, channels: int, num_classes: int) -> None:
        width = channels // 4
        super().__init__(
            *conv_norm_act(channels, width, 3), nn.Dropout(0.1), nn.Conv2d(width, num_classes, 1)
        )


class DeepLabV3(Segmenter):
    """DeepLabV3 on any backbone with a map at stride 32. (B, 3, H, W) -> ``logits`` (B, N, H/16,
    W/16)

    With ``form="torchvision"``, ``auxiliary=True``, ``backbone_options={"norm_eps": 1e-3,
    "norm_momentum": 0.01}`` and the backbone ``mobilenetv3_large_100`` it is torchvision's network.

    Args:
        backbone: a network of the zoo, or ``timm:NAME``.
        num_classes: classes of the data, a background among them.
        pretrained_backbone: ``True`` for the backbone's default published weights, or a tag.
        backbone_weights: a file of the backbone's weights instead.
        backbone_options: fields of the backbone's config.
        input_size: height and width to which pictures are brought; one number if they are equal.
        output_stride: stride of the map that is classified: 8, 16 or 32. Less than the backbone's
            own is reached by dilation.
        aspp: whether there are 3×3 convolutions of several dilations. Without them, the 1×1
            convolution and the mean remain.
        rates: their dilations. Default: 6, 12, 18 at output stride 16, twice that at 8, half at 32.
        width: channels of the head.
        auxiliary: whether training has a second head on the map before the last one.
        form: ``torchvision`` has another head (see above), puts the auxiliary one after the first
            block at stride 8, and dilates the layer itself whose stride is taken away.

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
        aspp: bool = True,
        rates: Sequence[int] | None = None,
        width: int = 256,
        auxiliary: bool = False,
        form: Form = "plain",
    ) -> None:
        super().__init__()
        self.options = options_of(type(self), locals())
        check_classes("deeplabv3", num_classes)
        check_form("deeplabv3", form)
        sides(input_size)
        if rates is not None and (not aspp or not rates or min(rates) < 1):
            raise ValueError(
                f"deeplabv3: rates={tuple(rates)} must be 1 or more and need aspp=True"
            )
        torchvisions = form == "torchvision"
        inner = FINE if torchvisions else COARSE // 2
        body = feature_maps(
            backbone,
            (inner, COARSE) if auxiliary or torchvisions else (COARSE,),
            pretrained=pretrained_backbone,
            weights=backbone_weights,
            in_chans=in_chans,
            options=backbone_options,
        )
        self.options |= stated(backbone, body, backbone_options)
        self.backbone = dilated(body, output_stride, form, in_chans)
        self.num_classes = num_classes
        info: Any = body.feature_info
        channels: list[int] = info.channels()
        chosen: Sequence[int] = rates or (RATES[8] if torchvisions else RATES[output_stride])
        self.context = PyramidPooling(
            channels[-1], width, chosen if aspp else (), drop_rate=0.5 if torchvisions else 0.1
        )
        self.refine = conv_norm_act(width, width, 3) if torchvisions else nn.Identity()
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.auxiliary = AuxiliaryHead(channels[0], num_classes) if auxiliary else None
        self.pretrained_cfg = preprocessing(
            self.backbone, input_size=input_size, resize_mode="letterbox"
        )

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("backbone",), "head": ("context", "refine", "classifier")}

    def head_logits(self, maps: Sequence[Tensor]) -> Tensor:
        return self.classifier(self.refine(self.context(maps[-1])))

    def auxiliary_logits(self, maps: Sequence[Tensor]) -> Tensor | None:
        return None if self.auxiliary is None else self.auxiliary(maps[0])

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        """The losses of ``Segmenter``.

        Raises:
            ValueError: a target does not fit the batch, or the batch has one picture in training.
        """
        if self.training and len(x) == 1:
            raise ValueError(
                "deeplabv3 is trained on batches of 2 pictures or more: a batch norm follows the "
                "mean of the map, which is one number of each channel for one picture"
            )
        return super().losses(x, targets)
