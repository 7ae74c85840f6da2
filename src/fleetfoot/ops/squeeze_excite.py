"""Squeeze-and-excitation: scale each channel by a factor computed from the whole map.

Hu et al. 2018, "Squeeze-and-Excitation Networks", https://arxiv.org/abs/1709.01507, section 3.
MobileNetV3 gates with a hard sigmoid (section 5.3 of its paper); MobileOne-S4 and FastViT with a
sigmoid.

B batch · C channels · R reduced channels · H W space
"""

from __future__ import annotations

from torch import Tensor, nn

from fleetfoot.ops.activations import Activation, activation


class SqueezeExcite(nn.Module):
    """Squeeze-and-excitation: x · gate(expand(relu(reduce(mean(x))))). (B, C, H, W) -> (B, C, H, W)

    Two 1×1 convolutions with bias on a 1×1 map: few operations, but the whole map is read before
    its first value can be scaled, which no fused kernel can avoid.
    """

    def __init__(self, channels: int, reduced: int, *, gate: Activation = "sigmoid") -> None:
        super().__init__()
        self.squeeze = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.act = nn.ReLU()
        self.expand = nn.Conv2d(reduced, channels, 1)
        self.gate = activation(gate)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(self.squeeze(x)))))
