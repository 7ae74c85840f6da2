"""Plans run with numpy alone: what comes out, what is refused, and in which words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from fleetfoot import runtime
from fleetfoot.engines.native.plan import VERSION
from fleetfoot.errors import EngineError, PlanError
from fleetfoot.runtime import Plan
from plans import classifier

needs_library = pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing()))
WEIGHT = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)


def pictures(batch: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((batch, 3, 4, 5)).astype(np.float32)


def expected(x: np.ndarray) -> np.ndarray:
    """The same network in float64."""
    return np.maximum(x.astype(np.float64), 0).mean((2, 3)) @ WEIGHT.T.astype(np.float64)


@pytest.fixture
def plan():
    with Plan.from_bytes(classifier(WEIGHT)) as made:
        yield made


def test_torch_is_not_imported():
    code = "import sys, fleetfoot.runtime; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_it_is_there_where_a_compiler_is():
    assert runtime.missing() is None  # the tests below would be left out otherwise


def test_why_it_is_absent_is_what_the_install_wrote_down(tmp_path, monkeypatch):
    monkeypatch.setattr("fleetfoot.__path__", [str(tmp_path)])
    runtime._library.cache_clear()
    try:
        assert "pip install ." in runtime.missing()
        (tmp_path / "_native").mkdir()
        (tmp_path / "_native" / runtime.ABSENT).write_text(
            "no C++ compiler; run: apt install g++\n"
        )
        assert runtime.missing() == (
            "the native engine is absent: no C++ compiler; run: apt install g++"
        )
        (tmp_path / "_native" / runtime.LIBRARY).write_bytes(b"not a library")
        assert "install fleetfoot again" in runtime.missing()
        with pytest.raises(EngineError, match="cannot be loaded"):
            Plan.from_bytes(b"")
    finally:
        runtime._library.cache_clear()


@needs_library
def test_the_checksum_is_xxh64():
    assert runtime.checksum(b"") == 0xEF46DB3751D8E999  # the specification's own examples
    assert runtime.checksum(b"abc") == 0x44BC2CF5AD770999
    x = np.arange(100, dtype=np.float32)
    assert runtime.checksum(x, 3) == runtime.checksum(x.tobytes(), 3) != runtime.checksum(x, 4)


@needs_library
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_every_instruction_set_gives_the_network_s_answer(plan, batch, threads):
    x = pictures(batch)
    assert runtime.instruction_sets()[-1] == "plain"
    for name in runtime.instruction_sets():
        with plan.context(threads, name) as context:
            assert (context.threads, context.instruction_set) == (threads, name)
            # 20 values summed in another order, in float32
            np.testing.assert_allclose(context.run(x), expected(x), rtol=1e-5, atol=1e-6)


@needs_library
def test_a_plan_says_what_it_is(plan):
    assert plan.model == "by_hand"
    assert plan.input_shapes == ((3, 4, 5),)
    assert plan.output_shapes == ((7,),)
    assert plan.weight_bytes == 3 * 16 * 4
    assert plan.arena_bytes >= 3 * 4 * 5 * 4
    assert [(node.name, node.op, node.strip) for node in plan.nodes] == [
        ("act", "unary", None),
        ("pool", "reduce", None),
        ("fc", "conv", None),
    ]


@needs_library
def test_a_file_runs_as_its_bytes_do(tmp_path):
    file = tmp_path / "by hand, ünïcode.plan"
    file.write_bytes(classifier(WEIGHT))
    x = pictures(2)
    with Plan.load(file) as plan, plan.context() as context:
        np.testing.assert_allclose(context.run(x), expected(x), rtol=1e-5, atol=1e-6)


@needs_library
def test_what_the_caller_gave_is_written_and_nothing_else(plan):
    x, room = pictures(2), np.full((4, 7), 5, np.float32)
    with plan.context() as context:
        context.run_into([x], [room[1:3]])
        np.testing.assert_allclose(room[1:3], expected(x), rtol=1e-5, atol=1e-6)
        assert (room[[0, 3]] == 5).all()
        held = context.memory_bytes
        context.run_into([pictures(2, seed=2)], [room[1:3]])
        assert context.memory_bytes == held


@needs_library
def test_the_same_bits_from_run_to_run(plan):
    x = pictures(3)
    with plan.context(2) as context:
        assert {context.run(x).tobytes() for _ in range(20)} == {context.run(x).tobytes()}


@needs_library
def test_nan_shows_in_its_own_row_alone(plan):
    x = pictures(3)
    x[1, 0, 2, 2] = np.nan
    with plan.context() as context:
        assert np.isnan(context.run(x)).any(axis=1).tolist() == [False, True, False]


@needs_library
def test_every_node_is_timed_and_named(plan):
    with plan.context() as context:
        times = context.profile(pictures(2))
    assert [time.node.name for time in times] == ["act", "pool", "fc"]
    assert all(time.seconds > 0 for time in times)


@needs_library
def test_contexts_run_side_by_side_and_one_context_takes_turns(plan):
    shared = plan.context(2)
    wrong = []

    def work(seed: int) -> None:
        x = pictures(2, seed)
        with plan.context() as own:
            for _ in range(50):
                for context in (own, shared):
                    if not np.allclose(context.run(x), expected(x), rtol=1e-5, atol=1e-6):
                        wrong.append(seed)

    workers = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    shared.close()
    assert not wrong


@needs_library
def test_a_context_outlives_its_plan_and_nothing_outlives_close():
    plan = Plan.from_bytes(classifier(WEIGHT))
    context = plan.context()
    plan.close()
    plan.close()
    assert context.run(pictures(1)).shape == (1, 7)
    with pytest.raises(EngineError, match="plan of by_hand is closed"):
        plan.context()
    context.close()
    context.close()
    for call in (lambda: context.run(pictures(1)), lambda: context.profile(pictures(1))):
        with pytest.raises(EngineError, match="this context is closed"):
            call()


@needs_library
@pytest.mark.parametrize(
    ("batches", "said"),
    [
        ([np.zeros((1, 3, 4, 6), np.float32)], r"shape \(B, 3, 4, 5\).*not \(1, 3, 4, 6\)"),
        ([np.zeros((3, 4, 5), np.float32)], r"not \(3, 4, 5\)"),
        ([np.zeros((0, 3, 4, 5), np.float32)], "B at least 1"),
        ([np.float32(3)], "must be a numpy array of float32"),
        ([np.zeros((1, 3, 4, 5))], "float32, not float64"),
        ([[[1.0]]], "not list"),
        ([np.zeros((1, 3, 5, 4), np.float32).transpose(0, 1, 3, 2)], "ascontiguousarray"),
        ([], "has 1 inputs, and 0 were given"),
    ],
)
def test_what_does_not_fit_is_refused(plan, batches, said):
    with plan.context() as context, pytest.raises(ValueError, match=said):
        context.run(*batches)


@needs_library
def test_outputs_that_do_not_fit_are_refused(plan):
    x = pictures(2)
    locked = np.zeros((2, 7), np.float32)
    locked.flags.writeable = False
    with plan.context() as context:
        for out, said in (
            (np.zeros((3, 7), np.float32), "2 pictures and the outputs have room for 3"),
            (np.zeros((2, 8), np.float32), r"the output must have the shape \(B, 7\)"),
            (locked, "read-only"),
        ):
            with pytest.raises(ValueError, match=said):
                context.run_into([x], [out])


@needs_library
def test_options_that_cannot_be_are_refused(plan):
    with pytest.raises(ValueError, match="threads must be 1 to 256, not 0"):
        plan.context(0)
    with pytest.raises(ValueError, match="257"):
        plan.context(257)
    with pytest.raises(EngineError, match="'sse9' is not among those of this processor"):
        plan.context(1, "sse9")


@needs_library
def test_a_damaged_plan_is_refused_by_name(tmp_path):
    good = classifier(WEIGHT)
    flipped = bytearray(good)
    flipped[-1] ^= 1
    for data, said in (
        (good[:-1], "'fc.weight' lies outside the file"),
        (flipped, "the checksum differs"),
        (b"", "ends within its header"),
        (b"PK\x03\x04" * 50, "not a plan file"),
        (classifier(WEIGHT, version="1"), "plan version 1; this library reads version 3"),
    ):
        with pytest.raises(PlanError, match=said):
            Plan.from_bytes(data)
    with pytest.raises(OSError, match="nowhere"):
        Plan.load(tmp_path / "nowhere.plan")


@needs_library
def test_a_plan_that_was_read_does_not_depend_on_its_file(tmp_path):
    file, x = tmp_path / "net.plan", pictures(2)
    file.write_bytes(classifier(WEIGHT))
    with Plan.load(file) as plan, plan.context() as context:
        before = context.run(x)
        with file.open("r+b") as opened:  # in place, as a careless copy writes
            opened.write(bytes(file.stat().st_size))
        np.testing.assert_array_equal(context.run(x), before)
        with file.open("r+b") as opened:
            opened.truncate(10)
        np.testing.assert_array_equal(context.run(x), before)
        file.unlink()
        np.testing.assert_array_equal(context.run(x), before)


@needs_library
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="Linux tells it there")
def test_mapping_is_a_choice(tmp_path):
    file, x = tmp_path / "net.plan", pictures(2)
    file.write_bytes(classifier(WEIGHT))
    maps = Path("/proc/self/maps")
    with Plan.load(file) as read:
        assert str(file) not in maps.read_text()
        with Plan.load(file, mmap=True) as mapped:
            assert str(file) in maps.read_text()
            with read.context() as one, mapped.context() as other:
                np.testing.assert_array_equal(one.run(x), other.run(x))
    assert str(file) not in maps.read_text()


ENDLESS = """
import signal, threading, time
from fleetfoot import runtime

began = threading.Event()

def endless(options, handle):
    began.set()
    while not options._obj.stop[0]:
        time.sleep(0.001)
    print("stopped")
    return 0

def interrupt():
    began.wait()
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

threading.Thread(target=interrupt).start()
try:
    runtime._loaded(endless)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_a_signal_stops_a_load():
    done = subprocess.run(  # a signal in this process may end what runs the tests
        [sys.executable, "-c", ENDLESS], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["stopped", "interrupted"]


@needs_library
@pytest.mark.slow
def test_sigint_ends_the_load_of_a_large_file_at_once(tmp_path):
    file = tmp_path / "large.plan"
    head = json.dumps(
        {
            "fill": {"dtype": "F32", "shape": [1 << 30], "data_offsets": [0, 4 << 30]},
            "__metadata__": {
                "format": "fleetfoot-plan",
                "version": str(VERSION),
                "checksum": "0",
                "graph": "",
            },
        }
    ).encode()
    head += b" " * (-(8 + len(head)) % 64)
    with file.open("wb") as made:
        made.write(len(head).to_bytes(8, "little") + head)
        made.truncate(8 + len(head) + (4 << 30))
    code = (
        "import signal, sys, threading, time\n"
        "from fleetfoot.runtime import Plan\n"
        "main = threading.main_thread().ident\n"
        "threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()\n"
        "try:\n"
        "    Plan.load(sys.argv[1])\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, file], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "stopped"


@needs_library
def test_a_plan_loads_in_any_thread():
    found = []
    worker = threading.Thread(target=lambda: found.append(Plan.from_bytes(classifier(WEIGHT))))
    worker.start()
    worker.join()
    assert found[0].output_shapes == ((7,),)
    found[0].close()
    with pytest.raises(OSError, match="NUL"):
        Plan.load("a\0b")
