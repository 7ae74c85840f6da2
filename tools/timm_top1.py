"""``src/fleetfoot/weights/timm_top1.csv``: timm's published top-1 as a table.

    git clone --depth 1 https://github.com/huggingface/pytorch-image-models timm
    python -m tools.timm_top1 timm/results/results-imagenet.csv COMMIT

takes the figures of the families that fleetfoot compares with from timm's own results file, and
writes above them which file and commit they come from. Only weights that the installed timm knows
are kept.
"""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Iterable, Mapping

from fleetfoot.files import write_text
from fleetfoot.weights.top1 import TIMM_TABLE

FAMILIES = re.compile(
    r"(tf_)?mobilenetv[1-4]|fasternet|fastvit|mobileone|ghostnet|mobilevit|edgenext|shvit|repvit"
    r"|starnet|hgnetv2|cpubone|efficientvit|efficientformerv2|tinynet|lcnet|poolformer_"
    r"|regnet[xy]_0|resnet(18|34|50)\.|efficientnet_b[01]\.|convnext_(atto|femto|pico|nano|tiny)\."
    r"|convnext_(small|base)\.fb_in1k|swin_\w+_patch4_window7_224\.ms_in1k"
)
"""Start of the names of the zoo's families, of the compared peers and of mobile networks."""
MOST_PARAMS = 66.0
"""Limit of parameters in millions. Above it only FasterNet's and FastViT's own peers are kept."""
COMPARED = re.compile(r"fasternet|fastvit|poolformer|convnext_(small|base)|swin_(small|base)")


def facts(rows: Iterable[Mapping[str, str]], known: set[str]) -> list[tuple[str, int, str]]:
    """Name with tag, pixels and top-1 in percent, sorted by name. ``rows`` are those of timm's
    file, ``known`` the weights of the installed timm."""
    found = []
    for row in rows:
        name = row["model"]
        light = float(row["param_count"].replace(",", "")) <= MOST_PARAMS or COMPARED.match(name)
        if name in known and FAMILIES.match(name) and light:
            found.append((name, int(row["img_size"]), row["top1"]))
    return sorted(found)


def main(results: str, commit: str) -> None:
    """Writes the table from the ``results-imagenet.csv`` of that commit of timm."""
    import timm

    with open(results, encoding="utf-8", newline="") as file:
        found = facts(csv.DictReader(file), set(timm.list_pretrained()))
    text = io.StringIO()
    text.write(
        "# ImageNet-1k validation top-1 in percent, by input size in pixels, as published in\n"
        f"# huggingface/pytorch-image-models, results/results-imagenet.csv, commit {commit}\n"
    )
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("network", "pixels", "top1"), *found])
    write_text(TIMM_TABLE, text.getvalue())
    names = {name for name, *_ in found}
    print(f"{TIMM_TABLE.name}: {len(found)} figures of {len(names)} weights")


if __name__ == "__main__":
    main(*sys.argv[1:])
