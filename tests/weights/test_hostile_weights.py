"""Hostile and broken files of weights: bounded work, one error that names the file, no code run,
and nothing in them that steers a terminal."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from fleetfoot import create_model
from fleetfoot.cli.weights import weights_app
from fleetfoot.errors import (
    CorruptFileError,
    KeyMismatchError,
    UnknownNameError,
    UnsafeFileError,
    WeightsError,
    nearest_names,
    visible,
)
from fleetfoot.models import inspect_weights, list_models
from fleetfoot.weights import pickles
from fleetfoot.weights.files import read
from helpers import trained_

SMALL = "mobilenetv1_025"
TEXT = b"X\x01\x00\x00\x00a"
"""The pickle of the text "a"."""


def zipped(path, text, **members):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", text)
        for name, content in members.items():
            archive.writestr(f"archive/data/{name}", content)
    return path


def old(path, text):
    """A file of torch before 1.6 around the pickle ``text``."""
    parts = [pickle.dumps(one, protocol=2) for one in (0x1950A86A20F9469CFC6C, 1001, {})]
    path.write_bytes(b"".join(parts) + text + pickle.dumps([], protocol=2))
    return path


def pickled(*body):
    return b"\x80\x02" + b"".join(body) + b"."


NESTED = {
    "a key nested 3,000 deep": pickled(b"}(", b")", b"\x85" * 3000, b"K\x01u"),
    "a key nested 300,000 deep": pickled(b"}(", b")", b"\x85" * 300_000, b"K\x01u"),
    "a key of exponential hash": pickled(b"}(", b")", b"2\x86" * 200, b"K\x01u"),
    "a key of exponential hash, by memo": pickled(
        b"}(", b")q\x00", b"".join(b"h%c h%c\x86q%c0".replace(b" ", b"") % (i, i, i + 1)
                                    for i in range(100)), b"h\x64K\x01u"),
    "a key in an ordered dictionary": pickled(
        b"ccollections\nOrderedDict\n(](", b")", b"\x85" * 3000, b"K\x01\x86etR"),
    "values nested 300,000 deep": pickled(b"}(", TEXT, b")", b"\x85" * 300_000, b"u"),
    "lists nested 300,000 deep": pickled(
        b"}(", TEXT, b"]" * 300_000, b"a" * 299_999, b"u"),
    "dictionaries nested 100,000 deep": pickled(
        b"}(", TEXT, (b"}(" + TEXT) * 100_000, b"N", b"u" * 100_000, b"u"),
    "a set of a nested tuple": pickled(b"}(", TEXT, b"\x8f(", b")", b"\x85" * 3000, b"\x90u"),
    "too many marks": pickled(b"(" * 100_000, b"}"),
    "a huge integer": pickled(b"\x8b", struct.pack("<i", 1 << 20), bytes(1 << 20)),
    "integers of one hash": pickled(b"}(", b"".join(
        b"\x8a\x0c" + (k * ((1 << 61) - 1)).to_bytes(12, "little") + b"N" for k in range(3000)),
        b"u"),
    "a text longer than the file": pickled(b"X", struct.pack("<I", 1 << 31)),
    "bytes of more than any memory": pickled(b"\x8e", struct.pack("<Q", 1 << 62)),
    "a list copied over and over": pickled(
        b"](", b"N" * 1000, b"eq\x000", b"ccollections\nOrderedDict\nq\x010",
        b"h\x01h\x00\x85R0" * 5000, b"N"),
    "a text encoded over and over": pickled(
        b"X", struct.pack("<I", 1 << 16), b"a" * (1 << 16), b"q\x000",
        b"c_codecs\nencode\nq\x01X\x06\x00\x00\x00latin1q\x020",
        b"h\x01h\x00h\x02\x86R0" * 5000, b"N"),
    "an unknown opcode": pickled(b"i"),
    "an empty stack": pickled(b"0"),
    "a call of no name": pickled(b"N)R"),
    "a class of no name": pickled(b"N)\x81"),
    "an unknown memo": pickled(b"h\x07"),
}  # fmt: skip


@pytest.mark.parametrize("case", NESTED)
@pytest.mark.parametrize("container", [zipped, old])
def test_a_pickle_is_bounded_before_it_is_built(case, container, tmp_path):
    path = container(tmp_path / "weights.pth", NESTED[case])
    with pytest.raises(WeightsError, match=r"weights\.pth"):
        read(path)


def test_a_pickle_costs_no_more_than_its_bytes():
    # each opcode is a byte: twice the bytes are about twice the steps, whatever they nest
    steps = []
    for length in (1000, 2000):
        text = NESTED["a key of exponential hash"][:4] + b"2\x86" * length + b"."
        file = io.BytesIO(text)
        with pytest.raises(pickles.BrokenError):
            pickles.load(file, len(text) - 1)
        steps.append(file.tell())
    assert steps[1] <= 2 * steps[0]


def view(storage, shape, stride, offset=0, kind="FloatStorage", key="0", count=4):
    """The pickle of one tensor, as torch writes it, with any shape and stride."""

    class Named:
        def __init__(self, module, name):
            self.module, self.name = module, name

    def text(value):
        if isinstance(value, Named):
            return f"c{value.module}\n{value.name}\n".encode()
        if isinstance(value, tuple):
            return b"(" + b"".join(map(text, value)) + b"t"
        if isinstance(value, bool) or value is None:
            return {True: b"\x88", False: b"\x89", None: b"N"}[value]
        if isinstance(value, int):
            size = value.to_bytes(10, "little", signed=True)
            return b"\x8a" + bytes([len(size)]) + size
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    stored = text(("storage", Named("torch", kind), key, "cpu", count)) + b"Q"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + stored
        + text(offset)
        + text(shape)
        + text(stride)
        + b"\x89NtR"
    )
    return pickled(b"}(", TEXT, tensor, b"u")


@pytest.mark.parametrize(
    ("shape", "stride", "more"),
    [
        ((5,), (1,), {}),
        ((4,), (2,), {}),
        ((2, 2), (4, 1), {}),
        ((1 << 40,), (0,), {}),
        ((2,), (0,), {"count": 1, "offset": 4}),
        ((4,), (1,), {"offset": 1}),
        ((4,), (1,), {"offset": -1}),
        ((4,), (-1,), {"offset": 3}),
        ((-4,), (1,), {}),
        ((2, 2), (2,), {}),
        ((4,), (1,), {"kind": "DoubleStorage"}),
        ((4,), (1,), {"kind": "NoStorage"}),
        ((4,), (1,), {"key": "9"}),
        ((4,), (1,), {"key": "../../../etc/passwd"}),
        ((1 << 62, 1 << 62), (1, 1), {}),
        (tuple([1] * 100), tuple([1] * 100), {}),
    ],
)
def test_a_tensor_lies_within_its_storage_or_is_refused(shape, stride, more, tmp_path):
    good = zipped(tmp_path / "good.pth", view("0", (2, 2), (2, 1)), **{"0": bytes(16)})
    assert read(good).state["a"].shape == (2, 2)
    bad = zipped(tmp_path / "bad.pth", view("0", shape, stride, **more), **{"0": bytes(16)})
    with pytest.raises(WeightsError, match=r"bad\.pth"):
        read(bad)


def test_many_tensors_on_one_storage_are_a_bomb(tmp_path):
    tensor = view("0", (1 << 18,), (1,), count=1 << 18)[10:-2]
    many = b"".join(b"X\x04\x00\x00\x00%04d" % i + tensor for i in range(200))
    path = zipped(tmp_path / "many.pth", pickled(b"}(", many, b"u"), **{"0": bytes(1 << 20)})
    with pytest.raises(CorruptFileError, match="bomb"):
        read(path)


def test_a_zip_whose_members_overlap_is_a_bomb(tmp_path):
    path = tmp_path / "overlap.pth"
    torch.save({"a": torch.ones(1 << 14)}, path)
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")  # the last member claims to be as large as the file
    content[place + 20 : place + 28] = struct.pack("<II", len(content), len(content))
    path.write_bytes(content)
    with pytest.raises(CorruptFileError):
        read(path)


UNUSABLE = {
    "sparse": lambda: torch.eye(2).to_sparse(),
    "sparse, compressed": lambda: torch.eye(2).to_sparse_csr(),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
    "without values": lambda: torch.ones(2, device="meta"),
    "complex64": lambda: torch.ones(2, dtype=torch.complex64),
}


@pytest.mark.parametrize("kind", UNUSABLE)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_tensors_of_other_kinds_are_named_with_their_key(kind, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"conv.weight": UNUSABLE[kind](), "good": torch.ones(1)}, path)
    word = kind.partition(",")[0]
    with pytest.raises(CorruptFileError, match=rf"conv.weight is .*{word}"):
        read(path)


# Values


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("stem.1.running_var", -1e-3, r"negative variances in 1 tensors.*stem.1.running_var"),
        ("stem.1.running_var", float("nan"), r"NaN or infinity in 1 tensors: stem.1.running_var"),
        ("stem.1.num_batches_tracked", float("nan"), "NaN or infinity.*num_batches_tracked"),
        ("stem.0.weight", float("-inf"), "NaN or infinity in 1 tensors: stem.0.weight"),
        ("stem.0.weight", 1e39, r"type cannot hold, in 1 tensors: stem.0.weight"),
        ("stem.1.running_var", 1e300, r"type cannot hold, in 1 tensors: stem.1.running_var"),
    ],
)
def test_values_that_would_answer_nan_are_refused_by_name(key, value, message, tmp_path):
    state = trained_(create_model(SMALL)).double().state_dict()
    state[key] = state[key].double()
    state[key].view(-1)[0] = value
    path = tmp_path / "weights.pth"
    torch.save({"net": state}, path)
    with pytest.raises(CorruptFileError, match=message):
        create_model(SMALL, weights=path)


def test_a_variance_under_another_name_is_refused_too(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, **{"conv1_bn/moving_variance:0": -np.ones(8, "f4"), "a": np.ones(1)})
    with pytest.raises(CorruptFileError, match="negative variances"):
        read(path)


def test_doubles_within_float32_load_and_masks_may_be_infinite(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(trained_(create_model(SMALL)).double().state_dict(), path)
    assert create_model(SMALL, weights=path).stem[0].weight.dtype == torch.float32
    torch.save({"attn.mask": torch.tensor([0.0, float("-inf")]), "a": torch.ones(1)}, path)
    assert read(path).state["attn.mask"].shape == (2,)
    torch.save({"attn.mask": torch.tensor([float("nan")])}, path)
    with pytest.raises(CorruptFileError, match=r"attn\.mask"):
        read(path)


# Files of other kinds


def npy():
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


def tar(*names):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))
    return file.getvalue()


def zip_of(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return file.getvalue()


OTHERS = {
    "OpenVINO": (b'<?xml version="1.0"?>\n<net name="Model0" version="11">', r"OpenVINO.*\.bin"),
    "OpenVINO, bare": (b'<net name="Model0" version="11">', "OpenVINO"),
    "web page": (b"<!DOCTYPE html>\n<html>", "web page.*fetch it again"),
    "XHTML": (b'<?xml version="1.0"?>\n<html xmlns="x">', "web page"),
    "bucket": (b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code>', "file server"),
    "JSON": (b'{"architectures": ["X"]}', "JSON"),
    "index": (b'{"metadata": {}, "weight_map": {"a": "x.safetensors"}}', "several files"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    "TFLite": (b"\x1c\x00\x00\x00TFL3" + bytes(40), "TensorFlow Lite"),
    "ExecuTorch": (b"\x1c\x00\x00\x00ET12" + bytes(40), "ExecuTorch"),
    "ONNX": (b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + bytes(40), "ONNX.*safetensors"),
    "Core ML": (b"\x08\x04\x12\x30\x0a\x2e\x0a\x05image" + bytes(60), "Core ML"),
    "Core ML 1": (b"\x08\x01\x12\x30\x0a\x2e\x0a\x05image" + bytes(60), "Core ML"),
    "ONNX of no producer": (b"\x08\x0a\x3a\xd0\x01\x0a\x08\x0a\x01x" + bytes(60), "ONNX"),
    "with a byte order mark": (b"\xef\xbb\xbf<?xml version='1.0'?><net name='x'>", "OpenVINO"),
    "SavedModel": (b"\x08\x01\x12\xa0\x10\x0a\x80\x08\x12\x05" + bytes(60), "SavedModel"),
    "GraphDef": (b"\x0a\x20\x0a\x05input\x12\x0bPlaceholder" + bytes(60), r"TensorFlow.*\.pb"),
    "checkpoint index": (bytes(60) + bytes.fromhex("57fb808b247547db"), "TensorFlow checkpoint"),
    "npy": (npy(), r"\.npy.*numpy\.savez"),
    "GGUF": (b"GGUF\x03\x00\x00\x00" + bytes(40), "GGUF"),
    "gzip": (gzip.compress(b"x" * 100), "gunzip"),
    "tar": (tar("model.pth", "readme"), "tar -xf"),
    "PyTorch's tar": (tar("sys_info", "pickle", "tensors", "storages"), "before 2017"),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c" + bytes(40), "7-Zip"),
    "TensorRT": (b"ftrt" + bytes(40), "TensorRT"),
    "ncnn": (b"7767517\n75 83\nInput data 0 1 data", "ncnn"),
    "pickle 0": (pickle.dumps({"a": 1}, protocol=0), "protocol 0"),
    "TorchScript": (zip_of("m/data.pkl", "m/code/__torch__.py"), "TorchScript.*state_dict"),
    "torch.export": (zip_of("m/archive_format", "m/data/weights/w"), "torch.export"),
    "zip of weights": (zip_of("a/model.pth", "a/readme"), "unpack it and give one: a/model.pth"),
    "Core ML package": (zip_of("x.mlpackage/Manifest.json"), "Core ML"),
    "another zip": (zip_of("readme.txt"), "neither PyTorch's nor NumPy's"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_other_files_are_named_with_what_to_do(what, tmp_path):
    content, message = OTHERS[what]
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_pipe_is_refused_at_once(tmp_path):
    path = tmp_path / "pipe.pth"
    os.mkfifo(path)
    with pytest.raises(WeightsError, match="a named pipe, not a regular file"):
        read(path)


def test_folders_are_named(tmp_path):
    for name, inside, message in (
        ("saved", "saved_model.pb", "SavedModel"),
        ("hub", "model.safetensors", "it holds model.safetensors"),
        ("net.mlpackage", "Manifest.json", "Core ML"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / inside).write_bytes(b"")
        with pytest.raises(WeightsError, match=message):
            read(folder)


# What reaches the terminal

EVIL = "conv\x1b[2J\x1b]0;title\x07\r\n\x9b31m\u202e.weight"


def test_nothing_in_a_file_steers_the_terminal(tmp_path):
    shown = visible(EVIL)
    assert shown.isprintable()
    assert "\\x1b[2J" in shown
    path = tmp_path / "evil\x1b[2J.safetensors"
    bad = {EVIL: torch.full((1,), float("nan"))}
    safetensors.torch.save_file({EVIL: torch.ones(1)}, path, metadata={"licence": EVIL})
    texts = [CliRunner().invoke(weights_app, ["inspect", str(path)]).stdout]
    texts.append(CliRunner().invoke(weights_app, ["inspect", "--json", str(path)]).stdout)
    for state in ({EVIL: torch.ones(1)}, bad, {"state": {EVIL: torch.ones(1)}, EVIL: 1}):
        file = tmp_path / "evil\x1b[2J.pth"
        torch.save(state, file)
        for call in (
            lambda file=file: create_model(SMALL, weights=file),
            lambda file=file: read(file, key="nothing\x1b[2J"),
        ):
            with pytest.raises(WeightsError) as caught:
                call()
            texts.append(str(caught.value))
    made = trained_(create_model(SMALL)).state_dict()
    file = tmp_path / "extra\x1b[2J.pth"
    torch.save({"net": {**{f"net.{k}": v for k, v in made.items()}, EVIL: torch.ones(1)}}, file)
    texts.append(str(create_model(SMALL, weights=file).load_report))
    for text in texts:
        assert all(line.isprintable() for line in text.split("\n")), repr(text)
        assert "\n\x9b" not in text


def test_a_code_that_a_pickle_names_does_not_steer_the_terminal(tmp_path):
    path = zipped(tmp_path / "a.pth", pickled(b"c\x1b[2J\n\x1b]0;x\x07\n)R"))
    with pytest.raises(UnsafeFileError) as caught:
        read(path)
    assert "\x1b" not in str(caught.value)


# Names, and files in no layout


def test_a_file_in_no_layout_shows_its_keys_and_the_nearest_layout(tmp_path):
    path = tmp_path / "own.pth"
    torch.save({"net": {"first.weight": torch.ones(2, 2), "second.bias": torch.ones(2)}}, path)
    seen = inspect_weights(path)
    assert seen.keys == ("first.weight", "second.bias")
    assert "begin with first.weight" in seen.nearest
    state = create_model(SMALL).state_dict()
    torch.save({**state, "neck.weight": torch.ones(1)}, path)
    seen = inspect_weights(path)
    assert "mobilenet_v1 in the layout fleetfoot, which knows 164 of 165" in seen.nearest
    assert "neck.weight" in seen.nearest
    card = CliRunner().invoke(weights_app, ["inspect", str(path)]).stdout
    assert "nearest" in card
    assert "keys" in card
    with pytest.raises(KeyMismatchError, match=r"no layout of fastvit .* look like mobilenet"):
        create_model("fastvit_t8", weights=path)


@pytest.mark.parametrize(
    ("typed", "first"),
    [
        ("mobilenet_v2", "mobilenetv2_100"),
        ("MobileNetV2", "mobilenetv2_100"),
        ("mobilenet_v3_large", "mobilenetv3_large_100"),
        ("shufflenetv2_x1.0", "shufflenet_v2_x1_0"),
        ("FastViT-T8", "fastvit_t8"),
        ("mobilone_s0", "mobileone_s0"),
        ("mobilenet_v1_025", "mobilenetv1_025"),
    ],
)
def test_a_name_is_answered_with_the_names_of_its_own_family(typed, first):
    assert nearest_names(typed, list_models())[0] == first
    with pytest.raises(UnknownNameError, match=f"did you mean '{first}'"):
        create_model(typed)


def test_other_libraries_names_are_said():
    with pytest.raises(UnknownNameError, match="timm:resnet50 and torchvision:resnet50"):
        create_model("resnet50")
