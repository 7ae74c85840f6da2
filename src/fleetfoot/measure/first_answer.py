"""The first answer from an engine's own file, in a new process that ``start.py`` starts: it opens the
file, answers, and says what that took.

Run as ``python -m fleetfoot.measure.first_answer REQUEST``, with the request and the answer in JSON.
Nothing of fleetfoot is imported but, for ``native``, ``fleetfoot.runtime``; the time that counts
begins when Python and numpy are up, which every engine needs, and takes in the import of the
engine's own package.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

RUNS = 5
"""After the first answer: the memory of a process that runs."""

Open = Callable[[list[str], dict[str, Any], int], Callable[[Any], Any]]


def onnxruntime() -> Open:
    import onnxruntime

    def opened(files: list[str], settings: dict[str, Any], threads: int) -> Callable[[Any], Any]:
        options = onnxruntime.SessionOptions()
        # all of it was done when the file was written
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            files[0], options, providers=["CPUExecutionProvider"]
        )
        return lambda images: session.run(None, {"images": images})[0]

    return opened


def openvino() -> Open:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # it would report itself
    import openvino

    def opened(files: list[str], settings: dict[str, Any], threads: int) -> Callable[[Any], Any]:
        compiled = openvino.Core().import_model(Path(files[0]).read_bytes(), "CPU", settings)
        request = compiled.create_infer_request()
        return lambda images: request.infer({0: images}, share_inputs=True)[0]

    return opened


def ncnn() -> Open:
    import ncnn

    def opened(files: list[str], settings: dict[str, Any], threads: int) -> Callable[[Any], Any]:
        net = ncnn.Net()
        for name, value in settings.items():
            setattr(net.opt, name, value)
        if net.load_param(files[0]) or net.load_model(files[1]):
            raise RuntimeError(f"ncnn refused {files}")

        def run(images: Any) -> Any:
            extractor = net.create_extractor()
            extractor.input(net.input_names()[0], ncnn.Mat(images[0]))
            status, logits = extractor.extract(net.output_names()[0])
            if status:
                raise RuntimeError(f"ncnn ended with status {status}")
            return logits.numpy().copy()[None]

        return run

    return opened


def executorch() -> Open:
    import torch  # which the runtime's Python package needs
    from executorch.extension.pybindings import portable_lib

    def opened(files: list[str], settings: dict[str, Any], threads: int) -> Callable[[Any], Any]:
        if portable_lib._threadpool_get_thread_count() != threads:
            portable_lib._unsafe_reset_threadpool(threads)
        module = portable_lib._load_for_executorch(files[0])
        return lambda images: module.forward((torch.from_numpy(images),))[0].numpy()

    return opened


def native() -> Open:
    from fleetfoot.runtime import Plan

    def opened(files: list[str], settings: dict[str, Any], threads: int) -> Callable[[Any], Any]:
        return Plan.load(files[0]).context(threads).run

    return opened


ENGINES = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "ncnn": ncnn,
    "executorch": executorch,
    "native": native,
}


def resident_bytes(field: str) -> int | None:
    """``VmRSS``, what the process holds, or ``VmHWM``, the most that it held; None where the system
    does not say."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return 1024 * int(found[0]) if found else None


def forget_peak() -> bool:
    """Sets ``VmHWM`` back to ``VmRSS``; whether the system does that."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Does what ``request`` asks for; seconds, and bytes above those held after the imports."""
    images = np.load(request["images"])
    began = time.perf_counter()
    open_file = ENGINES[request["engine"]]()
    imported = time.perf_counter()
    before = resident_bytes("VmRSS")
    tells = forget_peak() and before is not None
    paused = time.perf_counter()
    run = open_file(request["files"], request["settings"], request["threads"])
    answer = run(images)
    answered = time.perf_counter()
    opening = resident_bytes("VmHWM")
    tells = tells and forget_peak()
    for _ in range(RUNS):
        run(images)
    running = resident_bytes("VmHWM")
    np.save(request["answer"], answer)
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
