"""Ours against another library's network with the same weights."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from fleetfoot.models.mobilenet_v3 import TABLES

CLOSE = {"rtol": 1e-9, "atol": 1e-9}
"""float64, the same operations in the same order: only the rounding of sums may differ."""


def renamed(theirs: dict[str, Tensor], names: list[tuple[str, str]]) -> dict[str, Tensor]:
    """Their state dict under our keys. ``names`` pairs our modules with theirs; a pair whose module
    the network lacks is passed over, a key that no pair takes is an error."""
    left = dict(theirs)
    taken: dict[str, Tensor] = {}
    for ours, other in names:
        for key in [k for k in left if k.rpartition(".")[0] == other]:
            new = f"{ours}.{key.rpartition('.')[2]}"
            assert new not in taken, f"{new} is named twice"
            taken[new] = left.pop(key)
    assert not left, f"keys that nothing took: {sorted(left)}"
    return taken


def torchvision_names(size: str) -> list[tuple[str, str]]:
    """Modules of our MobileNetV3 beside torchvision's, which are one list of blocks, each one list
    of layers."""
    names = [("stem.0", "features.0.0"), ("stem.1", "features.0.1")]
    number = 1
    for stage, rows in enumerate(TABLES[size]):
        for block, row in enumerate(rows):
            parts = ["depthwise", "project"]
            if number > 1:
                parts.insert(0, "expand")
            if row.squeeze:
                parts.insert(-1, "squeeze_excite")
            for i, part in enumerate(parts):
                ours, theirs = f"stages.{stage}.{block}.{part}", f"features.{number}.block.{i}"
                inner = [("reduce", "fc1"), ("expand", "fc2")]
                if part != "squeeze_excite":
                    inner = [("0", "0"), ("1", "1")]
                names += [(f"{ours}.{mine}", f"{theirs}.{other}") for mine, other in inner]
            number += 1
    end = f"stages.4.{len(TABLES[size][-1])}"
    names += [
        (f"{end}.0", f"features.{number}.0"),
        (f"{end}.1", f"features.{number}.1"),
        ("head.body.conv", "classifier.0"),
        ("head.classifier", "classifier.3"),
    ]
    return names


def image(size: int = 64, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, size, size, dtype=torch.float64)


@torch.no_grad()
def assert_same_outputs(ours: nn.Module, theirs: nn.Module, size: int = 64) -> None:
    assert not ours.training
    assert not theirs.training
    x = image(size)
    expected = theirs(x)
    assert expected.std() > 0.01, "an answer without spread would hide a difference"
    torch.testing.assert_close(ours(x), expected, **CLOSE)


def assert_same_gradients(
    ours: nn.Module, theirs: nn.Module, names: list[tuple[str, str]], size: int = 64
) -> None:
    """Of the same loss in train mode, so through the statistics of the batch as well."""
    x = image(size, batch=4)
    weight = torch.randn(4, 1000, dtype=torch.float64)
    for model in (ours, theirs):
        (model.train()(x) * weight).mean().backward()
    expected = renamed({k: p.grad for k, p in theirs.named_parameters()}, names)
    for key, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, expected.pop(key).reshape(parameter.shape), **CLOSE
        )
    assert not expected
    running = {k: b for k, b in theirs.named_buffers()}
    for key, buffer in renamed(running, names).items():
        torch.testing.assert_close(ours.get_buffer(key), buffer, **CLOSE)


@torch.no_grad()
def assert_same_maps(ours: nn.Module, theirs: nn.Module, timm_name: str) -> None:
    extractor = timm.create_model(timm_name, features_only=True).double().eval()
    extractor.load_state_dict(theirs.state_dict(), strict=False)  # it has no head
    x = image()
    maps, expected = ours.features(x), extractor(x)
    assert [info.channels for info in ours.feature_info] == extractor.feature_info.channels()
    assert [info.reduction for info in ours.feature_info] == extractor.feature_info.reduction()
    assert len(maps) == len(expected)
    for mine, other in zip(maps, expected, strict=True):
        torch.testing.assert_close(mine, other, **CLOSE)
