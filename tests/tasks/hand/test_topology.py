"""A mesh's topology as a file: what is read, what is derived, and every fault by its name."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from fleetfoot.errors import TopologyError
from fleetfoot.tasks.hand.topology import Topology, read_topology, upsampling, write_topology


def entries() -> dict[str, np.ndarray]:
    """A ring of 30 vertices and one in its middle, in metres."""
    turn = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    ring = 0.08 * np.stack((np.cos(turn), np.sin(turn), 0 * turn), 1)
    around = np.arange(30)
    regressor = np.zeros((21, 31))
    regressor[np.arange(21), np.arange(21)] = 1
    return {
        "vertices": np.concatenate((ring, np.zeros((1, 3)))),
        "faces": np.stack((np.full(30, 30), around, (around + 1) % 30), 1),
        "joint_regressor": regressor,
    }


def written(folder, raw) -> str:
    path = str(folder / "mesh.safetensors")
    save_file({name: np.ascontiguousarray(array) for name, array in raw.items()}, path)
    return path


def test_all_three_formats_give_the_same_mesh(tmp_path):
    raw = entries()
    np.savez(tmp_path / "mesh.npz", **raw)
    text = json.dumps({name: array.tolist() for name, array in raw.items()})
    (tmp_path / "mesh.json").write_text(text)
    paths = [written(tmp_path, raw), tmp_path / "mesh.npz", tmp_path / "mesh.json"]
    for mesh in map(read_topology, paths):
        assert np.array_equal(mesh.vertices, raw["vertices"])
        assert np.array_equal(mesh.faces, raw["faces"])
        assert np.array_equal(mesh.joints(mesh.vertices), raw["vertices"][:21])
        assert mesh.tokens == (21, 31, 31)  # there are no 84 vertices


def test_a_mesh_is_saved_and_read_back(tmp_path):
    steps = (np.full((40, 21), 1 / 21), np.full((31, 40), 1 / 40))
    raw = entries()
    mesh = Topology(
        vertices=raw["vertices"],
        faces=raw["faces"],
        regressor=raw["joint_regressor"],
        upsampling=steps,
    )
    write_topology(tmp_path / "mesh.safetensors", mesh)
    again = read_topology(tmp_path / "mesh.safetensors")
    assert again.tokens == (21, 40)
    for name in ("vertices", "faces", "regressor"):
        assert np.array_equal(getattr(again, name), getattr(mesh, name))
    assert all(map(np.array_equal, again.upsampling, steps))


def test_upsampling_is_written_as_a_list_in_json(tmp_path):
    raw = {name: array.tolist() for name, array in entries().items()}
    raw["upsampling"] = [np.full((31, 21), 1 / 21).tolist()]
    (tmp_path / "mesh.json").write_text(json.dumps(raw))
    assert read_topology(tmp_path / "mesh.json").tokens == (21,)


def test_derived_upsampling_averages_near_tokens():
    rng = np.random.default_rng(0)
    vertices, regressor = rng.uniform(0, 0.1, (500, 3)), np.full((21, 500), 0.0)
    regressor[np.arange(21), np.arange(21)] = 1
    first, second, third = upsampling(vertices, regressor)
    assert (first.shape, second.shape, third.shape) == ((84, 21), (336, 84), (500, 336))
    for matrix in (first, second, third):
        assert np.allclose(matrix.sum(1), 1)
        assert ((matrix > 0).sum(1) <= 3).all()
    # tokens of one stage are tokens of the next, and vertices: a mean of itself alone
    assert np.isclose(second[:84].max(1), 1).all()
    places = third @ (tokens := vertices[third.argmax(0)])
    assert np.isclose(np.linalg.norm(places - vertices, axis=1).min(), 0, atol=1e-6)
    # a mean of the nearest tokens is nearer than the mean of all
    spread = np.linalg.norm(vertices - tokens.mean(0), axis=1).mean()
    assert np.linalg.norm(places - vertices, axis=1).mean() < 0.3 * spread


def changed(name, change):
    def change_entry(raw):
        raw[name] = change(raw[name])

    return change_entry


def at(place, value):
    def put(array):
        array[place] = value
        return array

    return put


def removed(name):
    return lambda raw: raw.pop(name)


FAULTS = {
    "lacks faces": removed("faces"),
    "unknown entries 'weights'|unknown entries weights": lambda raw: raw.update(weights=np.ones(3)),
    r"vertices must be \(V, 3\).*not \(31, 2\)": changed("vertices", lambda a: a[:, :2]),
    r"vertices must be .* at least 21, not \(5, 3\)": changed("vertices", lambda a: a[:5]),
    r"extend over 160, .*give them in metres": changed("vertices", lambda a: 1000 * a),
    r"faces must be \(F, 3\).*not \(30, 4\)": changed("faces", lambda a: a[:, [0, 1, 2, 2]]),
    "faces name vertices 0 to 31, and there are 31": changed("faces", at((4, 0), 31)),
    "from 0 to 30; subtract 1 from each": changed("faces", lambda a: a + 1),
    "faces name vertices -1 to 30": changed("faces", at((0, 1), -1)),
    "1 face with a vertex twice: 7": changed("faces", at((7, 1), 30)),
    "1 vertex in no face: 3": changed("faces", lambda a: a[(a != 3).all(1)]),
    r"joint_regressor must be \(21, V\) = \(21, 31\), not \(31, 21\); transpose it": changed(
        "joint_regressor", lambda a: a.T
    ),
    "joint_regressor has 21 rows whose sum is not 1, for example row 0 with 2": changed(
        "joint_regressor", lambda a: 2 * a
    ),
    "faces holds numbers that are not whole": changed("faces", lambda a: a + 0.5),
    r"upsampling.0 must be \(31, 21\), not \(84, 21\)": lambda raw: raw.update(
        {"upsampling.0": np.full((84, 21), 1 / 21)}
    ),
    r"upsampling.1 must be \(31, 84\), not \(31, 80\)": lambda raw: raw.update(
        {"upsampling.0": np.full((84, 21), 1 / 21), "upsampling.1": np.full((31, 80), 1 / 80)}
    ),
    "upsampling.1 are not upsampling.0": lambda raw: raw.update({"upsampling.1": np.ones((2, 2))}),
}  # fmt: skip


@pytest.mark.parametrize("message", FAULTS)
def test_a_fault_is_named_with_its_file(tmp_path, message):
    raw = entries()
    FAULTS[message](raw)
    with pytest.raises(TopologyError, match=f"mesh.safetensors: .*({message})"):
        read_topology(written(tmp_path, raw))


def test_all_faults_are_named_at_once(tmp_path):
    raw = entries()
    raw["vertices"] *= 1000
    raw["joint_regressor"] *= 0.5
    with pytest.raises(TopologyError, match=r"metres; joint_regressor has 21 rows"):
        read_topology(written(tmp_path, raw))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("mesh.json", "{", "cannot be read as JSON"),
        ("mesh.json", "[]", "expected a JSON object"),
        ("mesh.json", '{"vertices": [[0, 1], [2]], "faces": [], "joint_regressor": []}', "differ"),
        ("mesh.npz", "text", "no known format"),
    ],
)
def test_a_file_that_holds_no_mesh_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(TopologyError, match=f"{name}: .*{message}"):
        read_topology(tmp_path / name)


@pytest.mark.parametrize("name", ["absent.json", "absent.safetensors"])
def test_a_file_that_is_not_there_is_named(tmp_path, name):
    with pytest.raises(TopologyError, match=name):
        read_topology(tmp_path / name)


def test_numbers_that_are_not_finite_are_named():
    raw = entries()
    raw["vertices"][0, 0] = np.nan
    with pytest.raises(TopologyError, match="vertices has numbers that are not finite"):
        Topology(
            vertices=raw["vertices"],
            faces=raw["faces"],
            regressor=raw["joint_regressor"],
            upsampling=(np.full((31, 21), 1 / 21),),
        )


def test_a_mesh_of_sizes_only():
    mesh = Topology.of_sizes(vertices=50, faces=40, tokens=(21, 30))
    assert (mesh.vertices.shape, mesh.faces.shape, mesh.tokens) == ((50, 3), (40, 3), (21, 30))
    for sizes in ({"tokens": (20,)}, {"vertices": 20}, {"faces": 2}):
        with pytest.raises(TopologyError, match="cannot be"):
            Topology.of_sizes(**{"vertices": 50, "faces": 40, "tokens": (21,), **sizes})


def test_torch_files_are_read_too(tmp_path):
    torch.save({name: torch.from_numpy(a) for name, a in entries().items()}, tmp_path / "mesh.pth")
    assert len(read_topology(tmp_path / "mesh.pth").vertices) == 31
