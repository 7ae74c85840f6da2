"""Any thread may call or close any context at any time, and a process may fork while one runs."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fleetfoot import runtime
from fleetfoot.errors import EngineError
from fleetfoot.runtime import Plan
from plans import classifier

pytestmark = pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing()))
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
WEIGHT = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)

SETUP = """
import gc, os, signal, sys, threading, time
import numpy as np
from fleetfoot.runtime import Plan
from plans import classifier

weight = np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32)
plan = Plan.from_bytes(classifier(weight))
context = plan.context(2)
x = np.random.default_rng(1).standard_normal((64, 3, 4, 5)).astype(np.float32)
truth = context.run(x).tobytes()

def right():
    return context.run(x).tobytes() == truth and len(context.profile(x)) == 3

def ends(child):
    "Exit code of the child; it is killed if it hangs."
    for _ in range(6000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"
"""


def run_script(body: str) -> None:
    """In a process of its own, which has no threads but its own when it forks."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SETUP + textwrap.dedent(body)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert (done.returncode, done.stdout.strip()) == (0, "right"), done.stdout + done.stderr


@needs_fork
def test_a_child_exits_closes_collects_or_uses_what_the_parent_left_idle():
    run_script("""
        def collect():
            global context, plan
            context = plan = None
            gc.collect()
            return True

        def close():
            context.close()
            plan.close()
            return True

        for body in (lambda: True, close, collect, right):
            child = os.fork()
            if child == 0:
                sys.exit(0 if body() else 1)  # the interpreter ends as usual, finalizers included
            assert ends(child) == 0, body
        print("right" if right() else "wrong in the parent")
    """)


@needs_fork
def test_a_child_may_be_forked_while_other_threads_run():
    run_script("""
        stop = False
        def work():
            while not stop:
                right()
        workers = [threading.Thread(target=work) for _ in range(2)]
        for worker in workers:
            worker.start()
        codes = set()
        for i in range(20):
            time.sleep(0.001 * (i % 4))
            child = os.fork()
            if child == 0:
                ok = right() if i % 2 else True
                context.close()
                os._exit(0 if ok else 1)
            codes.add(ends(child))
        stop = True
        for worker in workers:
            worker.join()
        print("right" if codes == {0} and right() else codes)
    """)


@needs_fork
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_run_plans(method, tmp_path):
    file = tmp_path / "workers.py"
    file.write_text(
        SETUP
        + textwrap.dedent(f"""
        import multiprocessing

        def answer(_):
            return context.run(x).tobytes() == truth

        if __name__ == "__main__":
            with multiprocessing.get_context({method!r}).Pool(2) as pool:
                assert all(pool.map(answer, range(8)))
            print("right" if right() else "wrong in the parent")
    """)
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(file)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.stdout.strip() == "right", done.stdout + done.stderr


@needs_fork
@pytest.mark.slow
def test_workers_of_a_data_loader_run_plans():
    run_script("""
        import torch

        class Answers(torch.utils.data.Dataset):
            def __len__(self):
                return 8
            def __getitem__(self, index):
                return context.run(x).tobytes() == truth

        loader = torch.utils.data.DataLoader(Answers(), num_workers=2, batch_size=1)
        for _ in range(2):
            assert all(bool(batch) for batch in loader)
        print("right" if right() else "wrong in the parent")
    """)


def test_every_call_and_close_may_meet_in_any_thread():
    x = np.zeros((4, 3, 40, 50), np.float32)
    data = classifier(WEIGHT, height=40, width=50)
    strange: list[BaseException] = []
    for _ in range(10):
        plan = Plan.from_bytes(data)
        context = plan.context(2)
        calls = (
            lambda context=context: context.run(x),
            lambda context=context: context.profile(x),
            lambda context=context: context.poison(),
            lambda context=context: context.memory_bytes,
            lambda plan=plan: plan.nodes,
            lambda plan=plan: plan.context(1).close(),
        )
        ready = threading.Barrier(len(calls) + 1)

        def repeat(call, ready=ready):
            ready.wait()
            try:
                while True:
                    call()
            except EngineError as error:  # any other error would be a fault
                if "is closed" not in str(error):
                    strange.append(error)
            except BaseException as error:
                strange.append(error)

        workers = [threading.Thread(target=repeat, args=(call,)) for call in calls]
        for worker in workers:
            worker.start()
        ready.wait()
        time.sleep(0.003)
        plan.close()
        context.close()
        for worker in workers:
            worker.join()
    assert not strange


def test_calls_wait_for_each_other():
    x = np.zeros((4, 3, 4, 5), np.float32)
    strange: list[BaseException] = []
    with Plan.from_bytes(classifier(WEIGHT)) as plan, plan.context(2) as context:

        def repeat(call):
            try:
                for _ in range(100):
                    call()
            except BaseException as error:
                strange.append(error)

        calls = (
            lambda: context.run(x),
            lambda: context.profile(x),
            context.poison,
            lambda: context.memory_bytes,
        )
        workers = [threading.Thread(target=repeat, args=(call,)) for call in calls]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert not strange


def test_denormal_numbers_count_as_nothing_and_only_while_the_engine_computes():
    tiny, none = WEIGHT.copy(), WEIGHT.copy()
    tiny[0], none[0] = 1e-39, 0
    x = np.random.default_rng(2).standard_normal((3, 3, 4, 5)).astype(np.float32)
    for threads in (1, 2):
        answers = []
        for weight in (tiny, none):
            with Plan.from_bytes(classifier(weight)) as plan, plan.context(threads) as context:
                answers.append(context.run(x))
        np.testing.assert_array_equal(*answers)
        assert (np.full(64, 1e-39, np.float32) * np.float32(0.5)).all()
