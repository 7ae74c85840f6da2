"""Runs of detection, with inputs of several sizes and mosaics, that are killed by SIGKILL and go on
end as a run that nobody disturbed, bit for bit."""

from __future__ import annotations

import pytest

from tools.kills import Kill, differences, run

pytestmark = pytest.mark.slow


def killed(folder, *kills: tuple[Kill, int]) -> None:
    """Runs that are killed one after another, each with its number of workers; then one to the
    end."""
    for kill, workers in kills:
        settings = {"run": {"workers": workers}}
        assert run(folder, kill, settings=settings, case="detect"), f"{kill} came too late"
    assert not run(folder, case="detect")


def test_killed_runs_of_detection_end_bit_equal(tmp_path):
    assert not run(tmp_path / "undisturbed", case="detect")
    killed(
        tmp_path / "a",
        (Kill("update", 2.5), 2),  # between two accumulated parts, with another size than before
        (Kill("half", 1), 0),
        (Kill("evaluate", 0), 1),
        (Kill("row", 0), 2),
    )
    assert differences(tmp_path / "undisturbed", tmp_path / "a") == []
    # and the comparison sees a change
    assert not run(tmp_path / "b", settings={"recipe": {"seed": 1}}, case="detect")
    assert "weights.head.towers.0.classes.bias" in differences(
        tmp_path / "undisturbed", tmp_path / "b"
    )
