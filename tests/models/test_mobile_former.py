"""Mobile-Former: counted figures, the logits of its authors' code, its parts by their formulas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from by_formula import authors, authors_names, image
from fleetfoot.models import create_model, identify, list_models
from fleetfoot.models.mobile_former import MapToTokens, TokensToMap
from fleetfoot.weights.files import WeightsFile
from helpers import trainable
from oracle_macs import macs_of

# params, multiply-adds of layers and of attention at 224 pixels; as printed: millions of both
COUNTED = {
    "mobile_former_508m": (13_976_976, 482_265_568, 16_202_112, 14.0, 508),
    "mobile_former_294m": (11_422_648, 275_967_872, 10_764_288, 11.4, 294),
    "mobile_former_214m": (9_425_920, 199_529_184, 8_845_056, 9.4, 214),
    "mobile_former_151m": (7_595_828, 138_796_496, 7_452_672, 7.6, 151),
    "mobile_former_96m": (4_585_252, 88_296_336, 3_720_704, 4.6, 96),
    "mobile_former_52m": (3_469_092, 47_653_888, 1_636_608, 3.5, 52),
    "mobile_former_26m": (3_232_788, 21_913_600, 1_636_608, 3.2, 26),
}

# of classes 0, 1, 499 and 999, by the authors' code with the weights and image of by_formula
AUTHORS = {
    "mobile_former_508m": (3.613722864, 2.637856654, 3.341014104, 3.216628139),
    "mobile_former_294m": (1.951996161, 1.945852492, 2.734170353, 2.136115484),
    "mobile_former_214m": (1.417523275, 7.426831086, -7.405809409, -4.421001104),
    "mobile_former_151m": (2.700355617, -1.335626564, 5.866901601, -6.679918173),
    "mobile_former_96m": (1.11583507, -0.802671757, 4.004468079, -5.430754025),
    "mobile_former_52m": (0.872263873, 5.231159062, -3.673579973, 3.27552122),
    "mobile_former_26m": (0.833960586, 4.999276299, -2.982732223, 3.077212506),
}

by_name = pytest.mark.parametrize("name", COUNTED)


def test_every_published_variant_is_listed():
    assert list_models(family="mobile_former") == list(COUNTED)


@by_name
def test_params_and_macs_are_the_counted_ones(name):
    params, layers, attention, printed_params, printed_macs = COUNTED[name]
    with torch.device("meta"):
        model = create_model(name)
        counted = macs_of(model.eval(), torch.empty(1, 3, 224, 224))
    assert trainable(model) == params
    assert (counted.layers, counted.attention) == (layers, attention)
    assert round(params / 1e6, 1) == printed_params
    # the printed ones count more than products, which are 2 to 10 % short of them
    assert 0.9 * printed_macs < (layers + attention) / 1e6 < 0.99 * printed_macs


@by_name
@torch.no_grad()
def test_the_logits_are_those_of_the_authors_code(name):
    logits = authors(name)(image())[0, [0, 1, 499, 999]]
    # float64, stated to nine places
    torch.testing.assert_close(logits.tolist(), list(AUTHORS[name]), rtol=0, atol=2e-9)


@by_name
def test_the_authors_files_are_recognised_as_the_one_network(name):
    with torch.device("meta"):
        ours = create_model(name, num_classes=7).state_dict()
    file = WeightsFile("memory", "test", authors_names("mobile_former", ours), (), (), {})
    assert {(fit.name, fit.num_classes) for fit in identify(file)} == {(name, 7)}


def two_heads(q, k, v):
    """Attention written out, of (N, C) to (M, C), each half of the channels by itself."""
    halves = []
    for one in zip(q.chunk(2, 1), k.chunk(2, 1), v.chunk(2, 1), strict=True):
        scores = one[0] @ one[1].T / one[0].shape[1] ** 0.5
        halves.append(scores.softmax(1) @ one[2])
    return torch.cat(halves, 1)


@torch.no_grad()
def test_the_bridges_are_their_formulas():
    x, tokens = torch.randn(2, 6, 3, 4).double(), torch.randn(2, 5, 8).double()
    to_tokens, to_map = MapToTokens(6, 8, 0.0).double(), TokensToMap(6, 8, 0.0).double()
    for b in range(2):
        seen, own = x[b].flatten(1).T, tokens[b]
        share = 2 * F.hardsigmoid(to_tokens.weigh[0](own))
        taken = to_tokens.project(share * two_heads(to_tokens.query(own), seen, seen))
        torch.testing.assert_close(to_tokens(x, tokens)[b], F.layer_norm(own + taken, (8,)))
        given = two_heads(seen, to_map.key(own), to_map.value(own))
        torch.testing.assert_close(to_map(x, tokens)[b], x[b] + given.T.reshape(6, 3, 4))


@torch.no_grad()
def test_the_head_reads_the_map_and_the_tokens():
    model = authors("mobile_former_26m")
    x = image()
    seen = model.forward_features(x)
    assert torch.equal(seen.map, model.features(x)[-1])
    assert seen.tokens.shape == (1, 3, 128)
    assert torch.equal(model.forward_head(seen), model(x))
    changed = seen._replace(tokens=seen.tokens.flip(1))
    assert not torch.allclose(model.forward_head(changed), model(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"table": "27m"}, "table must be one of 508m, 294m, 214m, 151m, 96m, 52m, 26m, not '27m'"),
        ({"token_width": 30}, "token_width a multiple of 4, not 3 and 30"),
        ({"tokens": 0}, "tokens must be 1 or more"),
        ({"groups": 5}, r"groups \(5\) must divide"),
    ],
)
def test_what_makes_no_network_is_an_error(options, message):
    with pytest.raises(ValueError, match=message):
        create_model("mobile_former_26m", **options)
