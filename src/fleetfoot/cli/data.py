"""``fleetfoot data``: what a data set holds, before a network is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output
from fleetfoot.interrupts import asked_to_stop, exit_code
from fleetfoot.streams import echo, echo_json


def data(
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="[PATH]",
            help="Folder of class folders (with or without train, val and test), WebDataset tar "
            "shards or a pattern of them, CSV or JSONL file of paths and labels, or a Hugging Face "
            "set saved on disk. Default: scikit-learn's digits.",
        ),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Count, and read the headers of a sample, instead of opening all."
        ),
    ] = False,
    size: Annotated[
        int,
        typer.Option(min=1, help="Size for training, in pixels: smaller pictures are counted."),
    ] = 224,
    val_share: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=0.99,
            help="Share of train that becomes the validation part if there is none; 0 for none. "
            "Default: 0.1.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of that split.")] = 0,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Threads that open pictures. Default: all usable cores."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write an HTML page too: contact sheet by class, copies side by side, unreadable "
            "pictures. Default: no page.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record.")] = False,
) -> None:
    """Look at a data set before training: classes, sizes, unreadable pictures, copies across parts.

    The layout is recognised. Every picture is opened as training opens it; Ctrl-C ends that early
    and reports what was seen.

    Exit code: 0 if nothing is wrong; 1 if a picture cannot be read, if a file is in two parts or in
    two classes; 2 if this is no data set.
    """
    check_output(html, option="--html")
    with working("reading the data set"):
        from fleetfoot.data.concerns import concerns
        from fleetfoot.data.inspection import inspect
        from fleetfoot.data.layouts import open_dataset
        from fleetfoot.files import write_text
        from fleetfoot.report import data_page
        from fleetfoot.report.datasets import print_card
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.live import Counter

        dataset = open_dataset(where, val_share=val_share, seed=seed)
    with asked_to_stop() as asked, Counter(console(stderr=True), "") as counter:
        found = inspect(
            dataset,
            size=size,
            quick=quick,
            threads=threads,
            on_progress=lambda words, done, of: counter(done, of, words),
            stop=lambda: bool(asked.name),
        )
        page = None if html is None else data_page.html(found, dataset, on_progress=counter)
    said = concerns(found)
    if as_json:
        texts = [{"level": one.level, "text": one.text} for one in said]
        echo_json(found.record() | {"concerns": texts})
    else:
        print_card(console(), found)
    if html is not None and page is not None:
        write_text(html, page)
        echo(f"page: {html}", err=True)
    if asked.name:
        raise typer.Exit(exit_code(asked.name))
    if any(one.level == "wrong" for one in said):
        raise typer.Exit(1)
