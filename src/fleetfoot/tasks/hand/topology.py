"""The topology of a hand's mesh, as a file of the user's: which vertices there are, the faces
between them, and how the joints follow from the vertices.

A file is safetensors, ``.npz`` or ``.json`` with these entries:

| entry | shape | is |
|---|---|---|
| ``vertices`` | (V, 3) | a template, for example the flat hand, in metres |
| ``faces`` | (F, 3) | vertex numbers of each triangle, from 0 |
| ``joint_regressor`` | (21, V) | weights of the vertices whose mean each joint is |
| ``upsampling.0``, ``.1``, ``.2`` | (84, 21), (336, 84), (V, 336) | optional: see below |

The network refines 21 tokens, one a joint, to 84, to 336, to the vertices; ``upsampling`` gives the
weights of the tokens of a stage whose mean each token of the next begins as. It may have other
sizes in the middle, and is a list of matrices in JSON. If it is left away, it is derived from the
distances in the template.

V vertices · F faces · N tokens of a stage
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fleetfoot.errors import RecordError, TopologyError, WeightsError, counted, visible
from fleetfoot.files import read_object, read_text
from fleetfoot.weights import files

JOINTS = 21
"""Joints of a hand: the wrist, then four of each finger from the thumb to the little finger, from
the palm to the tip."""
TOKENS = (84, 336)
"""Tokens of the network's later stages, if the file says nothing."""
NEIGHBOURS = 3
"""Tokens of one stage from which a derived upsampling makes a token of the next."""
SPAN = (0.02, 1.0)
"""Smallest and largest extent of a template, in metres: outside, its unit is another."""
ENTRIES = ("vertices", "faces", "joint_regressor", "upsampling")
SHOWN = 5
"""Number of vertices or faces that a message lists."""
MOST_TEXT_BYTES = 256 << 20
"""Limit for a JSON file, in bytes."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Topology:
    """The mesh that a network predicts."""

    vertices: Numbers
    """Template, in metres, (V, 3)."""
    faces: NDArray[np.int64]
    """Vertex numbers of each triangle, counter-clockwise from outside, (F, 3)."""
    regressor: Numbers
    """Weights by which the joints are means of vertices, (21, V)."""
    upsampling: tuple[Numbers, ...]
    """Weights by which each stage's tokens begin as means of those of the stage before, each
    (N', N); the first N is 21, the last N' is V."""

    def __post_init__(self) -> None:
        if faults := self.faults():
            raise TopologyError(f"this topology cannot be used: {'; '.join(faults)}")

    @classmethod
    def of_sizes(cls, *, vertices: int, faces: int, tokens: Sequence[int]) -> Topology:
        """A mesh of these sizes and no meaning: for a network whose weights, which hold the mesh,
        are loaded next.

        Raises:
            TopologyError: there is no mesh of these sizes.
        """
        sizes = [*tokens, vertices]
        if sizes[0] != JOINTS or min(sizes) < JOINTS or 3 * faces < vertices:
            raise TopologyError(
                f"a mesh of {vertices} vertices, {faces} faces and stages of {list(tokens)} tokens "
                f"cannot be: there must be {JOINTS} tokens first, and each vertex in a face"
            )
        corners = np.arange(3 * faces).reshape(faces, 3) % vertices
        return cls(
            vertices=np.linspace(0, 0.1, 3 * vertices).reshape(vertices, 3),
            faces=corners,
            regressor=np.full((JOINTS, vertices), 1 / vertices),
            upsampling=tuple(np.full((b, a), 1 / a) for a, b in pairwise(sizes)),
        )

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of each stage of the network."""
        return tuple(matrix.shape[1] for matrix in self.upsampling)

    def joints(self, vertices: Numbers) -> Numbers:
        """Joints of a mesh. (..., V, 3) -> (..., 21, 3)"""
        return self.regressor @ vertices

    def faults(self) -> list[str]:
        """Everything that is wrong, in words that name the entry."""
        if wrong := self._misshapen():
            return wrong
        count = len(self.vertices)
        found = [
            f"{name} has numbers that are not finite"
            for name, array in self._arrays()
            if not np.isfinite(array).all()
        ]
        if found:
            return found
        extent = float(np.ptp(self.vertices, axis=0).max())
        if not SPAN[0] <= extent <= SPAN[1]:
            found.append(
                f"vertices extend over {extent:g}, and a hand over {SPAN[0]:g} to {SPAN[1]:g} "
                "metres; give them in metres"
            )
        low, high = int(self.faces.min()), int(self.faces.max())
        if low < 0 or high >= count:
            found.append(
                f"faces name vertices {low} to {high}, and there are {count}, numbered from 0 to "
                f"{count - 1}" + ("; subtract 1 from each" if low == 1 and high == count else "")
            )
        else:
            found += self._faults_of_faces(count)
        for name, matrix in self._weights():
            sums = matrix.sum(1)
            if len(wrong_rows := np.flatnonzero(np.abs(sums - 1) > 1e-3)):
                found.append(
                    f"{name} has {counted(len(wrong_rows), 'row')} whose sum is not 1, for example "
                    f"row {wrong_rows[0]} with {sums[wrong_rows[0]]:g}; divide each row by its sum"
                )
        return found

    def _faults_of_faces(self, count: int) -> list[str]:
        found = []
        a, b, c = self.faces.T
        if len(twice := np.flatnonzero((a == b) | (b == c) | (a == c))):
            found.append(
                f"{counted(len(twice), 'face')} with a vertex twice: {_some(twice)}; remove them"
            )
        if len(alone := np.setdiff1d(np.arange(count), self.faces)):
            found.append(
                f"{counted(len(alone), 'vertex', 'vertices')} in no face: {_some(alone)}; remove "
                "them and their columns of joint_regressor, or add faces"
            )
        return found

    def _misshapen(self) -> list[str]:
        found = []
        vertices, faces, regressor = self.vertices, self.faces, self.regressor
        if vertices.ndim != 2 or vertices.shape[-1] != 3 or len(vertices) < JOINTS:
            return [f"vertices must be (V, 3) with V at least {JOINTS}, not {vertices.shape}"]
        count = len(vertices)
        if faces.ndim != 2 or faces.shape[-1] != 3 or not len(faces):
            found.append(f"faces must be (F, 3), three vertices a triangle, not {faces.shape}")
        if regressor.shape != (JOINTS, count):
            found.append(
                f"joint_regressor must be (21, V) = (21, {count}), not {regressor.shape}"
                + ("; transpose it" if regressor.shape == (count, JOINTS) else "")
            )
        before = JOINTS
        for number, matrix in enumerate(self.upsampling):
            last = number == len(self.upsampling) - 1
            rows = count if last else None
            if matrix.ndim != 2 or matrix.shape[1] != before or (last and len(matrix) != rows):
                wanted = f"({rows or 'N'}, {before})"
                found.append(f"upsampling.{number} must be {wanted}, not {matrix.shape}")
                break
            before = len(matrix)
        if not self.upsampling and not found:
            found.append("upsampling must have a matrix at least")
        return found

    def _weights(self) -> list[tuple[str, Numbers]]:
        steps = [(f"upsampling.{number}", each) for number, each in enumerate(self.upsampling)]
        return [("joint_regressor", self.regressor), *steps]

    def _arrays(self) -> list[tuple[str, Numbers]]:
        return [("vertices", self.vertices), *self._weights()]


def read_topology(path: str | os.PathLike[str]) -> Topology:
    """The topology in a file.

    Raises:
        TopologyError: the file cannot be read, or something in it is wrong; everything that is
            wrong is named.
    """
    path = Path(path)
    shown = visible(path)
    raw = _of_json(path) if path.suffix.lower() == ".json" else _of_tensors(path)
    steps = raw.pop("upsampling", None)
    if lacking := [name for name in ENTRIES[:3] if name not in raw]:
        raise TopologyError(
            f"{shown}: lacks {', '.join(lacking)}; a topology has the entries "
            f"{', '.join(ENTRIES[:3])} and optionally upsampling"
        )
    if unknown := sorted(raw.keys() - set(ENTRIES)):
        raise TopologyError(
            f"{shown}: unknown entries {', '.join(map(visible, unknown))}; a topology has "
            f"{', '.join(ENTRIES)}"
        )
    try:
        faces = np.asarray(raw["faces"])
        whole = faces.astype(np.int64)
        if faces.size and (whole != faces).any():
            raise TopologyError("faces holds numbers that are not whole")
        vertices = np.asarray(raw["vertices"], np.float64)
        regressor = np.asarray(raw["joint_regressor"], np.float64)
        given = tuple(np.asarray(step, np.float64) for step in steps or ())
        if not given and vertices.ndim == 2 and regressor.shape == (JOINTS, len(vertices)):
            given = upsampling(vertices, regressor)
        return Topology(vertices=vertices, faces=whole, regressor=regressor, upsampling=given)
    except TopologyError as error:
        raise TopologyError(f"{shown}: {error}") from error
    except (ValueError, TypeError) as error:
        raise TopologyError(f"{shown}: rows of one entry differ in length or kind") from error


def write_topology(path: str | os.PathLike[str], topology: Topology) -> None:
    """Saves a topology as safetensors, in a new file.

    Raises:
        WeightsError: ``path`` exists, or its folder cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {
        "vertices": topology.vertices,
        "faces": topology.faces,
        "joint_regressor": topology.regressor,
    }
    arrays |= {f"upsampling.{n}": matrix for n, matrix in enumerate(topology.upsampling)}
    files.write(path, {name: torch.from_numpy(array) for name, array in arrays.items()})


def _of_tensors(path: Path) -> dict[str, Any]:
    try:
        state = {key: tensor.numpy() for key, tensor in files.read(path).state.items()}
    except WeightsError as error:
        raise TopologyError(str(error)) from error
    steps = sorted(key for key in state if key.startswith("upsampling."))
    wanted = [f"upsampling.{number}" for number in range(len(steps))]
    if steps != wanted:
        raise TopologyError(f"{visible(path)}: {', '.join(steps)} are not {', '.join(wanted)}")
    raw: dict[str, Any] = {key: array for key, array in state.items() if key not in steps}
    return raw | ({"upsampling": [state[key] for key in steps]} if steps else {})


def _of_json(path: Path) -> dict[str, Any]:
    try:
        return read_object(read_text(path, most=MOST_TEXT_BYTES))
    except (OSError, UnicodeDecodeError, RecordError) as error:
        raise TopologyError(f"{visible(path)}: cannot be read as JSON: {error}") from error


def _some(numbers: Sequence[Any] | NDArray[Any]) -> str:
    more = f" and {len(numbers) - SHOWN} more" if len(numbers) > SHOWN else ""
    return ", ".join(map(str, numbers[:SHOWN])) + more


def upsampling(
    vertices: Numbers, regressor: Numbers, tokens: Sequence[int] = TOKENS
) -> tuple[Numbers, ...]:
    """Weights from joints to tokens, to more tokens, to vertices, by distance in the template.

    Tokens lie at vertices that are spread over the mesh, the tokens of one stage among those of the
    next. Each of them is a mean of the nearest three of the stage before, weighted by the inverse
    square of the distance. (V, 3), (21, V) -> matrices (N', N)
    """
    spread = vertices[_spread(vertices, min(max(tokens), len(vertices)))]
    places = [regressor @ vertices, *(spread[: min(n, len(spread))] for n in tokens), vertices]
    return tuple(_interpolation(a, b) for a, b in pairwise(places))


def _spread(points: Numbers, count: int) -> NDArray[np.int64]:
    """Numbers of ``count`` of the points: each is the farthest from those before it."""
    chosen = [int(np.linalg.norm(points - points.mean(0), axis=1).argmax())]
    nearest = np.linalg.norm(points - points[chosen[0]], axis=1)
    for _ in range(count - 1):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)


def _interpolation(coarse: Numbers, fine: Numbers) -> Numbers:
    """Weights of coarse points whose mean each fine point is nearly. (N, 3), (N', 3) -> (N', N)"""
    distances = np.linalg.norm(fine[:, None] - coarse[None], axis=2)
    near = np.argsort(distances, axis=1, kind="stable")[:, :NEIGHBOURS]
    weights = 1 / np.maximum(np.take_along_axis(distances, near, 1), 1e-6) ** 2
    found = np.zeros_like(distances)
    np.put_along_axis(found, near, weights / weights.sum(1, keepdims=True), 1)
    return found
