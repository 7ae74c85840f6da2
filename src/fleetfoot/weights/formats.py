"""Files that are not read as weights, told by their first bytes, each with what to do instead."""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = "take the file of weights that it was made from: .safetensors, .pth, .npz or Keras's .h5"

_BEGINNINGS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x93NUMPY", "one NumPy array (.npy), without a name",
     "save all arrays of the network by name with numpy.savez"),
    (b"GGUF", "a GGUF file, made for llama.cpp", SOURCE),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first: gunzip, or tar -xzf for a .tar.gz"),
    (b"BZh", "compressed with bzip2", "unpack it first: bunzip2, or tar -xjf for a .tar.bz2"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it first: unxz, or tar -xJf for a .tar.xz"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first: unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (b"ftrt", "a TensorRT engine, made for one GPU", SOURCE),
    (b"RKNN", "an RKNN model, made for Rockchip's accelerators", SOURCE),
    (b"7767517\n", "a network of ncnn (.param), without its weights", SOURCE),
    (b"\x12\x01\x00\x00\x00\x00\x00\x00", "a file of MXNet (.params)",
     "save the arrays by name with numpy.savez"),
    (b"model_checkpoint_path:", "TensorFlow's note of its newest checkpoint, without weights",
     "save the variables by name with numpy.savez"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the weights",
     "run 'git lfs pull' where it came from"),
    (b"%PDF", "a PDF document", "fetch the file of weights"),
)  # fmt: skip

TENSORFLOW = "save the variables by name with numpy.savez, or the Keras model's weights as .h5"
WEB = "the download answered with an error or a login page; fetch it again"
BLANK = b"\xef\xbb\xbf \t\r\n"
"""Byte order mark and spaces before a text."""
INDEX_END = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"
"""Last bytes of the index of a TensorFlow checkpoint."""


def named(start: bytes, end: bytes) -> tuple[str, str] | None:
    """What a file is that starts and ends with these bytes, and what to do; None if unknown.

    >>> named(b"GGUF\\x03\\x00", b"")[0]
    'a GGUF file, made for llama.cpp'
    """
    for beginning, what, advice in _BEGINNINGS:
        if start.startswith(beginning):
            return what, advice
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model", SOURCE
    if re.match(rb"ET\d\d", start[4:8]):
        return "an ExecuTorch program (.pte)", SOURCE
    if start[257:262] == b"ustar":
        return _tar(start)
    if end.endswith(INDEX_END):
        return "the index of a TensorFlow checkpoint", TENSORFLOW
    return _markup(start.lstrip(BLANK).lower()) or _protobuf(start)


def _tar(start: bytes) -> tuple[str, str]:
    if start.split(b"\0")[0].strip(b"./") in (b"sys_info", b"pickle", b"storages", b"tensors"):
        return (
            "a PyTorch file of before 2017, a tar",
            "load it with a torch of its time and save its state_dict() again",
        )
    return "a tar archive", "unpack it first (tar -xf) and give the file of weights in it"


def _markup(text: bytes) -> tuple[str, str] | None:
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<!doctype", b"<body")):
        return "a web page, not weights", WEB
    if text.startswith((b"<?xml", b"<net ", b"<net>")):
        if re.match(rb"(<\?xml[^>]*>)?\s*(<!--.*?-->\s*)*<net[\s>]", text, re.DOTALL):
            return "an OpenVINO network (IR), whose weights are in the .bin beside it", SOURCE
        if b"<html" in text:
            return "a web page, not weights", WEB
        if b"<error" in text:
            return "an answer of a file server, not weights", WEB
        return "an XML document, not weights", SOURCE
    if text.startswith((b"{", b"[")):
        if b'"weight_map"' in text:
            return (
                "the index of weights in several files",
                "join them: load each .safetensors and save all tensors in one file",
            )
        return "a JSON document, not weights", "give the file of weights beside it"
    if re.match(rb"\(?[dlp]?p?\d*\n|\(dp|c(posix|os|__builtin__|builtins|torch|collections)", text):
        return (
            "a plain pickle of protocol 0, which could be any program",
            "save the network's state_dict() with torch.save or as safetensors",
        )
    return None


def _protobuf(start: bytes) -> tuple[str, str] | None:
    """ONNX, Core ML and TensorFlow write Protocol Buffers, which have no mark of their own: the
    first fields tell them apart."""
    if len(start) < 8:
        return None
    if start[0] == 0x08 and start[1] < 0x20:  # a version, and then another field
        if start[2] != 0x12:
            onnx = start[2] in (0x3A, 0x42, 0x1A, 0x22, 0x28, 0x32)
            return ("an ONNX network", SOURCE) if onnx else None
        inner = _inside(start, 2)
        text = start[inner : inner + 4]
        if all(32 <= byte < 127 for byte in text):  # the name of the program that wrote it
            return "an ONNX network", SOURCE
        if start[1] == 1 and text[:1] == b"\x0a" and start[_inside(start, inner)] == 0x12:
            return "a TensorFlow SavedModel's network", TENSORFLOW
        return "a Core ML model (.mlmodel)", SOURCE
    if start[0] == 0x0A and start[_inside(start, 0)] == 0x0A and start[1]:
        return "a TensorFlow network (.pb)", TENSORFLOW
    return None


def _inside(start: bytes, place: int) -> int:
    """Place of the content of the field at ``place``, after its tag and length."""
    place += 1
    while place < len(start) - 1 and start[place] & 0x80:
        place += 1
    return min(place + 1, len(start) - 1)


def of_name(name: str) -> tuple[str, str] | None:
    """What a file without a mark of its own is, by its name; None if unknown."""
    if re.search(r"\.data-\d{5}-of-\d{5}$", name):
        return "the values of a TensorFlow checkpoint, without their names", TENSORFLOW
    if name.endswith(".pdparams"):
        return "a file of PaddlePaddle", "save the arrays by name with numpy.savez"
    return None


def of_folder(path: Path) -> str:
    """What a folder is, and what to give instead."""
    if (path / "saved_model.pb").is_file():
        return f"a TensorFlow SavedModel, a folder; {TENSORFLOW}"
    if path.suffix == ".mlpackage":
        return f"a Core ML package, a folder; {SOURCE}"
    inside = sorted(
        one.name
        for one in path.iterdir()
        if one.suffix in (".safetensors", ".pth", ".pt", ".bin", ".npz", ".h5", ".tar", ".ckpt")
    )[:3]
    found = f"; it holds {', '.join(inside)}" if inside else ""
    return f"not a file but a folder; give the file of weights in it{found}"


def of_zip(names: list[str]) -> tuple[str, str] | None:
    """What a zip is that holds these members; None if unknown."""
    if any("/code/" in name for name in names):
        return (
            "a TorchScript archive, which holds a program",
            "save the network's state_dict() instead",
        )
    ends = {name.rpartition("/")[2] for name in names}
    if ends & {"archive_format", "serialized_exported_program.json", "serialized_state_dict.json"}:
        return (
            "a program of torch.export (.pt2)",
            "load it with torch.export.load and save its state_dict",
        )
    if any(name.startswith((".data/", "archive/.data/")) for name in names) and (
        "python_version" in ends or "extern_modules" in ends
    ):
        return "a package of torch.package, which holds a program", "save its state_dict() instead"
    if "Manifest.json" in ends and any(
        ".mlpackage" in name or ".mlmodel" in name for name in names
    ):
        return "a Core ML package", SOURCE
    inside = [
        name
        for name in names
        if name.endswith(
            (".safetensors", ".pth", ".pt", ".tar", ".bin", ".npz", ".h5", ".pdparams")
        )
    ]
    if inside:
        return "a zip with files of weights in it", f"unpack it and give one: {inside[0]}"
    return None
