"""Classifying pictures: a stream of files through preprocessing and an engine, in order.

A picture that cannot be used becomes a prediction with an ``error``, in its place in the order, and
takes no place in a batch.

B batch · C channels · H W space · N classes
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.copying import copied, evaluated_
from fleetfoot.data.decoding import Decoded, decoded
from fleetfoot.data.images import MAX_BYTES, MAX_PIXELS
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.data.sources import Source
from fleetfoot.engines import Engine
from fleetfoot.errors import EngineError
from fleetfoot.files import read_text
from fleetfoot.tasks.classify import Guess, Labels, top_k


@dataclass(frozen=True)
class Prediction:
    """A network's guesses for one picture, best first, or the reason why there are none."""

    path: str
    topk: tuple[Guess, ...] = ()
    error: str = ""
    notes: tuple[str, ...] = ()
    """What was done to the picture, for example ``transparent: laid over white``."""

    def record(self) -> dict[str, Any]:
        """The prediction as ``--json`` prints it: path and topk, or path and error."""
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
class Predictor:
    """A network in an engine, with its preprocessing and its class names.

    >>> from PIL import Image
    >>> from fleetfoot.models import create_model
    >>> Image.new("RGB", (80, 60)).save("black.png")
    >>> predictor = Predictor.of(create_model("mobilenetv2_010"))
    >>> [(one.path, len(one.topk)) for one in predictor([Source("black.png")], topk=3)]
    [('black.png', 3)]
    """

    engine: Engine
    batch: int
    """Number of pictures in a run; the engine was built for it."""
    preprocess: Preprocess
    labels: Labels

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        engine: str | None = None,
        threads: int = 1,
        batch: int = 1,
        pictures: int | None = None,
        fold: bool = True,
        preprocess: Preprocess | None = None,
        labels: str | Path | None = None,
    ) -> Predictor:
        """Builds a predictor: folds a copy of ``model`` and loads it into an engine.

        Args:
            model: a classifier made by ``create_model``.
            engine: a name that ``engines.load`` takes, or ``auto``, the fastest by measurement.
                Default: the likeliest to be the fastest, by ``choose.auto.load_fast``.
            threads: number of threads of the engine.
            batch: number of pictures in a run.
            pictures: number of pictures in all; for a few, the default engine is eager. Default:
                many.
            fold: whether batch norms and linear branches are folded first.
            preprocess: preprocessing of the pictures. Default: the network's own.
            labels: a file of class names. Default: those that the file of weights states, or else
                ImageNet's for 1,000 classes.

        Raises:
            ValueError: the network has no classifier or takes other channels, or the labels do not
                match its classes.
            EngineError: the engine cannot build or run the network, or the output is not (B, N).
        """
        from fleetfoot.choose.auto import load_auto, load_fast
        from fleetfoot.engines import load
        from fleetfoot.transform import fuse

        if batch < 1:
            raise ValueError(f"batch must be 1 or more, not {batch}")
        if engine == "nothing":
            raise ValueError("the engine 'nothing' computes nothing, so it cannot classify")
        if getattr(model, "num_classes", None) == 0:
            raise ValueError(
                "the network has no classifier (num_classes is 0), so it cannot classify"
            )
        preprocess = preprocess or Preprocess.of(model)
        channels = getattr(getattr(model, "config", None), "in_chans", preprocess.channels)
        if channels != preprocess.channels:
            raise ValueError(
                f"the network takes {channels} channels, and a picture has {preprocess.channels}"
            )
        example = torch.zeros(batch, channels, preprocess.height, preprocess.width)
        ready = fuse(model, example[:1]).model if fold else evaluated_(copied(model))
        if engine is None:
            built = load_fast(ready, example=example, threads=threads, pictures=pictures)
        elif engine == "auto":
            built = load_auto(ready, example=example, threads=threads)
        else:
            built = load(engine, ready, example=example, threads=threads)
        logits = built.run(example)
        is_tensor = isinstance(logits, torch.Tensor)
        if not is_tensor or logits.ndim != 2 or len(logits) != batch:
            found = tuple(logits.shape) if is_tensor else f"a {type(logits).__name__}"
            raise EngineError(
                f"{built.name}: the output of a classifier is ({batch}, classes); "
                f"the output of this network is {found}"
            )
        return cls(built, batch, preprocess, Labels.of_network(model, logits.shape[1], labels))

    def __call__(
        self,
        sources: Iterable[Source],
        *,
        topk: int = 5,
        workers: int | None = None,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ) -> Iterator[Prediction]:
        """Predicts each source, in order.

        Args:
            topk: number of guesses for each picture.
            workers: number of decoding threads. Default: one for each core, two to four.
            max_pixels, max_bytes: limits for one picture, as in ``open_image``.
        """
        if topk < 1:
            raise ValueError(f"topk must be 1 or more, not {topk}")
        batches = decoded(
            sources,
            self.preprocess,
            batch=self.batch,
            workers=workers,
            max_pixels=max_pixels,
            max_bytes=max_bytes,
        )
        with closing(batches):
            for items in batches:
                yield from self._name(items, topk)

    def _name(self, items: list[Decoded], topk: int) -> Iterator[Prediction]:
        """Runs the usable items as one batch; a short batch is filled up with black pictures."""
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
    """A function from a picture's path to the name of its true class, by one of three rules.

    ``stem``: the file's name, for example ``n01440764.jpg`` or ``n01440764_10026.JPEG``.
    ``folder``: the folder that holds it. Otherwise a file that maps paths (or file names) to
    classes: a JSON object, or CSV with two columns; "" for a picture that is not in the file.

    Raises:
        ValueError: the file cannot be read, or has another form.
    """
    if rule == "stem":
        return lambda path: re.sub(r"^(n\d{8})_.*", r"\1", Path(path).stem)
    if rule == "folder":
        return lambda path: Path(path).absolute().parent.name
    try:
        text = read_text(rule, encoding="utf-8-sig")
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
