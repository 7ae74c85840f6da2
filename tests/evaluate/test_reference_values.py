"""Real weights on real photographs: the accuracies that timm's, torchvision's and plain PyTorch
modules of the same networks have, on eager and on the native engine."""

from __future__ import annotations

import pytest

from fleetfoot import engines
from fleetfoot.data.layouts import open_dataset
from fleetfoot.evaluate.classifier import evaluate
from fleetfoot.evaluate.matching import match
from fleetfoot.evaluate.subject import labels_of, of_network
from fleetfoot.network import resolve

IMAGENET100 = [
    ("mobileone_s0", "mobileone_s0_authors_folded.pth", 73, 93),
    ("mobilenetv2_100", "mobilenet_v2_torchvision.pth", 83, 96),
    ("mobilenetv1_025", "mobilenet_v1_025_224_keras.npz", 55, 83),
]
CIFAR = {
    "size": 32,
    "crop_pct": 1.0,
    "mean": (0.4914, 0.4822, 0.4465),
    "std": (0.2023, 0.1994, 0.2010),
}


def names() -> list[str]:
    return [name for name in ("eager", "native") if engines.available()[name] is None]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "file", "top1", "top5"), IMAGENET100)
def test_photographs_of_a_hundred_classes(real_data, tmp_path, model, file, top1, top5):
    lines = [f"{path},{path.stem}" for path in sorted((real_data / "imagenet100").iterdir())]
    table = tmp_path / "imagenet100.csv"
    table.write_text("\n".join(["path,label", *lines]))
    data = open_dataset(table, val_share=0)
    workload = resolve(model, weights=real_data / "weights" / file)
    labels = labels_of(workload)
    with of_network(workload, names=names(), batch=10, labels=labels) as subject:
        matched = match(data.name, data.classes, model, labels)
        found = evaluate(subject, data.name, data.train, matched)
    assert len(found) == len(names())
    for record, _ in found:
        assert (record.top1.right, record.top5.right, record.top1.images) == (top1, top5, 100)


@pytest.mark.slow
def test_small_pictures_in_shards(real_data):
    data = open_dataset(real_data / "cifar10_jpeg")
    workload = resolve(
        "shufflenet_v2_x0_5",
        size=32,
        weights=real_data / "weights" / "shufflenet_v2_x0_5_cifar10.pth",
        options={"small_input": True, "num_classes": 10},
    )
    with of_network(workload, names=names(), batch=50, overrides=CIFAR) as subject:
        matched = match(data.name, data.classes, "net", subject.labels)
        found = evaluate(subject, data.name, data.test, matched)
    for record, _ in found:
        assert record.top1.images == 5000
        assert record.top1.percent == pytest.approx(83.4, abs=0.05)  # given to one decimal
        assert record.classes[3] == "cat"
