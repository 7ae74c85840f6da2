"""``fleetfoot calibrate``: a latency model of this machine, and how good it is."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="With --check: names or shell patterns of the networks; some fifty without one."
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="'native', 'onnxruntime', 'openvino', 'eager', or 'auto', the first that is here."
        ),
    ] = "auto",
    threads: Annotated[int, typer.Option(help="Of the engine.")] = 1,
    minutes: Annotated[float, typer.Option(help="Wall time of the measurements.")] = 3.0,
    output: Annotated[
        Path | None,
        typer.Option(help="The calibration's file; one in fleetfoot's cache folder without it."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Add to the calibration that is there; with --check, go on with the check in "
            "--record.",
        ),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Measure networks that were not in the fit, and say how far off it is."
        ),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            help="With --check: folder of its record; bench-results/TIME-latency-check without it."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The record on stdout, and nothing else.")
    ] = False,
) -> None:
    """Learn from small synthetic networks what layers cost on this machine.

    'fleetfoot pick' predicts networks by it.
    """  # fmt: skip
    if not check and (names or record):
        raise typer.BadParameter("names and --record belong to --check")
    if check and resume and record is None:
        raise typer.BadParameter("--resume needs --record, the folder of the check to go on with")

    from fleetfoot.choose import calibrate as bench
    from fleetfoot.files import write_text
    from fleetfoot.measure.grid import networks
    from fleetfoot.report.kit.terminal import console
    from fleetfoot.report.latency import CHECK_FILE, print_calibration, print_check, save_picture
    from fleetfoot.report.live import Progress

    engine = bench.choose_engine(engine)
    file = output or bench.calibration_file(engine, threads)
    if not check:
        with Progress(console(stderr=True)) as progress:
            made = bench.calibrate(
                engine,
                threads=threads,
                minutes=minutes,
                output=file,
                resume=resume,
                on_event=progress,
            )
        if as_json:
            typer.echo(bench.to_json(made))
        else:
            print_calibration(console(), made, file)
        return
    stamp = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-latency-check"
    folder = record or Path("bench-results") / stamp
    calibration = bench.load(engine, threads, file)
    with Progress(console(stderr=True)) as progress:
        checked = bench.check(
            calibration,
            networks(names) if names else bench.CHECKED,
            output=folder,
            resume=resume,
            on_event=progress,
        )
    write_text(folder / CHECK_FILE, bench.to_json(checked) + "\n")
    picture = save_picture(checked, folder)
    if as_json:
        typer.echo(bench.to_json(checked))
    else:
        print_check(console(), checked)
    typer.echo(f"record and picture: {folder / CHECK_FILE}, {picture}", err=True)
