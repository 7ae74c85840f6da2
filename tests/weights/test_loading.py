"""From a file to a network: exactly or not at all, and everything that was done is said."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
import safetensors.torch
import torch

from fleetfoot import create_model
from fleetfoot.errors import CorruptFileError, KeyMismatchError, UnknownNameError, WeightsError
from fleetfoot.models import convert, identify, inspect_weights, model_info
from fleetfoot.weights.files import read, write
from fleetfoot.weights.loading import load
from fleetfoot.weights.own import header
from fleetfoot.weights.pretrained import untrained
from helpers import trained_
from keras_by_hand import keras_arrays

SMALL = "mobilenetv1_025"


@pytest.fixture
def model():
    return trained_(create_model(SMALL))


@pytest.fixture
def path(model, tmp_path):
    write(tmp_path / "ours.safetensors", model.state_dict())
    return tmp_path / "ours.safetensors"


def rewritten(path, change):
    """The file with its tensors as ``change`` leaves them."""
    state = dict(read(path).state)
    change(state)
    target = path.with_name("changed.safetensors")
    safetensors.torch.save_file(state, target)
    return target


@pytest.mark.parametrize("wrap", ["bare", "state_dict", "model", "state_dict_ema", "module."])
@pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])
def test_every_wrapper_gives_the_same_network_and_is_reported(model, wrap, old, tmp_path):
    state = model.state_dict()
    content = {
        "bare": state,
        "module.": {f"module.{key}": tensor for key, tensor in state.items()},
    }.get(wrap, {wrap: state, "epoch": 3})
    path = tmp_path / "weights.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    loaded = create_model(SMALL, weights=path)
    torch.testing.assert_close(loaded.state_dict(), state, rtol=0, atol=0)
    assert loaded.load_report.layout == "fleetfoot"
    assert loaded.load_report.used == len(state)
    if wrap != "bare":
        assert wrap in " ".join(loaded.load_report.wrappers)


def test_missing_left_over_and_misshaped_keys_are_all_listed_and_nothing_is_loaded(path):
    def change(state):
        del state["stem.0.weight"]
        del state["stages.1.0.depthwise.1.bias"]
        state["stages.4.0.pointwise.1.weight"] = torch.ones(7)
        state["surplus"] = torch.ones(1)
        state["stages.9.0.pointwise.1.weight"] = torch.ones(1)

    target = create_model(SMALL)
    before = {key: tensor.clone() for key, tensor in target.state_dict().items()}
    with pytest.raises(KeyMismatchError) as caught:
        load(target, read(rewritten(path, change)))
    text = str(caught.value)
    for line in (
        "2 missing:\n    stem.0.weight\n    stages.1.0.depthwise.1.bias\n",
        "2 left over:\n    stages.9.0.pointwise.1.weight\n    surplus\n",
        "1 wrongly shaped:\n    stages.4.0.pointwise.1.weight: (7,) in the file, (256,) here",
    ):
        assert line in text
    torch.testing.assert_close(target.state_dict(), before, rtol=0, atol=0)
    with pytest.raises(KeyMismatchError, match="surplus"):
        create_model(SMALL, weights=rewritten(path, change))


def test_two_keys_for_one_tensor_are_an_error(path, tmp_path):
    state = {"conv1/conv1/kernel:0": torch.ones(3, 3, 3, 8), "conv1/kernel:0": torch.ones(1)}
    with pytest.raises(KeyMismatchError, match=r"conv1/kernel:0 \(a second stem.0.weight\)"):
        create_model(SMALL, weights=_saved(tmp_path / "two", state))


def _saved(path, state):
    safetensors.torch.save_file(state, path)
    return path


def test_batch_counters_may_be_absent_and_that_is_said(path):
    def change(state):
        for key in [key for key in state if key.endswith("num_batches_tracked")]:
            del state[key]

    report = create_model(SMALL, weights=rewritten(path, change)).load_report
    assert "27 batch counters are not in the file and start at 0" in report.notes


def test_what_a_counter_of_operations_left_behind_is_ignored_by_name(path):
    def change(state):
        state["stem.total_ops"] = torch.zeros(1)

    report = create_model(SMALL, weights=rewritten(path, change)).load_report
    assert report.ignored == ("stem.total_ops",)


def test_another_number_of_classes_keeps_the_body_makes_a_fresh_head_and_says_so(
    model, path, caplog
):
    with caplog.at_level(logging.WARNING, "fleetfoot"):
        loaded = create_model(SMALL, weights=path, num_classes=7)
    assert loaded.get_classifier().weight.shape == (7, 256)
    assert loaded.load_report.fresh == ("head.classifier.weight", "head.classifier.bias")
    assert "a fresh classifier of 7 classes; the file has 1000" in caplog.text
    for key, tensor in loaded.state_dict().items():
        if not key.startswith("head.classifier"):
            torch.testing.assert_close(tensor, model.state_dict()[key], rtol=0, atol=0)


def test_no_classes_leave_the_files_classifier_out_and_say_so(path):
    loaded = create_model(SMALL, weights=path, num_classes=0)
    assert set(loaded.load_report.ignored) == {"head.classifier.weight", "head.classifier.bias"}
    assert loaded(torch.rand(2, 3, 32, 32)).shape == (2, 256)


def test_the_number_of_classes_is_the_files_unless_given(tmp_path):
    ten = create_model(SMALL, num_classes=10)
    loaded = create_model(SMALL, weights=_saved(tmp_path / "ten", ten.state_dict()))
    assert loaded.num_classes == loaded.config.num_classes == 10
    assert "num_classes=10, as in the file" in loaded.load_report.notes


def test_a_file_without_a_classifier_asks_what_to_do(path, tmp_path):
    body = create_model(SMALL, num_classes=0)
    path = _saved(tmp_path / "body", body.state_dict())
    with pytest.raises(KeyMismatchError, match="num_classes=0 builds none"):
        create_model(SMALL, weights=path)
    assert create_model(SMALL, weights=path, num_classes=0).load_report.fresh == ()
    assert create_model(SMALL, weights=path, num_classes=3).load_report.fresh


def test_maps_alone_come_with_weights_too(model, path):
    maps = create_model(SMALL, weights=path, features_only=True).eval()
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(maps(x)[-1], model.eval().forward_features(x), rtol=0, atol=0)
    assert maps.load_report is not None
    assert maps.pretrained_cfg.source == "file"


def test_the_wrong_network_is_named_with_the_right_one(path):
    with pytest.raises(KeyMismatchError, match="These are weights of mobilenetv1_025"):
        create_model("mobilenetv1_050", weights=path)
    with pytest.raises(KeyMismatchError, match="no layout of fastvit"):
        create_model("fastvit_t8", weights=path)


def test_another_number_of_input_channels_is_an_error_of_shape(path):
    with pytest.raises(KeyMismatchError, match=r"stem.0.weight: \(8, 3, 3, 3\) in the file"):
        create_model(SMALL, weights=path, in_chans=4)


def test_a_wrong_option_is_said_before_the_file_is_looked_at(tmp_path):
    with pytest.raises(UnknownNameError, match="paddin"):
        create_model(SMALL, weights=tmp_path / "absent", paddin="same")


def test_pretrained_and_weights_exclude_each_other(path):
    with pytest.raises(ValueError, match="not both"):
        create_model(SMALL, pretrained=True, weights=path)


def test_a_converted_file_brings_its_options_and_input_along(tmp_path):
    source = trained_(create_model(SMALL, padding="same", norm_eps=1e-3))
    np.savez(tmp_path / "keras.npz", **keras_arrays(source))
    out = tmp_path / "out.safetensors"
    assert convert(tmp_path / "keras.npz", out).layout == "keras"
    loaded = create_model(SMALL, weights=out)
    assert loaded.load_report.layout == "fleetfoot"
    assert (loaded.config.padding, loaded.config.norm_eps) == ("same", 1e-3)
    assert loaded.pretrained_cfg.mean == loaded.pretrained_cfg.std == (0.5, 0.5, 0.5)
    torch.testing.assert_close(loaded.state_dict(), source.state_dict(), rtol=0, atol=0)


def test_what_keys_do_not_show_can_be_said_when_converting(tmp_path):
    made = create_model("shufflenet_v2_x0_5", small_input=True, num_classes=10)
    out = tmp_path / "out.safetensors"
    convert(_saved(tmp_path / "cifar", made.state_dict()), out, small_input=True, input_size=32)
    loaded = create_model("shufflenet_v2_x0_5", weights=out)
    assert (loaded.config.small_input, loaded.config.num_classes) == (True, 10)
    assert loaded.config.input_size == loaded.pretrained_cfg.input_size == 32


def test_height_and_width_of_an_input_come_back(model, tmp_path):
    row = replace(untrained((96, 160)), crop_pct=1.0, resize_mode="letterbox")
    path = tmp_path / "ours.safetensors"
    write(path, model.state_dict(), header(SMALL, {}, row, "a test"))
    loaded = create_model(SMALL, weights=path).pretrained_cfg
    assert (loaded.input_size, loaded.resize_mode) == ((96, 160), "letterbox")


def test_half_precision_files_load_into_the_networks_own(model, tmp_path):
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    loaded = create_model(SMALL, weights=_saved(tmp_path / "half", half))
    assert loaded.stem[0].weight.dtype == torch.float32
    torch.testing.assert_close(loaded.stem[0].weight, half["stem.0.weight"].float())


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("options", "not json"),
        ("options", "[1]"),
        ("options", json.dumps({"width": "wide"})),
        ("options", json.dumps({"__class__": 1})),
        ("options", json.dumps({"num_classes": 5})),
        ("preprocessing", json.dumps({"mean": [0.5]})),
        ("preprocessing", json.dumps({"licence": "mine"})),
        ("preprocessing", json.dumps({"input_size": [224, 224, 3]})),
        ("preprocessing", json.dumps({"input_size": "224"})),
    ],
)
def test_a_header_of_ours_that_is_unsound_is_refused(model, entry, text, tmp_path):
    path = tmp_path / "ours.safetensors"
    write(path, model.state_dict(), {"fleetfoot": "0", entry: text})
    with pytest.raises(CorruptFileError, match=entry):
        create_model(SMALL, weights=path)


def test_a_header_that_asks_for_a_huge_network_is_refused_before_it_is_built(model, tmp_path):
    path = tmp_path / "ours.safetensors"
    header = {"fleetfoot": "0", "options": json.dumps({"width": 1e4})}  # 10^14 values
    write(path, model.state_dict(), header)
    with pytest.raises(KeyMismatchError, match="wrongly shaped"):
        create_model(SMALL, weights=path)


def test_ours_is_identified_without_being_named(path):
    assert [fit.name for fit in identify(read(path))] == [SMALL]
    seen = inspect_weights(path)
    assert seen.layouts == ("fleetfoot (mobilenet_v1)",)
    assert seen.licence == "unknown"


def test_converting_asks_for_the_network_where_several_fit_or_none(model, tmp_path):
    nothing = _saved(tmp_path / "nothing", {"a": torch.ones(1)})
    with pytest.raises(WeightsError, match=r"fits no network.*--model"):
        convert(nothing, tmp_path / "out")
    v1 = _saved(tmp_path / "v1", model.state_dict())
    convert(v1, tmp_path / "out")
    assert read(tmp_path / "out").metadata["model"] == SMALL
    with pytest.raises(WeightsError, match="--force"):
        convert(v1, tmp_path / "out")


@pytest.mark.parametrize("name", ["timm:resnet10t", "torchvision:shufflenet_v2_x0_5"])
def test_a_peer_takes_a_file_with_its_own_keys(name, tmp_path):
    made = trained_(create_model(name))
    path = _saved(tmp_path / "peer", made.state_dict())
    loaded = create_model(name, weights=path)
    torch.testing.assert_close(loaded.state_dict(), made.state_dict(), rtol=0, atol=0)
    assert loaded.pretrained_cfg.source == "file"
    other = _saved(tmp_path / "other", {"a": torch.ones(1)})
    with pytest.raises(KeyMismatchError):
        create_model(name, weights=other)


def test_model_info_knows_a_network_of_ours_and_a_peer():
    info = model_info("mobileone_s0")
    assert info.params == 5_293_272  # facts: training form
    assert [row.tag for row in info.pretrained] == ["apple_in1k"]
    assert info.top1 == 71.398
    peer = model_info("torchvision:shufflenet_v2_x1_0")
    assert peer.params == 2_278_604
    assert peer.top1 == 69.362
    assert model_info("timm:mobilevit_xxs").top1 == 68.936
