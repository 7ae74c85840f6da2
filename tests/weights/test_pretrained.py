"""The table of published weights says what timm's and torchvision's own tables say."""

from __future__ import annotations

import pytest
import timm
import torchvision

from fleetfoot import create_model, list_models
from fleetfoot.models import configure
from fleetfoot.network import published
from fleetfoot.weights.pretrained import PRETRAINED
from fleetfoot.weights.top1 import TIMM, TOP1, published_top1, timm_table, timm_top1
from tools.timm_top1 import facts

ROWS = [(name, row) for name, rows in PRETRAINED.items() for row in rows]


def test_every_row_is_of_a_network_that_exists_and_takes_its_options():
    assert set(PRETRAINED) <= set(list_models())
    assert list_models(pretrained=True) == [name for name in list_models() if name in PRETRAINED]
    for name, row in ROWS:
        configure(name, **row.options)
        tags = [other.tag for other in PRETRAINED[name]]
        assert len(tags) == len(set(tags)), name


@pytest.mark.parametrize(
    ("name", "row"), [pytest.param(n, r, id=r.repo) for n, r in ROWS if r.source == "timm"]
)
def test_timms_rows_have_timms_terms_and_preprocessing(name, row):
    theirs = timm.get_pretrained_cfg(row.repo.removeprefix("timm/"))
    assert theirs.hf_hub_id == row.repo
    assert row.licence.partition(" ")[0] == theirs.license
    assert row.research_only == (theirs.license not in ("apache-2.0", "mit"))
    assert row.input_size == theirs.input_size[-1]
    assert (row.mean, row.std) == (theirs.mean, theirs.std)
    assert row.interpolation == theirs.interpolation
    # FasterNet was scored by its authors at 0.9, which timm gives as the crop for tests
    assert row.crop_pct == ((theirs.test_crop_pct if "fasternet" in name else 0) or theirs.crop_pct)


@pytest.mark.parametrize(
    ("name", "row"), [pytest.param(n, r, id=r.filename) for n, r in ROWS if r.source != "timm"]
)
def test_torchvisions_rows_have_torchvisions_address_score_and_preprocessing(name, row):
    known = {
        weights.url: weights
        for model in torchvision.models.list_models()
        for weights in torchvision.models.get_model_weights(model)
    }
    theirs = known[row.repo]
    assert row.top1 == theirs.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    transform = theirs.transforms()
    assert [row.input_size] == transform.crop_size
    assert row.crop_pct == row.input_size / transform.resize_size[0]
    assert row.interpolation == transform.interpolation.value
    assert (list(row.mean), list(row.std)) == (transform.mean, transform.std)
    assert row.filename.endswith(f"-{row.sha256}.pth")


def test_every_network_whose_score_is_printed_somewhere_has_it():
    assert not set(TOP1) & set(PRETRAINED), "a figure has one place"
    assert set(TOP1) <= set(list_models())
    without = {name for name in list_models() if published_top1(name) is None}
    # nobody has printed these: torchvision trained no width 0.75, nor ShuffleNetV1's authors
    # scales 1.5 and 2 at groups 1, 2, 4
    assert without == {
        "mobilenetv3_large_075_tv", "mobilenetv3_small_075_tv",
        *(f"shufflenet_v1_g{g}_x{s}" for g in (1, 2, 4) for s in ("1_5", "2_0")),
    }  # fmt: skip
    for name in set(list_models()) - without:
        score, source = published_top1(name)
        assert 30 < score < 90
        assert source


def test_peers_have_their_libraries_scores():
    assert published_top1("timm:resnet50") == (80.382, "timm's results table")
    assert published_top1("timm:resnet50.tv_in1k")[0] == 76.156
    assert published_top1("timm:mobilenetv2_100")[0] == 72.910
    assert published_top1("torchvision:resnet50")[0] == 80.858
    assert published_top1("torchvision:deeplabv3_resnet50") is None
    assert published_top1("timm:ghostnet_130") is None, "untrained"
    assert published_top1("timm:no_such_network") is None
    assert published_top1("timm:cpubone_t0") == (74.85, "README of altair199797/CPUBone")
    assert published_top1("timm:cpubone_b0_bfrobust") is None, "of timm's own form"
    assert set(timm_table()) <= set(timm.list_pretrained())


def test_timms_figures_are_those_of_a_stated_input_size():
    assert timm_top1("resnet50.a1_in1k", 224) == (80.382, "timm's results table")
    assert timm_top1("resnet50.a1_in1k", 288) == (81.240, "timm's results table")
    assert timm_top1("resnet50.a1_in1k", 256) is None
    # trained at 160 pixels, which timm's configuration states: 78.052 is the figure at 224
    assert timm_top1("resnet50.a3_in1k") == (75.994, "timm's results table")
    assert published("timm:mobilenetv4_conv_small", 256) == (74.644, "timm's results table")
    assert published("timm:mobilenetv4_conv_small", 192) == (
        73.756, "timm's results table, at 224 pixels",
    )  # fmt: skip


def test_a_figure_of_timm_is_the_same_in_both_tables():
    rows = [row for rows in PRETRAINED.values() for row in rows if row.top1_source == TIMM]
    assert rows
    for row in rows:
        figures = timm_table()[row.repo.removeprefix("timm/")]
        assert figures[row.input_size] == row.top1, row.repo


def test_the_table_of_timms_figures_is_made_from_rows_of_its_file():
    theirs = [
        {"model": "resnet50.a1_in1k", "img_size": "288", "top1": "81.240", "param_count": "25.56"},
        {"model": "resnet50.a1_in1k", "img_size": "224", "top1": "80.382", "param_count": "25.56"},
        {"model": "resnet50.gone", "img_size": "224", "top1": "80.000", "param_count": "25.56"},
        {"model": "vit_tiny.x", "img_size": "224", "top1": "75.000", "param_count": "5.00"},
        {"model": "fasternet_l.in1k", "img_size": "224", "top1": "83.500", "param_count": "93.47"},
        {"model": "repvit_huge.x", "img_size": "224", "top1": "85.000", "param_count": "1,012.5"},
    ]
    known = {row["model"] for row in theirs} - {"resnet50.gone"}
    assert facts(theirs, known) == [
        ("fasternet_l.in1k", 224, "83.500"),
        ("resnet50.a1_in1k", 224, "80.382"),
        ("resnet50.a1_in1k", 288, "81.240"),
    ]


def test_every_network_carries_its_preprocessing():
    ours = create_model("fastvit_t8")
    assert (ours.pretrained_cfg.source, ours.pretrained_cfg.input_size) == ("none", 256)
    peer = create_model("timm:mobilevit_xxs")
    assert (peer.pretrained_cfg.mean, peer.pretrained_cfg.input_size) == ((0.0, 0.0, 0.0), 256)
    assert peer.pretrained_cfg.source == "none"
    assert create_model("torchvision:resnet18").pretrained_cfg.crop_pct == 224 / 256
