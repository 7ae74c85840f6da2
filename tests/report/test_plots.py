"""Plots are drawn from the record alone, and the same record gives the same picture."""

from __future__ import annotations

import pytest
from PIL import Image

from fleetfoot.report import plots
from records import joined, joined_record


def test_two_pictures_are_written_and_they_are_not_blank(tmp_path):
    files = plots.save(joined_record(), tmp_path)
    assert [f.name for f in files] == ["latency-against-macs.png", "top1-against-latency.png"]
    for file in files:
        image = Image.open(file)
        assert image.size == (1440, 960)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100


def test_each_setting_has_pictures_of_its_own(tmp_path):
    files = plots.save([*joined_record(), *joined_record(batch=32, threads=2)], tmp_path)
    assert sorted(f.name for f in files)[:2] == [
        "latency-against-macs-t1-b1-cpu-float32.png",
        "latency-against-macs-t2-b32-cpu-float32.png",
    ]


def test_the_same_record_gives_the_same_bytes(tmp_path):
    one = [f.read_bytes() for f in plots.save(joined_record(), tmp_path)]
    assert one == [f.read_bytes() for f in plots.save(joined_record(), tmp_path)]


@pytest.mark.parametrize("top1", [None, 71.9])
def test_one_cell_is_enough_and_no_top1_means_no_picture_of_it(tmp_path, top1):
    files = plots.save([joined(top1=top1)], tmp_path)
    assert len(files) == (1 if top1 is None else 2)


def test_every_network_is_named_and_no_name_overlaps_another():
    from fleetfoot.report.kit.style import Look

    rows = joined_record()
    figure = plots.latency_against_macs(rows, Look.of(rows), "x")
    figure.draw_without_rendering()
    names = {m.model.split(":")[-1] for m in rows}
    texts = [t for t in figure.axes[0].texts if t.get_text() in names]
    assert {t.get_text() for t in texts} == names
    boxes = [t.get_window_extent() for t in texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_network_of_the_front_is_named_in_a_crowd():
    from fleetfoot.report.kit.style import Look

    front = [
        joined([(5 + i) / 1e3] * 9, model=f"front_network_{i}", top1=70.0 + i) for i in range(5)
    ]
    crowd = [
        joined([(5.1 + 0.05 * i) / 1e3] * 9, model=f"crowd_{i}", top1=69.0 + 0.01 * i)
        for i in range(90)
    ]
    rows = [*front, *crowd]
    figure = plots.top1_against_latency(rows, Look.of(rows), "x")
    assert {m.model for m in front} <= {text.get_text() for text in figure.axes[0].texts}


def test_pyplot_is_not_touched():
    # a program that plots for itself keeps its backend and its figures
    import subprocess
    import sys

    code = (
        "import sys; sys.path.insert(0, 'tests'); import tempfile, pathlib\n"
        "from records import joined; from fleetfoot.report import plots\n"
        "plots.save([joined()], pathlib.Path(tempfile.mkdtemp()))\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
