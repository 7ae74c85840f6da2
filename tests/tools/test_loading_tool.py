"""The measurement beside timm's loader: what it counts, and what its table says."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fleetfoot.errors import RecordError
from fleetfoot.files import to_json
from tools.loading import (
    AUGMENTATIONS,
    LOADERS,
    OURS,
    Bench,
    Record,
    Turn,
    continued,
    main,
    measure,
    page,
    table,
    verdict,
)


def made(rates: dict[str, list[float]]) -> Record:
    turns = [
        Turn(
            round=number,
            augmentation="crop and flip",
            loader=loader,
            images_per_s=rate,
            cpu_s_per_image=1 / rate,
        )
        for loader, several in rates.items()
        for number, rate in enumerate(several)
    ]
    return Record(
        started="2026-11-28T04:00:00+00:00",
        pictures=2640,
        mean_bytes=10_000.0,
        mean_pixels=26_000.0,
        size=224,
        batch=64,
        workers=2,
        passed_over=6,
        timed=16,
        cpu="some processor",
        cores=2,
        versions={"timm": "1.0"},
        commits=("",),
        load_average=1.5,
        turns=tuple(turns),
    )


FASTER = {
    OURS: [150.0 + number for number in range(10)],
    "timm": [100.0 + number for number in range(10)],
    "timm, prefetcher": [150.0 + number for number in range(10)],
}


def test_the_table_says_what_the_rounds_say():
    rows = [[cell.strip() for cell in line.split("|")] for line in table(made(FASTER)).split("\n")]
    by_loader = {row[2]: row for row in rows[2:5]}
    assert by_loader[OURS][3] == "154"  # the median of 150 to 159, to three digits
    assert by_loader["timm"][3:6] == ["104", "1.48", "1.46 to 1.50"]
    assert by_loader["timm"][6:9] == ["9.57", "0.68", "0.67 to 0.68"]
    assert by_loader["timm"][9] == "faster"
    assert by_loader["timm, prefetcher"][4] == "1.00"
    assert by_loader["timm, prefetcher"][9] == "within noise"


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ([1.1] * 7, "too few rounds"),
        ([1.1] * 20, "faster"),
        ([0.9] * 20, "slower"),
        ([1.01] * 20, "within noise"),  # below what any change is called
        ([0.8, 1.3] * 10, "within noise"),
    ],
)
def test_the_verdict_follows_the_rule_of_compare(ratios, said):
    assert verdict(ratios) == said


def test_a_machine_that_slows_down_for_some_rounds_does_not_blur_the_ratio():
    slowing = [1.0, 0.5, 0.3, 0.3, 0.9, 1.0, 0.4, 0.4, 1.0, 1.0]
    drifting = {
        loader: [rate * share for rate, share in zip(rates, slowing, strict=True)]
        for loader, rates in FASTER.items()
    }
    row = next(line for line in table(made(drifting)).splitlines() if "| timm |" in line)
    assert "1.46 to 1.50" in row


def test_the_page_is_made_from_the_records(tmp_path):
    document = tmp_path / "page.md"
    document.write_text("<!-- results:begin -->\n<!-- results:end -->\n")
    records = tmp_path / "records"
    records.mkdir()
    with pytest.raises(RecordError, match="no records"):
        page(document, records)
    for name in ("a", "b"):
        record = replace(made(FASTER), cpu=name)
        (records / f"{name}.json").write_text(to_json(asdict(record)))
    main([str(records), "--page", str(document)])
    assert document.read_text().count("| faster |") == 2
    assert not page(document, records)


def test_rounds_are_added_only_to_a_record_of_the_same_measurement():
    before = made(FASTER)
    now = replace(before, started="later", commits=("abc",), turns=(), load_average=None)
    assert continued(before, now) == replace(before, commits=("", "abc"))
    with pytest.raises(RecordError, match="has workers 2, and now it is 3; name another file"):
        continued(before, replace(now, workers=3))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # timm's and torch's own
def test_every_loader_gives_normalised_batches_in_its_turn(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{number}.png")
    bench = Bench(str(tmp_path), size=32, batch=4, workers=1)
    for loader in LOADERS:
        batch = next(bench.batches(loader, AUGMENTATIONS["crop and flip"], 0))
        assert batch.shape == (4, 3, 32, 32)
        assert abs(batch.mean()) < 0.6
        assert 0.3 < batch.std() < 2
    turns = list(measure(bench, rounds=range(1), passed_over=1, timed=2))
    assert {(turn.augmentation, turn.loader) for turn in turns} == {
        (augmentation, loader) for augmentation in AUGMENTATIONS for loader in LOADERS
    }
    assert all(turn.images_per_s > 0 and turn.cpu_s_per_image > 0 for turn in turns)


def test_the_page_in_docs_is_what_the_records_give(tmp_path):
    root = Path(__file__).resolve().parents[2]
    copy = Path(shutil.copy(root / "docs" / "loading.md", tmp_path))
    assert not page(copy, root / "benchmarks" / "loading")
