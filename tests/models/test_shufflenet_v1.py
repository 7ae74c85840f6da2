from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from fleetfoot import configure, create_model
from fleetfoot.models.shufflenet_v1 import ConcatUnit, SumUnit, WideningUnit, bottleneck
from helpers import trained_
from shufflenet_by_hand import below, by_columns, by_rows, conv_norm, depthwise


def main_path(x, weights, *, stride, groups, first_groups, shuffle):
    """Figure 2, right branch."""
    y = F.relu(conv_norm(x, below(weights, "reduce"), groups=first_groups))
    if shuffle == "before_depthwise":
        y = by_columns(y, groups)
    y = depthwise(y, below(weights, "depthwise"), stride=stride)
    if shuffle == "after_depthwise":
        y = by_rows(y, groups)
    return conv_norm(y, below(weights, "expand"), groups=groups)


GROUPS = [1, 2, 3, 4, 8]


@pytest.mark.parametrize("shuffle", ["after_depthwise", "before_depthwise"])
@pytest.mark.parametrize("groups", GROUPS)
class TestUnits:
    """float64 and the same kernels underneath, so the outputs are equal, not close."""

    def test_a_sum_unit_is_figure_2b(self, groups, shuffle):
        main = bottleneck(48, 24, 48, stride=1, groups=groups, first_groups=groups, shuffle=shuffle)
        unit = trained_(SumUnit(main, drop=0.0).double()).eval()
        weights = below(unit.state_dict(), "main")
        x = torch.randn(2, 48, 7, 6, dtype=torch.float64)
        expected = F.relu(
            x + main_path(x, weights, stride=1, groups=groups, first_groups=groups, shuffle=shuffle)
        )
        assert torch.equal(unit(x), expected)

    @pytest.mark.parametrize("ungrouped", [True, False])
    def test_a_concat_unit_is_figure_2c(self, groups, shuffle, ungrouped):
        first_groups = 1 if ungrouped else groups
        main = bottleneck(
            24, 24, 48, stride=2, groups=groups, first_groups=first_groups, shuffle=shuffle
        )
        unit = trained_(ConcatUnit(main).double()).eval()
        weights = below(unit.state_dict(), "main")
        x = torch.randn(2, 24, 7, 6, dtype=torch.float64)
        pooled = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, stride=2)  # padding zeros are averaged
        mixed = main_path(
            x, weights, stride=2, groups=groups, first_groups=first_groups, shuffle=shuffle
        )
        y = unit(x)
        assert y.shape == (2, 72, 4, 3)
        torch.testing.assert_close(y[:, :24], pooled, rtol=0, atol=1e-15)  # order of nine addends
        assert torch.equal(y[:, 24:], F.relu(mixed))


def test_a_widening_unit_has_no_shortcut():
    main = bottleneck(10, 30, 60, stride=1, groups=3, first_groups=1, shuffle="after_depthwise")
    unit = trained_(WideningUnit(main).double()).eval()
    x = torch.randn(2, 10, 7, 6, dtype=torch.float64)
    expected = main_path(
        x, below(unit.state_dict(), "main"),
        stride=1, groups=3, first_groups=1, shuffle="after_depthwise",
    )  # fmt: skip
    assert torch.equal(unit(x), F.relu(expected))


def test_only_the_first_1x1_of_the_network_is_not_grouped():
    model = create_model("shufflenet_v1_g3_x1_0")
    first, *others = (
        unit.main.get_submodule(name)[0].groups
        for stage in list(model.stages)[1:]
        for unit in stage
        for name in ("reduce", "expand")
    )
    assert first == 1
    assert set(others) == {3}


def test_a_whole_network_is_its_parts():
    model = trained_(create_model("shufflenet_v1_g8_x0_5").double()).eval()
    weights = model.state_dict()
    x = image = torch.randn(2, 3, 65, 47, dtype=torch.float64)
    x = F.relu(conv_norm(x, below(weights, "stem.0"), stride=2))
    x = F.max_pool2d(x, 3, stride=2, padding=1)
    for stage, depth in ((1, 4), (2, 8), (3, 4)):
        for unit in range(depth):
            y = main_path(
                x,
                below(weights, f"stages.{stage}.{unit}.main"),
                stride=1 if unit else 2,
                groups=8,
                first_groups=8 if unit or stage > 1 else 1,
                shuffle="after_depthwise",
            )
            if unit:
                x = F.relu(x + y)
            else:
                x = torch.cat((F.avg_pool2d(x, 3, stride=2, padding=1), F.relu(y)), dim=1)
    logits = x.mean((2, 3)) @ weights["head.classifier.weight"].T
    # 1e-12: the mean and the last product may add in another order
    torch.testing.assert_close(model(image), logits, rtol=0, atol=1e-12)


def test_widths_are_the_papers_times_the_scale():
    paper = {1: 144, 2: 200, 3: 240, 4: 272, 8: 384}
    for groups, width in paper.items():
        for scale in (0.25, 0.5, 1.0, 1.5, 2.0):
            name = f"shufflenet_v1_g{groups}_x{scale}".replace(".", "_")
            assert configure(name).widths == tuple(
                scale * width * 2**stage for stage in range(3)
            ), name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shufflenet_v1_g3_x1_0", 60),
        ("shufflenet_v1_g2_x0_5", 26),  # a quarter of 100 is 25, which two groups do not divide
        ("shufflenet_v1_g4_x1_5", 104),  # a quarter of 408 is 102
        ("shufflenet_v1_50", 360),  # a half of 720
    ],
)
def test_the_bottleneck_is_rounded_up_to_whole_groups(name, expected):
    with torch.device("meta"):
        model = create_model(name)
    unit = model.stages[1][0]
    assert unit.main.depthwise[0].out_channels == expected


def test_the_two_places_of_the_shuffle_are_two_networks():
    released = trained_(create_model("shufflenet_v1_g3_x0_5")).eval()
    paper = create_model("shufflenet_v1_g3_x0_5", shuffle="before_depthwise").eval()
    paper.load_state_dict(released.state_dict())
    x = torch.randn(1, 3, 64, 64)
    assert not torch.allclose(released(x), paper(x), atol=1e-3)


def test_one_group_has_nothing_to_shuffle():
    model = create_model("shufflenet_v1_g1_x0_25")
    assert not [name for name, _ in model.named_modules() if "shuffle" in name]


def test_groups_that_do_not_divide_are_refused():
    with pytest.raises(ValueError, match=r"groups \(7\) must divide in_channels \(63\) and"):
        create_model("shufflenet_v1_g3_x1_0", groups=7)


@pytest.mark.parametrize("option", ["groups", "bottleneck_ratio"])
def test_no_groups_and_no_bottleneck_are_refused(option):
    with pytest.raises(ValueError, match="must be 1 or more, not"):
        create_model("shufflenet_v1_g3_x1_0", **{option: 0})


def test_an_unknown_place_of_the_shuffle_is_refused():
    with pytest.raises(ValueError, match="'before_depthwise', not 'between'"):
        create_model("shufflenet_v1_g3_x1_0", shuffle="between")


def test_stages_without_a_depth_are_refused():
    with pytest.raises(ValueError, match="they have 3 and 2"):
        create_model("shufflenet_v1_g3_x1_0", depths=(4, 8))


def test_drop_path_drops_branches_of_the_sums():
    model = create_model("shufflenet_v1_g3_x0_25", drop_path_rate=0.3)
    sums = [unit for unit in model.modules() if isinstance(unit, SumUnit)]
    rates = [unit.drop_path.rate for unit in sums]
    assert len(rates) == 3 + 7 + 3
    assert rates == sorted(rates)
    assert rates[-1] == 0.3

    unit = SumUnit(sums[-1].main, drop=0.9).train()
    x = torch.rand(64, 240, 2, 2)  # not negative, so that relu(x) is x
    kept_as_is = (unit(x) == x).flatten(1).all(dim=1)
    assert 48 < kept_as_is.sum() < 64  # 64 draws of probability 0.9, of a fixed seed
