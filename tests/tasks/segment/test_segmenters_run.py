"""Segmenters, folded, on the native engine, and read from their files."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F

from fleetfoot import engines
from fleetfoot.network import resolve
from fleetfoot.tasks.catalogue import create_model
from fleetfoot.transform import fuse
from fleetfoot.transform.fold import is_batchnorm
from fleetfoot.weights import files, own
from helpers import trained_

NARROW = {
    "backbone": "fasternet_t0",
    "backbone_options": {"width": 16, "depths": (1, 1, 1, 1)},
    "num_classes": 5,
    "width": 16,
}
HEADS = {
    "lraspp": {},
    "deeplabv3": {"auxiliary": True},
    "semantic_fpn": {"channels": 32},
}


def segmenter(head, **options):
    return trained_(create_model(head, **{**NARROW, **HEADS[head], **options})).eval()


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_fusing_keeps_what_a_segmenter_finds(head):
    model = segmenter(head).double()
    fused = fuse(model, torch.zeros(1, 3, 64, 64)).model
    assert type(fused) is type(model)
    left = [path for path, module in fused.named_modules() if is_batchnorm(module)]
    assert all(path.startswith("auxiliary.") for path in left)  # which does not run any more
    assert fused.options == model.options
    assert fused.parts() == model.parts()

    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    outputs, expected = fused(x), model(x)
    assert list(outputs) == list(expected)
    # float64: through some twenty layers of 1e-16 each
    torch.testing.assert_close(outputs["logits"], expected["logits"], rtol=1e-9, atol=1e-9)
    for mine, other in zip(
        fused.decode(outputs, (64, 96)), model.decode(expected, (64, 96)), strict=True
    ):
        assert torch.equal(mine, other)


@pytest.mark.engine("native")
@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_the_native_engine_gives_eagers_pixels_at_any_size(head):
    model = segmenter(head, **({} if head == "semantic_fpn" else {"output_stride": 8}))
    fused = fuse(model, torch.zeros(1, 3, 64, 64)).model
    for size in ((64, 96), (91, 75), (360, 480)):
        x = torch.randn(1, 3, *size)
        expected = model(x)["logits"]
        with engines.load("native", fused, example=x) as engine:
            outputs = engine.run(x)
            slow = [node.name for node in engine.profile(x) if node.reference]
        assert list(outputs) == ["logits"]
        assert not slow, "every operator has a fast kernel"
        # float32, sums in another order
        close = 1e-5 * float(expected.abs().max())
        torch.testing.assert_close(outputs["logits"], expected, rtol=0, atol=close)

        mine, other = (model.decode(one, size)[0] for one in (outputs, {"logits": expected}))
        scaled = F.interpolate(expected, size=size, mode="bilinear")[0]
        best, second = scaled.topk(2, dim=0).values
        tied = best - second <= 2 * close
        assert torch.equal(mine[~tied], other[~tied])
        assert tied.float().mean() < 0.01


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lraspp:mobilenetv3_small_050", {"input_size": (64, 96), "form": "torchvision"}),
        (
            "deeplabv3:fasternet_t0",
            {**NARROW, "output_stride": 8, "rates": (2, 3), "auxiliary": True},
        ),
        ("semantic_fpn:timm:resnet18", {"channels": 16, "width": 8, "num_classes": 3}),
    ],
)
@torch.no_grad()
def test_a_file_states_how_to_build_its_segmenter_again(tmp_path, name, options):
    head, _, backbone = name.partition(":")
    model = trained_(create_model(head, **{**options, "backbone": backbone})).eval()
    header = own.header(name, model.options, model.pretrained_cfg, source="a test")
    header["labels"] = json.dumps([f"class {n}" for n in range(model.num_classes)])
    files.write(tmp_path / "best.safetensors", model.state_dict(), header)

    again = resolve(str(tmp_path / "best.safetensors"))
    assert again.facts.task == "segment"
    assert again.module.options == model.options
    assert again.module.pretrained_cfg.input_size == model.pretrained_cfg.input_size
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(again.module(x)["logits"], model(x)["logits"])
