"""``fleetfoot data``: what a data set holds, before a network is trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
            "set saved on disk; boxes and masks as COCO JSON, YOLO text or Pascal VOC; label maps "
            "beside pictures; pictures with hands.safetensors, or 'hands' for the drawn ones. "
            "Default: scikit-learn's digits.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="What the set is for: classify, detect, segment or hand. Default: as its layout "
            "says, and detect if it has boxes and label maps.",
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
            help="Write an HTML page too: contact sheet by class, boxes, masks and classes drawn "
            "over pictures, copies side by side, unreadable pictures. Default: no page.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record.")] = False,
) -> None:
    """Look at a data set before training: classes, sizes, unreadable pictures, copies across parts,
    boxes, masks and label maps that look wrong.

    The layout is recognised. Every picture is opened as training opens it; Ctrl-C ends that early
    and reports what was seen.

    Exit code: 0 if nothing is wrong; 1 if a picture or its label cannot be used, if a file is in
    two parts or in two classes; 2 if this is no data set.
    """
    check_output(html, option="--html")
    if task not in (None, "classify", "detect", "segment", "hand"):
        raise typer.BadParameter(
            f"{task!r} is none of classify, detect, segment, hand", param_hint="--task"
        )
    with working("reading the data set"):
        from fleetfoot.data.concerns import concerns
        from fleetfoot.data.inspection import inspect
        from fleetfoot.data.layouts import open_any
        from fleetfoot.data.scene_inspection import inspect_scenes
        from fleetfoot.data.scenes import SceneSet
        from fleetfoot.data.survey import Survey
        from fleetfoot.files import write_text
        from fleetfoot.report import data_page, scene_page
        from fleetfoot.report.datasets import print_card
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.live import Counter

        dataset = open_any(where, task, val_share=val_share, seed=seed)
    with asked_to_stop() as asked, Counter(console(stderr=True), "") as counter:
        how: dict[str, Any] = {
            "size": size,
            "quick": quick,
            "threads": threads,
            "on_progress": lambda words, done, of: counter(done, of, words),
            "stop": lambda: bool(asked.name),
        }
        found: Survey
        page = None
        if isinstance(dataset, SceneSet):
            found = inspect_scenes(dataset, **how)
            if html is not None:
                page = scene_page.html(found, dataset, on_progress=counter)
        else:
            found = inspect(dataset, **how)
            if html is not None:
                page = data_page.html(found, dataset, on_progress=counter)
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
