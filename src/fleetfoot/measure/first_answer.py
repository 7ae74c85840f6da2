"""The first answer from an engine's own file, in a new process that ``start.py`` starts: it opens
the file, answers, and says what that took.

Run as ``python -m fleetfoot.measure.first_answer REQUEST``, with the request and the answer in
JSON. Nothing of fleetfoot is imported but ``fleetfoot.readers``, which imports nothing, and for
``native`` ``fleetfoot.runtime``; the time that counts begins when Python and numpy are up, which
every engine needs, and takes in the import of the engine's own package.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from fleetfoot.readers import READERS

RUNS = 5
"""Runs after the first answer: they show the memory of a process that goes on running."""


def resident_bytes(field: str) -> int | None:
    """``VmRSS``, what the process holds, or ``VmHWM``, the most that it held; None if the system
    does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return 1024 * int(found[0]) if found else None


def forget_peak() -> bool:
    """Sets ``VmHWM`` back to ``VmRSS``; whether the system does that."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return False
    return True


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Does what ``request`` asks for; seconds, and bytes above those held after the imports."""
    images = np.load(request["images"])
    began = time.perf_counter()
    open_files = READERS[request["engine"]]()
    imported = time.perf_counter()
    before = resident_bytes("VmRSS")
    tells = forget_peak() and before is not None
    paused = time.perf_counter()
    run = open_files(request["files"], request["settings"], request["threads"]).run
    answer = run([images])
    answered = time.perf_counter()
    opening = resident_bytes("VmHWM")
    tells = tells and forget_peak()
    for _ in range(RUNS):
        run([images])
    running = resident_bytes("VmHWM")
    np.savez(request["answer"], *answer)
    tells = tells and opening is not None and running is not None
    return {
        "import_s": imported - began,
        "answer_s": answered - paused,
        "opening_bytes": opening - before if tells and opening and before else None,
        "running_bytes": running - before if tells and running and before else None,
        "torch_imported": "torch" in sys.modules,
    }


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
