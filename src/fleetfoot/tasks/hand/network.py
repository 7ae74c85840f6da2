"""The mesh of a hand from one picture, of the kind of simpleHand.

Zhou et al. 2024, "A Simple Baseline for Efficient Hand Mesh Reconstruction",
https://arxiv.org/abs/2403.01813: pooled features give 21 joints in the picture; the feature maps,
sampled there, give 21 tokens; attention in stages of 21, 84 and 336 tokens refines them; the last
ones give the vertices, and a regressor the joints. FastViT's paper reports a hand network with
other outputs, https://arxiv.org/abs/2303.14189, section 4.4.

B batch · C channels · H W space · N tokens · D channels of a token · V vertices
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fleetfoot import models
from fleetfoot.models.base import FeatureInfoList
from fleetfoot.ops.attention import CrossAttention
from fleetfoot.tasks.hand.parametric import parametric_hand
from fleetfoot.tasks.hand.reconstruction import Reconstruction
from fleetfoot.tasks.hand.topology import JOINTS, Topology, read_topology
from fleetfoot.tasks.network import Targets, TaskNetwork
from fleetfoot.weights.pretrained import PretrainedConfig, untrained

SPREAD = 0.1
"""Metres that one unit of the last layer's output means: about the size of the coordinates, so that
what is learned is near 1."""
WEIGHTS = {"points": 1.0, "joints": 10.0, "vertices": 10.0}
"""Weight of each loss, as simpleHand has them."""
HEAD_CHANNELS = 32
"""Channels of a head of the attention."""


class HandMesh(TaskNetwork):
    """Joints in the picture, and joints and vertices in space, relative to the wrist.

    (B, 3, H, W) -> ``points`` (B, 21, 2) as shares of the input's width and height, ``joints``
    (B, 21, 3) and ``vertices`` (B, V, 3) in metres.

    Args:
        backbone: name of a network with feature maps.
        num_classes: 0: hands have no classes.
        pretrained_backbone: published weights of the backbone, as ``models.create_model`` has it.
        backbone_weights: a file of weights of the backbone.
        input_size: height and width of the input, in pixels.
        topology: the mesh: a file (``topology.py`` says what is in it), the mesh itself, or its
            sizes as ``options`` states them, for a network whose weights are loaded next. Default:
            our own parametric hand.
        levels: number of feature maps that are sampled, from the coarsest on; the paper takes 1.
        dims: channels of the tokens of each stage, multiples of 32.
        depth: number of attention blocks in each stage.
        drop_path_rate: stochastic depth of the backbone.

    Raises:
        TopologyError: the topology cannot be used.
        ValueError: an option is out of range.
    """

    task = "hand"

    def __init__(
        self,
        *,
        backbone: str = "fastvit_ma36",
        num_classes: int = 0,
        pretrained_backbone: bool | str = False,
        backbone_weights: str | os.PathLike[str] | None = None,
        in_chans: int = 3,
        input_size: int = 224,
        topology: str | os.PathLike[str] | Topology | Mapping[str, Any] | None = None,
        levels: int = 3,
        dims: Sequence[int] = (256, 128, 64),
        depth: int = 2,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        if num_classes:
            raise ValueError(
                f"num_classes must be 0 for a hand network, not {num_classes}: hands have no "
                "classes; leave it away"
            )
        mesh = _mesh(topology)
        sizes = tuple(dims)
        if len(sizes) != len(mesh.tokens) or any(d < 1 or d % HEAD_CHANNELS for d in sizes):
            raise ValueError(
                f"dims must be {len(mesh.tokens)} multiples of {HEAD_CHANNELS}, one for each stage "
                f"of {', '.join(map(str, mesh.tokens))} tokens, not {sizes}"
            )
        if depth < 1:
            raise ValueError(f"depth must be 1 or more, not {depth}")
        extra: dict[str, Any] = {"drop_path_rate": drop_path_rate} if drop_path_rate else {}
        self.backbone = models.create_model(
            backbone,
            features_only=True,
            out_indices=_coarsest(levels),
            pretrained=pretrained_backbone,
            weights=backbone_weights,
            in_chans=in_chans,
            **extra,
        )
        info = cast(FeatureInfoList, self.backbone.feature_info)
        self.head = MeshHead(info.channels(), mesh, sizes, depth)
        self.num_classes = 0
        self.pretrained_cfg = _preprocessing(self.backbone, input_size)
        chosen = {
            "in_chans": (in_chans, 3),
            "input_size": (input_size, 224),
            "topology": (None if topology is None else _sizes(mesh), None),
            "levels": (levels, 3),
            "dims": (list(sizes), [256, 128, 64]),
            "depth": (depth, 2),
            "drop_path_rate": (drop_path_rate, 0.0),
        }
        self.options = {name: value for name, (value, usual) in chosen.items() if value != usual}

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        return self.head(self.backbone(x))

    def losses(self, x: Tensor, targets: Targets) -> dict[str, Tensor]:
        """L1 distances of the joints in the picture, as shares of its size, and of the joints and
        vertices, in metres; each with its weight.

        Each target has ``points`` (21, 2) in pixels of the input, ``joints`` (21, 3) and
        ``vertices`` (V, 3) in metres relative to the wrist.
        """
        found = self.outputs(x)
        size = x.new_tensor((x.shape[-1], x.shape[-2]))
        losses = {}
        for name, weight in WEIGHTS.items():
            wanted = torch.stack([target[name] for target in targets]).to(found[name])
            if wanted.shape != found[name].shape:
                raise ValueError(
                    f"targets: {name} are {tuple(wanted.shape[1:])} in the data and "
                    f"{tuple(found[name].shape[1:])} in the network; give the network the data's "
                    "topology (topology=FILE)"
                )
            wanted = wanted / size if name == "points" else wanted
            losses[name] = weight * F.l1_loss(found[name], wanted)
        return losses

    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Reconstruction]:
        """The hand in each picture, its points in pixels of an input of that height and width."""
        height, width = size
        points = outputs["points"] * outputs["points"].new_tensor((width, height))
        return [
            Reconstruction(points=p, joints=j, vertices=v)
            for p, j, v in zip(points, outputs["joints"], outputs["vertices"], strict=True)
        ]

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("backbone",), "neck": (), "head": ("head",)}

    @property
    def faces(self) -> Tensor:
        """Vertex numbers of the mesh's triangles, (F, 3)."""
        return self.head.faces


class MeshHead(nn.Module):
    """From feature maps to the mesh.

    list of (B, C_i, H_i, W_i), the coarsest last -> the outputs of ``HandMesh``
    """

    faces: Tensor
    regressor: Tensor

    def __init__(
        self, channels: Sequence[int], mesh: Topology, dims: Sequence[int], depth: int
    ) -> None:
        super().__init__()
        # backbones differ in the size of their features, and joints begin near the middle
        to_points = nn.Linear(channels[-1], 2 * JOINTS)
        nn.init.normal_(to_points.weight, std=0.1 * channels[-1] ** -0.5)
        nn.init.zeros_(to_points.bias)
        self.points = nn.Sequential(nn.LayerNorm(channels[-1]), to_points)
        self.sampled = nn.LayerNorm(sum(channels))
        widths = [sum(channels) + 2, *dims[:-1]]
        self.stages = nn.ModuleList(
            TokenStage(tokens, width, dim, depth)
            for tokens, width, dim in zip(mesh.tokens, widths, dims, strict=True)
        )
        self.upsample = nn.ModuleList(Upsample(matrix) for matrix in mesh.upsampling)
        self.norm = nn.LayerNorm(dims[-1])
        self.coordinates = nn.Linear(dims[-1], 3)
        self.register_buffer("regressor", torch.from_numpy(mesh.regressor).float())
        self.register_buffer("faces", torch.from_numpy(mesh.faces))

    def forward(self, maps: Sequence[Tensor]) -> dict[str, Tensor]:
        points = self.points(maps[-1].mean((2, 3))).unflatten(1, (JOINTS, 2))
        features = torch.cat([sampled(x, points) for x in maps], 2)  # (B, 21, C)
        tokens = torch.cat((self.sampled(features), points), 2)
        points = points + 0.5
        *refining, last = self.upsample
        for stage, upsample in zip(self.stages, (*refining, None), strict=True):
            tokens = stage(tokens)
            if upsample is not None:
                tokens = upsample(tokens)
        vertices = SPREAD * last(self.coordinates(self.norm(tokens)))  # (B, V, 3)
        joints = self.regressor @ vertices
        wrist = joints[:, :1]
        return {"points": points, "joints": joints - wrist, "vertices": vertices - wrist}


def sampled(x: Tensor, points: Tensor) -> Tensor:
    """Features at points, between pixels bilinearly; the nearest edge's outside.

    (B, C, H, W), (B, N, 2) as shares of the map from its middle, x and y -> (B, N, C)
    """
    found = F.grid_sample(x, 2 * points[:, None], padding_mode="border", align_corners=False)
    return found[:, :, 0].transpose(1, 2)


class TokenStage(nn.Module):
    """Attention among a fixed number of tokens. (B, N, C) -> (B, N, D)"""

    def __init__(self, tokens: int, channels: int, dim: int, depth: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, dim)
        self.place = nn.Parameter(0.02 * torch.randn(tokens, dim))
        self.blocks = nn.Sequential(*(TokenBlock(dim) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.project(x) + self.place)


class TokenBlock(nn.Module):
    """Attention, then two linear layers, each after a layer norm and added. (B, N, D) -> same"""

    def __init__(self, dim: int, *, expansion: int = 2) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attention = CrossAttention(dim // HEAD_CHANNELS)
        self.project = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, expansion * dim), nn.GELU(), nn.Linear(expansion * dim, dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, -1)
        x = x + self.project(self.attention(q, k, v))
        return x + self.mlp(self.norm2(x))


class Upsample(nn.Module):
    """Each of more tokens as a learned mean of the tokens. (B, N, D) -> (B, N', D)"""

    def __init__(self, matrix: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(matrix).float())

    def forward(self, x: Tensor) -> Tensor:
        return self.weight @ x


def _coarsest(levels: int) -> tuple[int, ...]:
    if not 1 <= levels <= 4:
        raise ValueError(f"levels must be 1 to 4, the number of sampled maps, not {levels}")
    return tuple(range(-levels, 0))


def _mesh(given: str | os.PathLike[str] | Topology | Mapping[str, Any] | None) -> Topology:
    if given is None:
        return parametric_hand().topology()
    if isinstance(given, Topology):
        return given
    if isinstance(given, Mapping):
        return Topology.of_sizes(**given)
    return read_topology(given)


def _sizes(mesh: Topology) -> dict[str, Any]:
    """What ``Topology.of_sizes`` takes: a network's weights hold all else of the mesh."""
    return {"vertices": len(mesh.vertices), "faces": len(mesh.faces), "tokens": [*mesh.tokens]}


def _preprocessing(backbone: nn.Module, input_size: int) -> PretrainedConfig:
    """The backbone's means and deviations; the whole picture, at the network's size."""
    known = cast(PretrainedConfig, backbone.pretrained_cfg)
    return replace(
        untrained(input_size),
        crop_pct=1.0,
        resize_mode="letterbox",
        mean=known.mean,
        std=known.std,
        interpolation=known.interpolation,
    )
