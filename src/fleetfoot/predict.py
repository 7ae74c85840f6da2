"""Naming what is in pictures: a stream of files through preprocessing and an engine, in order.

Decoding runs ahead in a few threads (Pillow releases the interpreter while it decodes) and never by
more than two batches, so a folder of any size takes the same memory. A picture that cannot be used
becomes a prediction with an ``error`` in its place, and takes no place in a batch.

B batch · C channels · H W space · N classes
"""

from __future__ import annotations

import copy
import csv
import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.cores import usable_cores
from fleetfoot.data.images import MAX_BYTES, MAX_PIXELS
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.sources import Source
from fleetfoot.engines import Engine
from fleetfoot.errors import EngineError, ImageError
from fleetfoot.tasks.classify import Guess, Labels, top_k


@dataclass(frozen=True)
class Prediction:
    """What a network made of one picture: guesses, best first, or the reason why there are none."""

    path: str
    topk: tuple[Guess, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()
    """What was done to the picture: ``transparent: laid over white``."""

    def record(self) -> dict[str, Any]:
        """The line of ``--json``: path and topk, or path and error."""
        if self.error:
            return {"path": self.path, "error": self.error}
        return {
            "path": self.path,
            "topk": [
                {
                    "index": guess.index,
                    "label": guess.label,
                    "probability": round(guess.probability, 6),
                }
                for guess in self.topk
            ],
        }


@dataclass(frozen=True)
class Decoded:
    """(C, H, W) uint8 as the network wants it, or the reason why not."""

    path: str
    pixels: Tensor | None = None
    error: str = ""
    notes: tuple[str, ...] = ()


def decode(
    source: Source, preprocess: Preprocess, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> Decoded:
    """Reads, checks, resizes and crops one picture; what is wrong with it is in ``error``."""
    try:
        picture = source.open(max_pixels=max_pixels, max_bytes=max_bytes)
        return Decoded(source.path, preprocess.pixels(picture.image), notes=picture.notes)
    except ImageError as error:
        return Decoded(source.path, error=error.reason)
    except ValueError as error:  # too narrow to be resized
        return Decoded(source.path, error=str(error))


@dataclass(frozen=True)
class Predictor:
    """A network in an engine, with its preprocessing and the names of its classes."""

    engine: Engine
    batch: int
    """Pictures a run; the engine was built for this number."""
    preprocess: Preprocess
    labels: Labels

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        engine: str = "eager",
        threads: int = 1,
        batch: int = 1,
        fold: bool = True,
        preprocess: Preprocess | None = None,
        labels: str | Path | None = None,
    ) -> Predictor:
        """Folds ``model``, which stays as it is, and builds it in an engine.

        Args:
            model: a classifier of ``create_model``.
            engine: a name that ``engines.load`` takes, or ``auto``: the fastest by measurement.
            threads: of the engine.
            batch: pictures a run.
            fold: whether batch norms and linear branches are folded first.
            preprocess: the network's own by default.
            labels: a file of class names; ImageNet's for 1,000 classes by default.

        Raises:
            ValueError: the network has no classifier, takes other channels, or the labels
            are not its own.
            EngineError: the engine cannot build or run it, or it does not answer with (B, N).
        """
        from fleetfoot.choose.auto import load_auto
        from fleetfoot.engines import load
        from fleetfoot.transform import fuse

        if batch < 1:
            raise ValueError(f"batch must be 1 or more, not {batch}")
        if engine == "nothing":
            raise ValueError("the engine 'nothing' computes nothing, so it names nothing")
        if getattr(model, "num_classes", None) == 0:
            raise ValueError(
                "the network has no classifier (num_classes is 0), so it names nothing"
            )
        preprocess = preprocess or Preprocess.of(model)
        channels = getattr(getattr(model, "config", None), "in_chans", preprocess.channels)
        if channels != preprocess.channels:
            raise ValueError(
                f"the network takes {channels} channels, and a picture has {preprocess.channels}"
            )
        example = torch.zeros(batch, channels, preprocess.height, preprocess.width)
        ready = fuse(model, example[:1]).model if fold else copy.deepcopy(model).eval()
        if engine == "auto":
            built = load_auto(ready, example=example, threads=threads)
        else:
            built = load(engine, ready, example=example, threads=threads)
        logits = built.run(example)
        is_tensor = isinstance(logits, torch.Tensor)
        if not is_tensor or logits.ndim != 2 or len(logits) != batch:
            found = tuple(logits.shape) if is_tensor else f"a {type(logits).__name__}"
            raise EngineError(
                f"{engine}: a classifier answers with ({batch}, classes), "
                f"and this network with {found}"
            )
        return cls(built, batch, preprocess, Labels.of(logits.shape[1], labels))

    def __call__(
        self,
        sources: Iterable[Source],
        *,
        topk: int = 5,
        workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ) -> Iterator[Prediction]:
        """One prediction a source, in their order.

        Args:
            topk: guesses a picture.
            workers: threads that decode; one a core by default, two to four.
            max_pixels, max_bytes: limits of one picture, as ``open_image`` takes them.
        """
        if topk < 1:
            raise ValueError(f"topk must be 1 or more, not {topk}")
        workers = workers or min(4, max(2, usable_cores()))
        remaining = iter(sources)
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:

            def submit(count: int) -> Iterator[Future[Decoded]]:
                for source in islice(remaining, count):
                    yield pool.submit(decode, source, self.preprocess, max_pixels, max_bytes)

            ahead = deque(submit(2 * self.batch + workers))
            waiting: list[Decoded] = []  # in order; as many with pixels as the batch has so far
            try:
                while ahead:
                    waiting.append(ahead.popleft().result())
                    ahead.extend(submit(1))
                    usable = sum(item.pixels is not None for item in waiting)
                    if usable == self.batch or not ahead or not usable:
                        yield from self._name(waiting, topk)
                        waiting = []
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _name(self, items: list[Decoded], topk: int) -> Iterator[Prediction]:
        """Runs the usable items as one batch; a short one is filled up with black pictures."""
        pixels = [item.pixels for item in items if item.pixels is not None]
        rows: Iterator[Tensor] = iter(())
        if pixels:
            blank = [torch.zeros_like(pixels[0])] * (self.batch - len(pixels))
            rows = iter(self.engine.run(self.preprocess.normalise(torch.stack(pixels + blank))))
        for item in items:
            if item.pixels is None:
                yield Prediction(item.path, error=item.error, notes=item.notes)
            elif (logits := next(rows)).isfinite().all():
                (guesses,) = top_k(logits[None], topk, self.labels)
                yield Prediction(item.path, guesses, notes=item.notes)
            else:
                yield Prediction(item.path, error="the network's answer is not finite")


def truth_by(rule: str) -> Callable[[str], str]:
    """From a picture's path to the name of its true class, by one of three rules.

    ``stem``: the file's name, as ``n01440764.jpg`` or ``n01440764_10026.JPEG``. ``folder``: the
    folder it is in. Else a file that maps paths (or file names) to classes: a JSON object, or CSV
    of two columns. The function gives an empty string for a picture that the file does not hold.

    Raises:
        ValueError: the file cannot be read, or is neither.
    """
    if rule == "stem":
        return lambda path: re.sub(r"^(n\d{8})_.*", r"\1", Path(path).stem)
    if rule == "folder":
        return lambda path: Path(path).absolute().parent.name
    try:
        text = Path(rule).read_text(encoding="utf-8-sig")
        rows = json.loads(text).items() if text.lstrip().startswith("{") else _pairs(text)
        known = {path: str(name) for path, name in rows}
    except (OSError, ValueError) as error:
        raise ValueError(
            f"truth must be 'stem', 'folder', or a JSON object or CSV file of path and class; "
            f"{rule} cannot be used: {error}"
        ) from error
    return lambda path: known.get(path, known.get(Path(path).name, ""))


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(csv.reader(text.splitlines()), 1):
        if len(row) != 2:
            raise ValueError(f"line {number} has {len(row)} columns, not 2")
        yield row[0], row[1]
