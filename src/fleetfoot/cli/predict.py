"""``fleetfoot predict``: classify pictures."""

from __future__ import annotations

import csv
import io
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.network import (
    PANEL,
    AcceptLicence,
    Channels,
    Inputs,
    Key,
    Model,
    Option,
    Pretrained,
    Size,
    Weights,
    resolved,
)
from fleetfoot.cli.pixels import (
    INPUT,
    ChannelOrder,
    CropPct,
    Interpolation,
    Mean,
    PixelScale,
    Std,
    overrides,
)
from fleetfoot.cli.status import working
from fleetfoot.errors import visible
from fleetfoot.interrupts import asked_to_stop, exit_code, name_of
from fleetfoot.streams import echo, echo_data, echo_json, results

if TYPE_CHECKING:
    from fleetfoot.predict import Prediction

BAR = 20
"""Width of the bar for a probability of 1, in characters."""

ENGINE = "The engine"


def predict(
    model: Model,
    images: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, patterns, or - for standard input (a picture, or a path a line)."
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON line for each picture.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print one CSV line for each guess.")
    ] = False,
    topk: Annotated[int, typer.Option(min=1, help="Number of guesses for each picture.")] = 5,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="File of class names, one a line, or JSON. Default: ImageNet's for 1,000 classes."
        ),
    ] = None,
    truth: Annotated[
        str | None,
        typer.Option(
            help="Where the true class is found, to report the accuracy: the file's 'stem', its "
            "'folder', or a CSV or JSON file of path and class. Default: no accuracy."
        ),
    ] = None,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    key: Key = None,
    pretrained: Pretrained = None,
    accept_licence: AcceptLicence = False,
    num_classes: Annotated[
        int | None,
        typer.Option(help="Number of classes. Default: the network's own.", rich_help_panel=PANEL),
    ] = None,
    option: Option = None,
    fold: Annotated[
        bool,
        typer.Option(help="Fold batch norms and linear branches first.", rich_help_panel=PANEL),
    ] = True,
    engine: Annotated[
        str | None,
        typer.Option(
            help="Engine to run; 'fleetfoot engines' lists them, 'auto' measures which is fastest. "
            "Default: eager for up to 32 pictures, since others take seconds to build; otherwise "
            "what 'auto' measured before, or the first of native, openvino, onnxruntime and eager "
            "that runs the network.",
            autocompletion=complete.engine_or_auto,
            rich_help_panel=ENGINE,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of threads. Default: all usable cores.", rich_help_panel=ENGINE
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(min=1, help="Batch size, in pictures.", rich_help_panel=ENGINE)
    ] = 8,
    crop_pct: CropPct = None,
    interpolation: Interpolation = None,
    mean: Mean = None,
    std: Std = None,
    channel_order: ChannelOrder = None,
    pixel_scale: PixelScale = None,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Most pixels (width × height) of a picture that is opened.",
            rich_help_panel=INPUT,
        ),
    ] = None,
) -> None:
    """Classify pictures, and report the accuracy if the true classes are known.

    Exit code: 0 if all pictures were classified, 1 if some could not be used, 2 if none could.
    """
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other")

    with working(f"loading {model}"):
        from fleetfoot.cores import usable_cores
        from fleetfoot.data.images import MAX_PIXELS
        from fleetfoot.data.sources import find_images
        from fleetfoot.errors import UnknownNameError
        from fleetfoot.evaluate.score import fingerprint, measured_top1
        from fleetfoot.network import is_file, is_weights
        from fleetfoot.predict import Predictor, truth_by
        from fleetfoot.tasks.classify import Accuracy

    # Pillow warns of odd metadata on stderr; a picture's faults are reported in its own line
    warnings.filterwarnings("ignore", module=r"PIL\.")
    true_class = truth_by(truth) if truth else None
    found = list(find_images(images))
    classes = [] if num_classes is None else [f"num_classes={num_classes}"]
    if pretrained is False and not (weights or is_file(model) or is_weights(model)):
        echo("the weights are random, so the names mean nothing", err=True)
    with working(f"loading {model}") as say:
        network = resolved(
            model,
            size=size,
            inputs=inputs,
            channels=channels,
            weights=weights,
            key=key,
            pretrained=pretrained,
            by_default=True,
            accept_licence=accept_licence,
            option=[*(option or ()), *classes],
        )
        network.image("predict")
        say(f"folding {model}, and building its engine")
        predictor = Predictor.of(
            network.module,
            engine=engine,
            threads=threads or usable_cores(),
            batch=min(batch, len(found)),
            pictures=len(found),
            fold=fold,
            labels=labels,
            preprocess=network.preprocess(
                **overrides(
                    size=size,
                    crop_pct=crop_pct,
                    interpolation=interpolation,
                    mean=mean,
                    std=std,
                    channel_order=channel_order,
                    pixel_scale=pixel_scale,
                )
            ),
        )
    show = _json if as_json else _csv() if as_csv else _card()
    named = failed = 0
    accuracy, without_truth = Accuracy(), []
    judged: list[tuple[str, str]] = []
    stopped = ""
    started = time.perf_counter()
    try:
        with asked_to_stop() as stop, _progress(len(found)) as advance:
            for prediction in predictor(found, topk=topk, max_pixels=max_pixels or MAX_PIXELS):
                show(prediction)
                for note in prediction.notes:
                    echo(f"{visible(prediction.path)}: {note}", err=True)
                advance()
                if prediction.error:
                    failed += 1
                else:
                    named += 1
                if true_class and not prediction.error:
                    name = true_class(prediction.path)
                    try:
                        accuracy.update(prediction.topk, predictor.labels.index(name))
                        judged.append((prediction.path, name))
                    except UnknownNameError:
                        without_truth.append(prediction.path)
                if stopped := stop.name:
                    break
    except KeyboardInterrupt as second:
        stopped = name_of(second)
    seconds = time.perf_counter() - started

    summary = f"{named} named, {failed} failed"
    if stopped:
        summary += f", {len(found) - named - failed} not reached"
    info = predictor.engine.info
    plural = "" if info.threads == 1 else "s"
    if named:
        summary += f"; {named / seconds:.1f} images/s ({info.name}, {info.threads} thread{plural})"
    echo(summary, err=True)
    if accuracy.images:
        score = measured_top1(
            model,
            network.size,
            accuracy,
            data=f"{accuracy.images} pictures with a true class by {truth}",
            fingerprint=fingerprint(judged),
            engine=info.name,
            form="folded" if fold else "as given",
        )
        best = f", top-{topk} {accuracy.top(topk):.1f} %" if topk > 1 else ""
        echo(f"{score}{best} of {accuracy.images} pictures", err=True)
    if without_truth:
        echo(
            f"{len(without_truth)} of no known class, the first {visible(without_truth[0])}",
            err=True,
        )
    if stopped:
        raise typer.Exit(exit_code(stopped))
    if failed:
        raise typer.Exit(1 if named else 2)


def _json(prediction: Prediction) -> None:
    echo_json(prediction.record())


def _csv() -> Callable[[Prediction], None]:
    def write(*row: object) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(row)
        echo_data(line.getvalue(), end="")

    def show(prediction: Prediction) -> None:
        if prediction.error:
            write(prediction.path, "", "", "", "", prediction.error)
        for rank, guess in enumerate(prediction.topk, 1):
            probability = f"{guess.probability:.6f}"
            write(prediction.path, rank, guess.index, guess.label, probability, "")

    write("path", "rank", "index", "label", "probability", "error")
    return show


def _card() -> Callable[[Prediction], None]:
    """Prints a card for people: the path, then a bar for each guess, or the error."""
    from rich.text import Text

    from fleetfoot.report.kit.terminal import console

    out = console()

    def show(prediction: Prediction) -> None:
        card = Text.assemble((visible(prediction.path), "bold"))
        if prediction.error:
            card.append("\n  ").append(visible(prediction.error), "red")
        for guess in prediction.topk:
            eighths = round(guess.probability * BAR * 8)
            bar = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8]
            card.append(f"\n  {100 * guess.probability:5.1f} %  ").append(
                f"{bar:{BAR + 1}}", "cyan"
            )
            card.append(f" {visible(guess.label)}")
        out.print(card, soft_wrap=True)

    return show


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr; none if the results appear on the same terminal."""
    shown = results()
    if not sys.stderr.isatty() or (shown is not None and shown.isatty()):
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from fleetfoot.report.kit.terminal import console

    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
