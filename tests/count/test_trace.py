"""Costs counted by hand, and against torch's own counter."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fleetfoot import create_model
from fleetfoot.count import count, trace


def counted(module: nn.Module, *shape: int):
    return count(module, torch.empty(shape))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_convolution_by_hand(groups):
    # 5×5 outputs of 16 channels, each a sum over 3·3·8/groups products
    made = counted(nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=groups), 1, 8, 10, 10)

    assert made.macs == 5 * 5 * 16 * 9 * 8 // groups
    # background: Hi·Wi·Ci + Ho·Wo·Co + K²·Ci·Co/g, and the bias
    assert made.memory_access_elements == 800 + 400 + 9 * 8 * 16 // groups + 16
    assert made.memory_access_bytes == 4 * made.memory_access_elements
    assert made.params == 9 * 8 * 16 // groups + 16


def test_a_transposed_convolution_by_hand():
    # each of the 4·4·6 inputs meets 5 outputs × 2×2 kernel values
    assert counted(nn.ConvTranspose2d(6, 5, 2, stride=2), 1, 6, 4, 4).macs == 4 * 4 * 6 * 5 * 4


def test_a_linear_layer_by_hand():
    made = counted(nn.Linear(7, 5), 1, 7)

    assert made.macs == 35
    assert made.memory_access_elements == 7 + 5 + 35 + 5


def test_attention_counts_both_products():
    class Attend(nn.Module):
        def forward(self, x):
            return nn.functional.scaled_dot_product_attention(x, x, x)

    # 2 heads, 9 tokens, 4 channels: Q Kᵀ 9·9·4 and A V 9·9·4 a head
    assert counted(Attend(), 1, 2, 9, 4).macs == 2 * (9 * 9 * 4 + 9 * 9 * 4)


def test_batch_norm_and_relu_move_bytes_and_count_no_macs():
    made = counted(nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()), 1, 4, 3, 3)

    assert made.macs == 0
    # norm: 36 in, 36 out, 4 × 4 statistics and scales; relu: 36 in, 36 out
    assert made.memory_access_elements == 36 + 36 + 16 + 36 + 36


def test_views_cost_nothing():
    assert counted(nn.Flatten(), 1, 4, 3, 3).memory_access_bytes == 0


def test_partial_convolution_moves_what_its_concat_moves():
    model = create_model("fasternet_t0")
    block = model.stages[0][0][0].pconv  # 40 channels, 10 of them convolved
    made = counted(block, 1, 40, 8, 8)

    assert made.macs == 8 * 8 * 9 * 10 * 10
    conv = 64 * (10 + 10) + 9 * 10 * 10
    concat = 64 * 40 * 2  # eager copies every channel; an engine could reach the paper's 2·cp
    assert made.memory_access_elements == conv + concat


@pytest.mark.parametrize("build", [torchvision.models.resnet18, torchvision.models.vgg11])
def test_agrees_with_the_flop_counter_of_torch(build):
    model = build().to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 64, 64, device="meta"))

    assert 2 * counted(model, 1, 3, 64, 64).macs == counter.get_total_flops()


def test_batch_does_not_change_the_count_of_one_image():
    model = create_model("fasternet_t0")

    assert counted(model, 4, 3, 64, 64).macs == counted(model, 1, 3, 64, 64).macs
    assert trace(model, torch.empty(4, 3, 64, 64)).macs == 4 * counted(model, 1, 3, 64, 64).macs


def test_an_operator_without_a_formula_lowers_the_coverage():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x) + x

    made = counted(Odd(), 1, 4)

    assert made.coverage == 0.5
    assert made.unknown == ("aten.special_bessel_j0",)


def test_the_given_network_is_left_as_it_was():
    model = create_model("fasternet_t0")
    count(model, torch.empty(1, 3, 64, 64))

    assert model.training
    assert all(p.device.type == "cpu" for p in model.parameters())


def test_a_shape_that_the_network_cannot_take_is_named():
    with pytest.raises(ValueError, match=r"FasterNet cannot be counted at input \(1, 4, 64, 64\)"):
        counted(create_model("fasternet_t0"), 1, 4, 64, 64)


def test_an_unknown_operator_is_no_zero():
    class Odd(nn.Module):
        def forward(self, x):
            return torch.special.bessel_j0(x)

    (operator,) = counted(Odd(), 1, 4).operators

    assert operator.macs is None
    assert operator.mac_flops is None
    assert operator.exact_flops is None
    assert operator.bytes_read == operator.bytes_written == 16


def test_operators_carry_the_module_that_called_them():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1)))
    made = counted(model, 1, 3, 2, 2)

    assert [(op.module, op.module_type) for op in made.operators] == [
        ("0", "Conv2d"),
        ("1.0", "ReLU"),
        ("1.1", "Conv2d"),
    ]
    assert made.operators[0].input_shapes == ((1, 3, 2, 2), (4, 3, 1, 1), (4,))
    assert made.operators[0].shape == (1, 4, 2, 2)


def test_a_shared_module_has_the_path_of_its_caller_and_its_parameters_count_once():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(nn.Sequential(shared), nn.Sequential(shared, shared))
    made = counted(model, 1, 4)

    assert [op.module for op in made.operators] == ["0.0", "1.0", "1.0"]
    assert [op.params for op in made.operators] == [20, 0, 0]
    assert [op.weight_bytes for op in made.operators] == [80, 80, 80]
    assert made.params == 20
    assert made.weight_bytes == 80
    assert made.macs == 3 * 16


def test_a_module_that_calls_itself_keeps_its_path():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x, again=True):
            if again:
                x = self(x, again=False)
            return self.inner(x).relu()

    made = counted(nn.Sequential(Twice()), 1, 4)

    assert [op.module for op in made.operators] == ["0.inner", "0", "0.inner", "0"]


def test_a_module_that_raises_and_is_caught_leaves_the_stack():
    class Fails(nn.Module):
        def forward(self, x):
            raise RuntimeError("no")

    class Catches(nn.Module):
        def __init__(self):
            super().__init__()
            self.fails = Fails()

        def forward(self, x):
            try:
                return self.fails(x)
            except RuntimeError:
                return x + 1

    assert counted(Catches(), 1, 4).operators[0].module == ""


def test_parameters_that_nothing_reads_are_said():
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.idle = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.used(x)

    made = counted(Idle(), 1, 4)

    assert (made.params, made.unread_params) == (40, 20)


def test_parts_add_up_at_every_depth():
    made = counted(create_model("fastvit_sa12"), 1, 3, 64, 64)

    for depth in (0, 1, 2, 3, None):
        rows = made.by_module(depth)
        assert sum(row.macs for row in rows) == made.macs
        assert sum(row.exact_flops for row in rows) == made.exact_flops
        assert sum(row.memory_access_bytes for row in rows) == made.memory_access_bytes
        assert sum(row.params for row in rows) == made.params
        assert max(row.peak_activation_bytes for row in rows) == made.peak_activation_bytes
    (whole,) = made.by_module(0)
    assert (whole.module, whole.module_type) == ("", "FastViT")
    with pytest.raises(ValueError, match="depth must be 0 or more, not -1"):
        made.by_module(-1)


@pytest.mark.parametrize("on", ["meta", "given"])
def test_activation_memory_by_hand(on):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.thin = nn.Linear(4, 8, bias=False), nn.Linear(8, 4, bias=False)

        def forward(self, x):
            y = self.wide(x)  # x 16, y 32
            y = y.relu()  # x 16, y 32, its relu 32: the peak
            y = self.thin(y)  # x 16, relu 32, y 16
            return x + y  # x 16, y 16, sum 16

    made = trace(Residual(), torch.rand(1, 4), on=on)

    assert [op.live_activation_bytes for op in made.operators] == [48, 80, 64, 48]
    assert made.peak_activation_bytes == 80
    assert made.input_bytes == 16
    assert trace(Residual(), torch.rand(3, 4), on=on).peak_activation_bytes == 240


def test_in_place_operators_take_no_new_memory():
    class InPlace(nn.Module):
        def forward(self, x):
            return (x + 1).relu_()

    assert [op.live_activation_bytes for op in counted(InPlace(), 1, 4).operators] == [32, 32]


class Selects(nn.Module):
    """As a detector: how many values it answers with depends on them."""

    def forward(self, x):
        return x[x > 0.5] * 2


def test_shapes_that_follow_from_values_are_counted_on_them_and_the_trace_says_so():
    made = trace(Selects(), torch.tensor([[0.0, 1.0, 1.0]]))

    assert made.device == "cpu"
    assert "does not run without values" in made.note
    assert made.operators[-1].shape == (2,)


def test_without_values_such_a_network_is_an_error_that_says_what_to_do():
    with pytest.raises(ValueError, match="give it weights and an input with values"):
        trace(Selects(), torch.empty(1, 3, device="meta"))
    with pytest.raises(ValueError, match="count it with on='auto' or on='given'"):
        trace(Selects(), torch.rand(1, 3), on="meta")
    with pytest.raises(ValueError, match="on must be 'auto', 'meta' or 'given', not 'cpu'"):
        trace(Selects(), torch.rand(1, 3), on="cpu")


def test_a_detector_of_torchvision():
    model = torchvision.models.get_model("ssdlite320_mobilenet_v3_large", weights_backbone=None)
    made = trace(model.eval(), [torch.rand(3, 64, 64)])

    assert made.device == "cpu"
    assert round(made.macs / 1e9, 3) == 0.583  # torchvision's page, at its own 320 pixels
    assert made.coverage == 1
    assert "torchvision.nms" in made.without_exact
    assert made.exact_coverage < 1


def test_scripted_and_old_weight_norm_modules_are_counted():
    old = nn.Conv2d(3, 4, 3)
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(old)
    with pytest.warns(FutureWarning):
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(3, 4, 3)))

    assert counted(old, 1, 3, 8, 8).macs == 36 * 4 * 27
    assert counted(scripted, 1, 3, 8, 8).macs == 36 * 4 * 27


def test_what_is_no_module_is_named():
    with pytest.raises(TypeError, match=r"must be an nn\.Module, not str; fleetfoot\.create_model"):
        trace("fasternet_t0", torch.empty(1, 3, 64, 64))


def test_a_network_that_raises_without_words_is_named():
    class Bare(nn.Module):
        def forward(self, x):
            raise KeyError

    with pytest.raises(ValueError, match=r"Bare cannot be counted at input \(1, 4\): KeyError"):
        counted(Bare(), 1, 4)
