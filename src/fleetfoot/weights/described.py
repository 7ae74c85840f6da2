"""Descriptions of what a pickle holds, in place of the objects: names, storages, tensors, arrays;
and the names that ``pickles`` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch


class Name(NamedTuple):
    """A function or class that a pickle names. It is not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Thing:
    """An object that is not made: the name of its class, and what the pickle puts into it."""

    name: str
    entries: dict[Any, Any] = field(default_factory=dict)
    state: Any = None


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of values that the file holds elsewhere."""

    key: str
    dtype: torch.dtype | None
    """None: plain bytes; the tensor says what they are."""
    count: int


@dataclass(frozen=True, slots=True)
class View:
    """A tensor as its file describes it, before its values are read."""

    storage: Storage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unusable:
    """A tensor that no network takes: quantised, sparse or without values."""

    kind: str


@dataclass(eq=False, slots=True)
class Dtype:
    """A type of NumPy's: its code, and the order of its bytes."""

    code: str
    order: str = "="


@dataclass(eq=False, slots=True)
class Array:
    """An array of NumPy's; its value comes after it in the pickle."""

    value: np.ndarray[Any, Any] | None = None


STORAGES: Mapping[str, torch.dtype | None] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
    "UntypedStorage": None,
}
QUANTISED = ("QUInt8Storage", "QInt8Storage", "QInt32Storage", "QUInt4x2Storage", "QUInt2x4Storage")

DATA = frozenset(
    {
        "argparse.Namespace", "types.SimpleNamespace", "uuid.UUID", "decimal.Decimal",
        "fractions.Fraction", "collections.deque", "re._compile", "random.Random",
        "array._array_reconstructor", "pandas._libs.tslibs.timestamps._unpickle_timestamp",
        *(f"datetime.{n}" for n in ("date", "datetime", "time", "timedelta", "timezone", "tzinfo")),
        *(
            f"pathlib{part}.{n}Path"
            for part in ("", "._local")
            for n in ("", "Posix", "Windows", "Pure", "PurePosix", "PureWindows")
        ),
        *(f"builtins.{n}" for n in ("set", "frozenset", "bytearray", "complex", "range", "xrange",
                                    "slice", "long", "unicode",
                                    "list", "tuple", "dict", "str", "int", "float", "bool",
                                    "bytes", "object")),
        "torch.device", "torch.torch.device", "torch._C.Generator",
        "torch.serialization._get_layout",
        "torchvision.transforms.functional.InterpolationMode",
        *(
            f"numpy.random.{n}"
            for n in ("_pickle.__randomstate_ctor", "_pickle.__generator_ctor",
                      "_pickle.__bit_generator_ctor", "__RandomState_ctor",
                      "bit_generator.__pyx_unpickle_SeedSequence")
        ),
        "numpy.scalar",
    }
)  # fmt: skip
"""Calls that make plain data. None is made here; the entry is skipped."""

UNUSABLE = {
    "_rebuild_sparse_tensor": "a sparse tensor",
    "_rebuild_sparse_csr_tensor": "a sparse tensor",
    "_rebuild_qtensor": "a quantised tensor",
    "_rebuild_meta_tensor_no_storage": "a tensor without values",
    "_rebuild_nested_tensor": "a nested tensor",
    "_rebuild_wrapper_subclass": "a tensor of a special class",
    "_rebuild_device_tensor_from_numpy": "a tensor of another device",
    "_rebuild_device_tensor_from_cpu_tensor": "a tensor of another device",
}


def array_of(value: Any) -> np.ndarray[Any, Any] | None:
    """NumPy's array of numbers that a pickle held; None if ``value`` is something else."""
    if not isinstance(value, Array) or value.value is None:
        return None
    kind = value.value.dtype
    return value.value if kind.kind in "fiub" and kind.itemsize <= 8 else None
