"""Files of weights: every format is read, and no broken or hostile one does anything but fail."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import pickle
import struct
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from fleetfoot.errors import CorruptFileError, UnsafeFileError, WeightsError
from fleetfoot.weights import files
from fleetfoot.weights.files import read, write

STATE = {
    "conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2),
    "norm.running_var": torch.tensor([0.5, 1.5]),
    "norm.num_batches_tracked": torch.tensor(7),
}


def save_safetensors(path, state=STATE):
    safetensors.torch.save_file(state, path)


def save_torch(path, state=STATE):
    torch.save(state, path)


def save_old_torch(path, state=STATE):
    torch.save(state, path, _use_new_zipfile_serialization=False)


def save_npz(path, state=STATE):
    with open(path, "wb") as file:  # np.savez would add .npz to the name
        np.savez(file, **{key: tensor.numpy() for key, tensor in state.items()})


def save_npz_packed(path, state=STATE):
    with open(path, "wb") as file:
        np.savez_compressed(file, **{key: tensor.numpy() for key, tensor in state.items()})


def save_hdf5(path, state=STATE):
    with h5py.File(path, "w") as file:
        for key, tensor in state.items():
            file[key] = tensor.numpy()


SAVERS = {
    "safetensors": save_safetensors,
    "torch": save_torch,
    "torch (before 1.6)": save_old_torch,
    "npz": save_npz,
    "npz, packed": save_npz_packed,
    "hdf5": save_hdf5,
}
every_format = pytest.mark.parametrize("kind", SAVERS)


@every_format
def test_every_format_gives_back_what_was_saved_whatever_the_name(kind, tmp_path):
    path = tmp_path / "weights.pth.tar"
    SAVERS[kind](path)
    file = read(path)
    assert file.format == kind.partition(",")[0]
    assert file.state.keys() == STATE.keys()
    for key, tensor in STATE.items():
        torch.testing.assert_close(file.state[key], tensor, rtol=0, atol=0)
    assert file.params == 26  # 24 + 2; the counter is an integer


def test_a_safetensors_header_may_have_the_length_that_a_pickle_begins_with(tmp_path):
    path = tmp_path / "weights"
    for padding in range(256):
        safetensors.torch.save_file(STATE, path, metadata={"padding": "x" * padding})
        if path.read_bytes().startswith(b"\x80"):
            break
    assert read(path).format == "safetensors"
    assert path.read_bytes().startswith(b"\x80")


class Payload:
    """Unpickled freely, it would make a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def save_pickle(path, content):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [save_torch, save_old_torch, save_pickle])
def test_a_pickle_that_would_run_code_is_refused_and_nothing_ran(save, tmp_path):
    trap = tmp_path / "this code ran"
    path = tmp_path / "weights.pth"
    save(path, {"state_dict": STATE, "extra": Payload(trap)})
    with pytest.raises(UnsafeFileError, match=r"mkdir|_load_from_bytes"):
        read(path)
    assert not trap.exists()
    pickle.loads(pickle.dumps(Payload(trap)))
    assert trap.exists(), "the trap would have shown it"


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_plain_pickle_is_refused_and_nothing_ran(protocol, tmp_path):
    trap = tmp_path / "this code ran"
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps(Payload(trap), protocol=protocol))
    with pytest.raises(UnsafeFileError, match="plain pickle"):
        read(path)
    assert not trap.exists()


def test_an_npz_with_python_objects_is_refused_and_nothing_ran(tmp_path):
    trap = tmp_path / "this code ran"
    path = tmp_path / "weights.npz"
    np.savez(path, good=np.ones(3), bad=np.array([Payload(trap)], dtype=object))
    with pytest.raises(UnsafeFileError, match=r"bad.*objects"):
        read(path)
    assert not trap.exists()


def test_a_whole_pickled_network_is_refused_with_advice(tmp_path):
    path = tmp_path / "model.pth"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(UnsafeFileError, match=r"Linear.*state_dict"):
        read(path)


def test_a_torchscript_archive_is_refused(tmp_path):
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:  # the members that torch.jit.save writes
        archive.writestr("model/data.pkl", b"")
        archive.writestr("model/code/__torch__.py", b"")
    with pytest.raises(UnsafeFileError, match="TorchScript"):
        read(path)


def test_the_arguments_that_timm_saves_beside_the_weights_are_no_harm(tmp_path):
    path = tmp_path / "checkpoint.pth.tar"
    torch.save({"state_dict": STATE, "args": argparse.Namespace(lr=0.1), "epoch": 3}, path)
    file = read(path)
    assert file.state.keys() == STATE.keys()
    assert file.beside == ("args", "epoch")


@pytest.mark.parametrize(
    ("content", "wrappers"),
    [
        ({"state_dict": STATE}, ("['state_dict']",)),
        ({"model": STATE}, ("['model']",)),
        ({"model": {"state_dict": STATE}}, ("['model']", "['state_dict']")),
        ({f"module.{k}": v for k, v in STATE.items()}, ("module.",)),
        ({f"_orig_mod.module.{k}": v for k, v in STATE.items()}, ("_orig_mod.", "module.")),
        (
            {f"module.{k}": v for k, v in STATE.items()} | {"n_averaged": torch.tensor(4)},
            ("module.",),
        ),
        ({"state_dict": {f"model.{k}": v for k, v in STATE.items()}}, ("['state_dict']", "model.")),
    ],
)
def test_wrappers_come_off_and_are_named(content, wrappers, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    file = read(path)
    assert file.wrappers == wrappers
    assert file.state.keys() == STATE.keys()


@pytest.mark.parametrize("averaged", ["state_dict_ema", "model_ema"])
def test_averaged_weights_are_taken_before_the_others_and_those_are_named(averaged, tmp_path):
    path = tmp_path / "weights.pth"
    other = {key: tensor + 1 for key, tensor in STATE.items()}
    torch.save({"state_dict": other, averaged: STATE}, path)
    file = read(path)
    torch.testing.assert_close(file.state["conv.weight"], STATE["conv.weight"])
    assert file.beside == ("state_dict",)


def test_a_prefix_that_only_some_keys_have_is_theirs(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, path)
    assert read(path).state.keys() == {"module.a", "b"}


def test_a_checkpoint_that_holds_itself_ends_in_an_error(tmp_path):
    content: dict = {}
    content["state_dict"] = content
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(CorruptFileError, match="no tensors by name"):
        read(path)


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), {}, {"epoch": 3}, {1: 2}])
def test_a_torch_file_without_tensors_by_name_is_no_weights(content, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(CorruptFileError, match="tensors by name"):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"GIF89a" + bytes(50), "no known format"),
        (pickle.dumps(1, protocol=2), "not a sound PyTorch file"),
        (b"PK\x03\x04 and then nothing", "truncated or damaged"),
        (struct.pack("<Q", 1 << 62) + b"{}", "not a sound safetensors"),
        (struct.pack("<Q", 2) + b"{}", "no tensors by name"),
        (b"\x89HDF\r\n\x1a\n" + bytes(100), "not a sound HDF5"),
    ],
)
def test_what_is_no_weights_is_said_in_one_error(content, message, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_a_folder_and_a_device_are_said(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        read(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="a folder"):
        read(tmp_path)
    with pytest.raises(WeightsError, match="a device"):
        read("/dev/zero")


def test_a_safetensors_header_that_overlaps_or_overruns_is_refused(tmp_path):
    for offsets in ([0, 4096], [8, 4], [-4, 4]):
        header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": offsets}}).encode()
        path = tmp_path / "weights.safetensors"
        path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
        with pytest.raises(CorruptFileError):
            read(path)


def test_an_npz_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "FREE_BYTES", 1 << 16)
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, zeros=np.zeros(1 << 20))
    with pytest.raises(CorruptFileError, match="bomb"):
        read(path)


def test_an_hdf5_that_unpacks_to_far_more_than_its_size_is_refused(tmp_path):
    path = tmp_path / "bomb.h5"
    with h5py.File(path, "w") as file:  # 8 TB of zeros that were never written
        file.create_dataset("zeros", (1 << 40,), "f8", chunks=True, compression="gzip")
    with pytest.raises(CorruptFileError, match="bomb"):
        read(path)


def test_an_npy_header_that_claims_more_than_its_member_holds_is_refused(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)}
    )
    path = tmp_path / "weights.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", header.getvalue() + bytes(16))
    with pytest.raises(CorruptFileError, match="more than the file holds"):
        read(path)


def test_a_torch_tensor_that_claims_more_than_is_stored_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": torch.ones(1).expand(1 << 40)}, path)
    with pytest.raises(CorruptFileError, match="more than the file holds"):
        read(path)


def test_a_compressed_torch_file_is_refused(tmp_path):
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    save_torch(plain)
    with (
        zipfile.ZipFile(plain) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for member in source.namelist():
            target.writestr(member, source.read(member))
    with pytest.raises(CorruptFileError, match="compressed"):
        read(packed)


def test_an_hdf5_that_would_read_another_file_is_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(16))
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (4,), dtype="f4", external=[(str(secret), 0, 16)])
    with pytest.raises(UnsafeFileError, match="another file"):
        read(path)


def test_an_hdf5_name_that_is_no_text_is_read_with_marks(tmp_path):
    path = tmp_path / "weights.h5"
    with h5py.File(path, "w") as file:
        file[b"conv\xff"] = np.ones(2, "f4")
    assert list(read(path).state) == ["conv\ufffd"]


def test_the_weights_of_a_whole_keras_model_are_found_in_their_group(tmp_path):
    path = tmp_path / "model.h5"
    with h5py.File(path, "w") as file:
        file["model_weights/conv1/conv1/kernel:0"] = np.ones((3, 3, 3, 8), "f4")
        file["optimizer_weights/iterations:0"] = np.array(5)
    file = read(path)
    assert list(file.state) == ["conv1/conv1/kernel:0"]
    assert file.wrappers == ("['model_weights']",)
    assert file.beside == ("optimizer_weights/iterations:0",)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"good": torch.ones(3), "bad": torch.tensor([1.0, value])}, path)
    with pytest.raises(CorruptFileError, match=r"infinity in 1 tensors: bad"):
        read(path)


@pytest.mark.parametrize(
    "tensor", [torch.eye(2).to_sparse(), torch.ones(2, dtype=torch.complex64)], ids=str
)
def test_tensors_that_no_network_takes_are_refused(tensor, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"a": tensor}, path)
    with pytest.raises(CorruptFileError):
        read(path)


@every_format
def test_a_truncated_file_is_an_error_of_ours(kind, tmp_path):
    path = tmp_path / "weights"
    SAVERS[kind](path)
    whole = path.read_bytes()
    for length in {*range(0, len(whole), max(1, len(whole) // 40)), len(whole) - 1}:
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            read(path)


@every_format
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_file_with_flipped_bits_is_read_or_an_error_of_ours(kind, tmp_path, data):
    path = tmp_path / "weights"
    SAVERS[kind](path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with contextlib.suppress(WeightsError):  # a flipped weight may also go unseen
        read(path)


def test_writing_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "weights.safetensors"
    write(path, STATE, {"a": "b"})
    file = read(path)
    assert file.metadata == {"a": "b"}
    assert file.state.keys() == STATE.keys()
    with pytest.raises(WeightsError, match="--force"):
        write(path, {})
    write(path, {"other": torch.ones(1)}, overwrite=True)
    assert read(path).state.keys() == {"other"}
    with pytest.raises(WeightsError, match="cannot be written"):
        write(path / "weights.safetensors", STATE)  # a file where a folder should be
    assert os.listdir(tmp_path) == [path.name]
