"""The C program is built against what was installed, and says what Python says."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from fleetfoot import runtime
from fleetfoot.runtime import Plan
from plans import classifier

SOURCE = Path(__file__).resolve().parents[1] / "examples" / "classify.c"
HEIGHT, WIDTH = 6, 4
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler"),
    pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing())),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    library = runtime.library_path()
    built = tmp_path_factory.mktemp("classify") / "classify"
    include = next(
        folder
        for folder in (library.parent.parent / "include", SOURCE.parents[1] / "native" / "include")
        if (folder / "fleetfoot.h").exists()
    )
    subprocess.run(
        ["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", f"-I{include}", SOURCE,
         "-o", built, library, f"-Wl,-rpath,{library.parent}", "-lm"],
        check=True,
    )  # fmt: skip
    return built


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Path:
    weight = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    file = tmp_path_factory.mktemp("plan") / "by_hand.plan"
    file.write_bytes(classifier(weight, height=HEIGHT, width=WIDTH))
    return file


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)


def best_five(plan: Path, picture: np.ndarray) -> list[tuple[int, float]]:
    with Plan.load(plan) as loaded, loaded.context() as context:
        scores = context.run(np.ascontiguousarray(picture[None], np.float32))[0].astype(np.float64)
    probabilities = np.exp(scores - scores.max())
    probabilities /= probabilities.sum()
    return [(int(i), float(probabilities[i])) for i in np.argsort(-probabilities)[:5]]


def said(text: str) -> list[tuple[int, float]]:
    return [(int(a), float(b)) for a, b in (line.split() for line in text.splitlines())]


@pytest.mark.parametrize("threads", [(), (2,)])
@pytest.mark.parametrize("head", [b"P6 4 6 255\n", b"P6\n# made by hand\n4 6\n# 8 bits\n255\n"])
def test_a_ppm_is_named_as_python_names_it(program, plan, tmp_path, head, threads):
    pixels = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    file = tmp_path / "picture.ppm"
    file.write_bytes(head + pixels.tobytes())
    picture = ((pixels / 255.0 - MEAN) / DEVIATION).transpose(2, 0, 1)

    done = run(program, plan, file, *threads)

    assert (done.returncode, done.stderr) == (0, "")
    found, truth = said(done.stdout), best_five(plan, picture)
    assert [i for i, _ in found] == [i for i, _ in truth]
    # six digits are printed, and float32 normalises with an error of 1e-7
    np.testing.assert_allclose([p for _, p in found], [p for _, p in truth], atol=2e-6)


def test_raw_floats_are_taken_as_they_are(program, plan, tmp_path):
    picture = np.random.default_rng(2).standard_normal((3, HEIGHT, WIDTH)).astype(np.float32)
    file = tmp_path / "picture.raw"
    file.write_bytes(picture.tobytes())

    found, truth = said(run(program, plan, file).stdout), best_five(plan, picture)

    assert [i for i, _ in found] == [i for i, _ in truth]


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.ppm", b"P6 8 8 255\n" + bytes(192), "is 8 x 8 pixels, and the plan takes 4 x 6"),
        ("a.ppm", b"P6 4 6 255\n" + bytes(71), "is cut short"),
        ("a.ppm", b"P6 4 6 65535\n" + bytes(144), "other than 8 bits"),
        ("a.ppm", b"P3 4 6 255\n0 0 0", "no binary PPM"),
        ("a.ppm", b"", "no binary PPM"),
        ("a.ppm", b"P6 4 # 6", "no binary PPM"),
        ("a.raw", bytes(10), "does not hold the 72 floats"),
        ("a.raw", bytes(4 * 73), "does not hold the 72 floats"),
        ("a.raw", None, "cannot be opened"),
    ],
)
def test_a_picture_that_does_not_fit_is_refused(program, plan, tmp_path, name, data, reason):
    if data is not None:
        (tmp_path / name).write_bytes(data)

    done = run(program, plan, tmp_path / name)

    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr


def test_a_plan_that_cannot_be_used_is_refused(program, plan, tmp_path):
    damaged = tmp_path / "damaged.plan"
    damaged.write_bytes(plan.read_bytes()[:-4])

    done = run(program, damaged, tmp_path / "a.ppm")

    assert done.returncode == 1
    assert str(damaged) in done.stderr
