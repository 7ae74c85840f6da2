"""Batches: the same bytes from any number of processes, and a clear end whatever ends them."""

from __future__ import annotations

import gc
import io
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fleetfoot.data.augment import Augmentation
from fleetfoot.data.class_making import AugmentedClasses, PlainClasses
from fleetfoot.data.dataset import Split
from fleetfoot.data.loader import Batch, evaluation_batches, training_batches
from fleetfoot.data.order import Order
from fleetfoot.data.pictures import InMemory, Texts
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.settings import Augment, Phase
from fleetfoot.data.workers import Workers, _reason
from fleetfoot.errors import ImageError, LoadingError

PREPROCESS = Preprocess(size=24, crop_pct=0.9)
AUGMENTATION = Augmentation(
    augment=Augment(policy="rand-m9-mstd0.5-inc1", interpolation="random"),
    preprocess=PREPROCESS,
    size=24,
    seed=4,
)
ORDER = Order(examples=40, batch=12, seed=4, repeats=3)


def split_of(count: int = 40, *, bad: tuple[int, ...] = ()) -> Split:
    """Noise of several sizes; those with a number in ``bad`` are no pictures."""
    files = []
    for index in range(count):
        rng = np.random.default_rng(index)
        pixels = rng.integers(0, 256, (30 + index % 3, 26 + index % 5, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        files.append(b"no picture" if index in bad else file.getvalue())
    pictures = InMemory(Texts(f"picture-{index}.png" for index in range(count)), tuple(files))
    return Split("train", pictures, np.arange(count) * 7 % 10)


def training(split: Split | None = None, **fields) -> list[Batch]:
    split = split or split_of()
    given = {
        "order": ORDER,
        "maker": AugmentedClasses(split, AUGMENTATION),
        "first_update": 0,
        "last_update": 5,
        "workers": 0,
        "start_method": "fork",
    }
    return list(training_batches(split, **given | fields))


def same(ours: list[Batch], others: list[Batch]) -> bool:
    return len(ours) == len(others) and all(
        (a.update, a.part, a.epoch, a.bad) == (b.update, b.part, b.epoch, b.bad)
        and torch.equal(a.pixels, b.pixels)
        and torch.equal(a.labels, b.labels)
        and torch.equal(a.indices, b.indices)
        and torch.equal(a.repeats, b.repeats)
        for a, b in zip(ours, others, strict=True)
    )


def children() -> list[int]:
    return [child.pid for child in multiprocessing.active_children()]


@pytest.fixture(autouse=True)
def no_worker_stays():
    yield
    gc.collect()
    assert not children()


def test_a_batch_holds_what_order_and_augmentation_say():
    split = split_of()
    batches = training(split)
    assert [batch.update for batch in batches] == [0, 1, 2, 3, 4]
    assert [batch.epoch for batch in batches] == [0, 0, 0, 1, 1]
    for batch in batches:
        pictures, repeats = ORDER.update(batch.update)
        assert batch.indices.tolist() == pictures.tolist()
        assert batch.repeats.tolist() == repeats.tolist()
        assert batch.labels.tolist() == split.labels[pictures].tolist()
        assert batch.labels.dtype == batch.indices.dtype == torch.int64
        assert batch.pixels.shape == (12, 3, 24, 24)
        assert batch.pixels.is_contiguous()
        for at, (index, repeat) in enumerate(zip(pictures, repeats, strict=True)):
            image = split.pictures[index].open().image
            alone = AUGMENTATION(image, epoch=batch.epoch, index=int(index), repeat=int(repeat))
            assert torch.equal(batch.pixels[at], alone)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same_bytes(workers):
    assert same(training(workers=workers), training())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_ways_to_start_a_worker_give_the_same_bytes(method):
    assert same(training(workers=1, start_method=method, last_update=2), training(last_update=2))


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_can_begin_at_any_update(workers):
    whole = training()
    for first in (1, 3, 4):
        assert same(training(first_update=first, workers=workers), whole[first:])
    assert training(first_update=5, workers=workers) == []


@pytest.mark.parametrize(("world", "parts"), [(2, 1), (1, 3), (3, 2)])
def test_processes_and_parts_divide_the_batch(world, parts):
    whole = training()
    shares = [training(rank=rank, world=world, parts=parts, workers=1) for rank in range(world)]
    for update, expected in enumerate(whole):
        mine = [share[update * parts + part] for share in shares for part in range(parts)]
        assert [batch.part for batch in mine] == [*range(parts)] * world
        assert torch.equal(torch.cat([batch.pixels for batch in mine]), expected.pixels)
        assert torch.equal(torch.cat([batch.labels for batch in mine]), expected.labels)


def test_batches_that_are_kept_stay_as_they_were():
    """Far more than there are slots of shared memory, which are used again."""
    kept = training(workers=2, last_update=40)
    with closing(
        training_batches(
            split_of(),
            order=ORDER,
            maker=AugmentedClasses(split_of(), AUGMENTATION),
            first_update=0,
            last_update=40,
            workers=2,
            start_method="fork",
        )
    ) as batches:
        for at, batch in enumerate(batches):
            assert torch.equal(batch.pixels, kept[at].pixels)
            assert batch.update == at


def test_memory_is_used_again():
    places = set()
    for batch in training_batches(
        split_of(),
        order=ORDER,
        maker=AugmentedClasses(split_of(), AUGMENTATION),
        first_update=0,
        last_update=40,
        workers=2,
        start_method="fork",
    ):
        places.add(batch.pixels.data_ptr())
    assert len(places) <= 12


@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_pixels_are_a_copy(workers, monkeypatch):
    """Without a GPU nothing can be pinned; a copy is what pinning gives. The memory of the workers
    is free at once, while a GPU may still read the copy."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    pinned = training(workers=workers, last_update=30, pin_memory=True)
    assert same(pinned, training(last_update=30))
    assert len({batch.pixels.data_ptr() for batch in pinned}) == 30


def test_phases_change_the_size_between_epochs():
    phases = (Phase(until=1, size=16), Phase(until=2, size=32))
    growing = Augmentation(augment=Augment(), preprocess=PREPROCESS, size=24, phases=phases, seed=4)
    maker = AugmentedClasses(split_of(), growing)
    alone = training(maker=maker)
    assert [batch.pixels.shape[2] for batch in alone] == [16, 16, 16, 32, 32]
    assert same(training(maker=maker, workers=2), alone)


class Sizes:
    """A maker whose inputs have another size in each update; its answer names what it was asked."""

    largest = 3 * 40 * 24

    def shape(self, *, epoch, update):
        return 3, 16 + 6 * (update % 5), 24

    def write(self, out, number, *, epoch, update, repeat):
        out[:] = (number + 7 * update + repeat) % 256
        return np.array([number, epoch, update, repeat])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_maker_decides_size_and_answer_by_the_update(workers):
    for batch in training(maker=Sizes(), workers=workers):
        pictures, repeats = ORDER.update(batch.update)
        assert batch.pixels.shape == (12, 3, 16 + 6 * (batch.update % 5), 24)
        values = (pictures + 7 * batch.update + repeats) % 256
        assert torch.equal(batch.pixels[:, 0, 0, 0], torch.from_numpy(values.astype(np.uint8)))
        assert np.array_equal(
            np.stack(batch.targets),
            [[n, batch.epoch, batch.update, r] for n, r in zip(pictures, repeats, strict=True)],
        )


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_reads_every_picture_once_as_preprocessing_gives_it(workers):
    split = split_of(21)
    for world in (1, 2, 4):
        batches = [
            batch
            for rank in range(world)
            for batch in evaluation_batches(
                split,
                maker=PlainClasses(split, PREPROCESS),
                batch=8,
                workers=workers,
                rank=rank,
                world=world,
                start_method="fork",
            )
        ]
        assert torch.cat([batch.indices for batch in batches]).tolist() == list(range(21))
        assert torch.cat([batch.labels for batch in batches]).tolist() == split.labels.tolist()
        expected = [PREPROCESS.pixels(source.open().image) for source, _ in split]
        assert torch.equal(torch.cat([batch.pixels for batch in batches]), torch.stack(expected))
    assert [
        len(batch.labels)
        for batch in evaluation_batches(
            split, maker=PlainClasses(split, PREPROCESS), batch=8, workers=0
        )
    ] == [8, 8, 5]
    none = split_of(0)
    maker = PlainClasses(none, PREPROCESS)
    assert [*evaluation_batches(none, maker=maker, batch=8, workers=workers)] == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_picture_is_replaced_by_the_next_good_one_and_named(workers):
    bad = (3, 4, 39)
    broken, whole = training(split_of(bad=bad), on_bad="skip", workers=workers), training()
    instead = {3: 5, 4: 5, 39: 0}
    named = []
    for batch, expected in zip(broken, whole, strict=True):
        wanted = expected.indices.tolist()
        assert batch.indices.tolist() == [instead.get(index, index) for index in wanted]
        assert batch.labels.tolist() == (batch.indices * 7 % 10).tolist()
        untouched = [at for at, index in enumerate(wanted) if index not in bad]
        assert torch.equal(batch.pixels[untouched], expected.pixels[untouched])
        for at in set(range(len(wanted))) - set(untouched):
            image = split_of().pictures[int(batch.indices[at])].open().image
            alone = AUGMENTATION(
                image,
                epoch=batch.epoch,
                index=int(batch.indices[at]),
                repeat=int(batch.repeats[at]),
            )
            assert torch.equal(batch.pixels[at], alone)
        named += [one.index for one in batch.bad]
        assert all(one.path == f"picture-{one.index}.png" for one in batch.bad)
        assert all("not a picture" in one.reason for one in batch.bad)
    assert set(named) == set(bad) & {int(i) for b in whole for i in b.indices} | {4}


@pytest.mark.parametrize("workers", [0, 2])
def test_stop_raises_at_the_batch_that_holds_the_bad_picture(workers):
    order = Order(examples=40, batch=8, seed=4)
    first_bad = int(order.update(2)[0][5])
    split = split_of(bad=(first_bad,))
    batches = training_batches(
        split,
        order=order,
        maker=AugmentedClasses(split, AUGMENTATION),
        first_update=0,
        last_update=5,
        workers=workers,
        start_method="fork",
    )
    assert [next(batches).update for _ in range(2)] == [0, 1]
    with pytest.raises(ImageError, match=f"picture-{first_bad}.png: not a picture"):
        next(batches)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_split_without_a_good_picture_is_called_so(workers):
    with pytest.raises(ImageError, match=r"train: none of its 40 pictures can be used.*picture-"):
        training(split_of(bad=tuple(range(40))), on_bad="skip", workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_leaves_a_bad_picture_out(workers):
    split = split_of(20, bad=(0, 9, 10))
    maker = PlainClasses(split, PREPROCESS)
    fields = {"maker": maker, "batch": 8, "workers": workers, "start_method": "fork"}
    batches = list(evaluation_batches(split, on_bad="skip", **fields))
    assert [len(batch.labels) for batch in batches] == [7, 6, 4]
    assert [one.index for batch in batches for one in batch.bad] == [0, 9, 10]
    good = [index for index in range(20) if index not in (0, 9, 10)]
    assert torch.cat([batch.indices for batch in batches]).tolist() == good
    expected = [PREPROCESS.pixels(split.pictures[index].open().image) for index in good]
    assert torch.equal(torch.cat([batch.pixels for batch in batches]), torch.stack(expected))
    with pytest.raises(ImageError, match=r"picture-0\.png"):
        list(evaluation_batches(split, **fields))


def test_a_picture_that_preprocessing_refuses_is_a_bad_one():
    file = io.BytesIO()
    Image.new("RGB", (1, 60_000)).save(file, "PNG")
    pictures = InMemory(Texts(["narrow.png"]), (file.getvalue(),))
    narrow = Split("val", pictures, np.zeros(1, np.int64))
    maker = PlainClasses(narrow, Preprocess(size=224))
    fields = {"maker": maker, "batch": 8, "workers": 0}
    (batch,) = evaluation_batches(narrow, on_bad="skip", **fields)
    assert batch.pixels.shape == (0, 3, 224, 224)
    assert "too narrow" in batch.bad[0].reason


def endless(**fields):
    given = {
        "order": ORDER,
        "maker": AugmentedClasses(split_of(), AUGMENTATION),
        "first_update": 0,
        "last_update": 10**9,
        "workers": 2,
        "start_method": "fork",
    }
    return training_batches(split_of(), **given | fields)


def test_a_killed_worker_ends_the_reading_and_says_what_to_do():
    batches = endless()
    next(batches)
    os.kill(children()[0], signal.SIGKILL)
    with pytest.raises(LoadingError, match=r"PID \d+.*SIGKILL.*fewer workers") as caught:
        for _ in batches:
            pass
    assert str(caught.value).isprintable()


def test_a_worker_that_stops_answering_and_is_then_killed_blocks_nobody():
    """It may be killed in the middle of anything, for example a message."""
    for seconds in (0.0, 0.003, 0.01, 0.03):
        batches = endless()
        next(batches)
        victim = children()[1]
        time.sleep(seconds)
        os.kill(victim, signal.SIGSTOP)
        os.kill(victim, signal.SIGKILL)
        with pytest.raises(LoadingError):
            for _ in batches:
                pass


def test_an_error_of_our_own_keeps_its_traceback(monkeypatch):
    def broken(*_, **__):
        raise KeyError("the reason")

    monkeypatch.setattr(Augmentation, "write", broken)
    with pytest.raises(LoadingError, match=r"failed:\n(.|\n)*in broken\n(.|\n)*the reason"):
        next(endless())


def test_closing_ends_the_workers():
    batches = endless()
    next(batches)
    assert len(children()) == 2
    batches.close()
    assert not children()


def test_workers_end_when_the_generator_is_dropped_or_the_caller_fails():
    def fails():
        for _ in endless():
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    gc.collect()
    assert not children()


SCRIPT = """
import multiprocessing, sys, time
sys.path.insert(0, {tests!r})
from test_loader import endless
batches = endless(workers=2)
next(batches)
print(*[child.pid for child in multiprocessing.active_children()], flush=True)
time.sleep(60)
"""


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc for processes")
@pytest.mark.slow
@pytest.mark.parametrize("how", ["ctrl-c", "sigterm", "sigkill"])
def test_no_worker_outlives_the_main_process(how):
    script = SCRIPT.format(tests=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        text=True,
    ) as main:
        pids = [int(pid) for pid in main.stdout.readline().split()]
        assert len(pids) == 2
        if how == "ctrl-c":  # a terminal sends it to the whole group
            os.killpg(main.pid, signal.SIGINT)
        else:
            main.send_signal(signal.SIGTERM if how == "sigterm" else signal.SIGKILL)
        main.wait(timeout=60)
    for _ in range(600):
        if all(map(gone, pids)):
            return
        time.sleep(0.05)
    raise AssertionError(f"{[pid for pid in pids if not gone(pid)]} still run")


def test_workers_go_on_when_ctrl_c_reaches_them_alone():
    """The main process may finish its update first, and needs its batches for that."""
    batches = endless()
    next(batches)
    for pid in children():
        os.kill(pid, signal.SIGINT)
    for _ in range(10):
        next(batches)
    batches.close()


@pytest.mark.parametrize("workers", [0, 2])
def test_reading_leaves_the_random_numbers_of_the_caller_alone(workers):
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    training(workers=workers)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]
    assert torch.equal(torch.get_rng_state(), before[2])


def _identity(slot, request):
    return request


def test_requests_go_to_the_worker_with_the_fewest():
    with Workers(_identity, count=3, slots=1, slot_bytes=8, start_method="fork") as workers:
        for number in range(7):
            workers.ask(0, number)
        assert sorted(workers._waiting) == [2, 2, 3]
        found = []
        while len(found) < 7:
            found += workers.answers()
        assert sorted(found) == list(range(7))


@pytest.mark.parametrize(
    ("code", "method", "message"),
    [
        (-signal.SIGKILL, "fork", "killed .* memory ran out. Take fewer workers"),
        (-signal.SIGBUS, "fork", "no shared memory is left .* --shm-size"),
        (-signal.SIGSEGV, "fork", "SIGSEGV ended it"),
        (1, "spawn", "exit code 1.* under if __name__"),
        (1, "fork", "exit code 1; its own message"),
    ],
)
def test_the_end_of_a_worker_is_explained(code, method, message):
    with pytest.raises(LoadingError, match=message):
        raise LoadingError(_reason(code, method))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"workers": -1}, "workers must be 0 or more, not -1"),
        ({"on_bad": "ignore"}, "on_bad must be skip or stop, not 'ignore'"),
        ({"rank": 2, "world": 2}, "rank must be from 0 to 1, not 2"),
        ({"world": 5}, "12 pictures cannot be divided evenly among 5 processes"),
        ({"order": Order(examples=41, batch=8, seed=0)}, "41 pictures, but train has 40"),
        ({"start_method": "thread"}, "start_method must be .* not 'thread'"),
    ],
)
def test_an_argument_out_of_range_is_named_at_once(fields, message):
    with pytest.raises(ValueError, match=message):
        endless(**fields)


def test_evaluation_names_an_argument_out_of_range():
    for fields, message in (
        ({"batch": 0}, "batch must be 1 or more, not 0"),
        ({"batch": 4, "rank": 1}, "rank must be from 0 to 0, not 1"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluation_batches(split_of(4), maker=PlainClasses(split_of(4), PREPROCESS), **fields)
