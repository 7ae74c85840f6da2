"""CycleMLP: counted figures, the logits of its authors' code, and a mixer by its formula."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from by_formula import authors, authors_names, image
from fleetfoot.models import create_model, identify, list_models
from fleetfoot.models.cyclemlp import CycleMixer
from fleetfoot.weights.files import WeightsFile
from helpers import trainable
from oracle_macs import macs_of

# params, multiply-adds at 224 pixels; as printed: millions of params, billions of multiply-adds
COUNTED = {
    "cyclemlp_b1": (15_155_400, 2_121_523_200, 15, 2.1),
    "cyclemlp_b2": (26_802_504, 3_875_766_272, 27, 3.9),
    "cyclemlp_b3": (38_385_720, 6_830_968_832, 38, 6.9),
    "cyclemlp_b4": (51_796_552, 10_027_163_648, 52, 10.1),
    "cyclemlp_b5": (75_747_280, 12_232_436_736, 76, 12.3),
}

# of classes 0, 1, 499 and 999, by the authors' code with the weights and image of by_formula
AUTHORS = {
    "cyclemlp_b1": (-1.655821644, 0.563098872, -0.186844599, -1.068942468),
    "cyclemlp_b2": (-1.237482542, 0.763800816, -1.042481891, -0.565942509),
    "cyclemlp_b3": (0.386000885, -0.688704132, -1.427589128, 0.977095463),
    "cyclemlp_b4": (1.5081421, -1.575181103, -1.41464784, 2.448527662),
    "cyclemlp_b5": (1.273604664, 0.436564446, -2.470367992, -1.812351085),
}


def test_every_published_variant_is_listed():
    assert list_models(family="cyclemlp") == list(COUNTED)


@pytest.mark.parametrize("name", COUNTED)
def test_params_and_macs_are_the_counted_ones(name):
    params, macs, printed_params, printed_macs = COUNTED[name]
    with torch.device("meta"):
        model = create_model(name)
        counted = macs_of(model.eval(), torch.empty(1, 3, 224, 224))
    assert trainable(model) == params
    assert (counted.layers, counted.attention) == (macs, 0)
    assert round(params / 1e6) == printed_params
    # the printed ones count more than products, which are 1 % short of them
    assert abs(macs / 1e9 - printed_macs) < 0.015 * printed_macs


@pytest.mark.parametrize("name", ["cyclemlp_b1", "cyclemlp_b2"])
def test_the_logits_are_those_of_the_authors_code(name):
    check_logits(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cyclemlp_b3", "cyclemlp_b4", "cyclemlp_b5"])
def test_the_logits_of_every_variant_are_those_of_the_authors_code(name):
    check_logits(name)


@torch.no_grad()
def check_logits(name):
    logits = authors(name)(image())[0, [0, 1, 499, 999]]
    # float64, stated to nine places
    torch.testing.assert_close(logits.tolist(), list(AUTHORS[name]), rtol=0, atol=2e-9)


def test_the_authors_files_are_recognised_without_their_offsets():
    with torch.device("meta"):
        ours = create_model("cyclemlp_b1", num_classes=7).state_dict()
        theirs = authors_names("cyclemlp", ours)
        theirs["network.0.0.attn.sfc_h.offset"] = torch.empty(1, 128, 1, 1)
    fits = identify(WeightsFile("memory", "test", theirs, (), (), {}))
    assert {(fit.name, fit.num_classes) for fit in fits} == {("cyclemlp_b1", 7)}


@torch.no_grad()
def test_a_mixer_is_its_formula():
    mixer = CycleMixer(8, step=3).double()
    x = torch.randn(2, 5, 6, 8, dtype=torch.float64)
    wide, high, here = mixer.along_width(x), mixer.along_height(x), mixer.in_place(x)
    first, last = mixer.weigh[0], mixer.weigh[2]
    mean = (wide + high + here).flatten(1, 2).mean(1)
    scores = F.linear(F.gelu(F.linear(mean, first.weight, first.bias)), last.weight, last.bias)
    shares = scores.exp() / scores.exp().reshape(2, 8, 3).sum(2).repeat_interleave(3, dim=1)
    mixed = torch.zeros_like(x)
    for branch, part in enumerate((wide, high, here)):  # score 3 c + i is of channel c, branch i
        mixed += part * shares[:, branch::3].reshape(2, 1, 1, 8)
    torch.testing.assert_close(mixer(x), mixer.project(mixed))


def test_the_papers_step_has_the_same_parameters_and_macs():
    with torch.device("meta"):
        model = create_model("cyclemlp_b1", step=7)
        counted = macs_of(model.eval(), torch.empty(1, 3, 224, 224))
    assert (trainable(model), counted.layers) == COUNTED["cyclemlp_b1"][:2]


def test_stages_of_unequal_number_are_an_error():
    with pytest.raises(ValueError, match="one entry a stage; they have 4, 3 and 4"):
        create_model("cyclemlp_b1", depths=(1, 1, 1))
