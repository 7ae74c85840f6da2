"""Pictures decoded ahead: in order, few at a time, with faults in their places."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from fleetfoot.data.decoding import decode, decoded
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.sources import Source
from tests.red_green_blue import png

SMALL = Preprocess(size=16)


def sources(*given):
    return [Source(str(number), png(one)) for number, one in enumerate(given)]


@pytest.mark.parametrize("batch", [1, 2, 3, 10])
def test_the_order_stays_and_a_fault_takes_no_place_in_a_batch(batch):
    given = sources("red", b"broken", "lime", "blue", b"", "red", "red")
    lists = list(decoded(given, SMALL, batch=batch))
    assert [item.path for items in lists for item in items] == [str(n) for n in range(7)]
    usable = [sum(item.pixels is not None for item in items) for items in lists]
    assert sum(usable) == 5
    assert max(usable) <= batch
    faults = [item.path for items in lists for item in items if item.error]
    assert faults == ["1", "4"]


def test_a_picture_that_is_too_narrow_is_a_fault():
    from io import BytesIO

    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (1, 60_000)).save(file, "PNG")
    found = decode(Source("thread.png", file.getvalue()), Preprocess(size=224))
    assert found.pixels is None
    assert "too narrow" in found.error


def test_it_reads_ahead_by_a_few_pictures_and_stops_with_its_reader():
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield Source("red.png", png("red"))

    before = threading.active_count()
    with closing(decoded(endless(), SMALL, batch=2, workers=2)) as lists:
        next(lists)
        assert len(taken) <= 2 * 2 + 2 + 2
    for thread in threading.enumerate():
        if thread.name.startswith("decode"):
            thread.join(timeout=60)
    assert threading.active_count() <= before
