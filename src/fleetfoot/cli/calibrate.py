"""``fleetfoot calibrate``: fit a latency model to this machine, and check how good it is."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output
from fleetfoot.streams import echo, echo_json


def calibrate(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="With --check: names or shell patterns of networks. Default: about fifty networks."
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="Engine to calibrate: 'native', 'onnxruntime', 'openvino', 'eager', or 'auto', "
            "the first of them that is installed.",
            autocompletion=complete.modelled_engine,
        ),
    ] = "auto",
    threads: Annotated[int, typer.Option(help="Number of threads of the engine.")] = 1,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Wall time of the measurements, in minutes. Default: 3, or longer if the fewest "
            "networks that a model needs take longer."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="File of the calibration. Default: a file in fleetfoot's cache folder."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Add to the existing calibration; with --check, continue the check in --record.",
        ),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a better calibration of this machine too.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Measure networks that were not in the fit, and report the errors."
        ),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            help="With --check: folder for its record. Default: bench-results/TIME-latency-check."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the record alone, as JSON.")
    ] = False,
) -> None:
    """Fit a latency model of this machine's layers to small synthetic networks.

    'fleetfoot pick' uses it to predict the times of networks.
    """
    if not check and (names or record):
        raise typer.BadParameter("names and --record belong to --check")
    if check and resume and record is None:
        raise typer.BadParameter("--resume needs --record, the folder of the check to continue")

    check_output(output)
    check_output(record, folder=True, option="--record")
    with working("loading"):
        from fleetfoot.choose import calibrate as bench
        from fleetfoot.choose import calibration_check as checks
        from fleetfoot.files import write_text
        from fleetfoot.measure.grid import networks
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.latency import (
            CHECK_FILE,
            print_calibration,
            print_check,
            save_picture,
        )
        from fleetfoot.report.live import Progress

    engine = bench.choose_engine(engine)
    file = output or bench.calibration_file(engine, threads)
    if not check:
        with Progress(console(stderr=True)) as progress:
            made = bench.calibrate(
                engine,
                threads=threads,
                minutes=minutes,
                output=output,
                resume=resume,
                force=force,
                on_event=progress,
            )
        if as_json:
            echo_json(bench.to_json(made))
        else:
            print_calibration(console(), made, file if bench.is_kept(made, file) else None)
        return
    stamp = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-latency-check"
    folder = record or Path("bench-results") / stamp
    calibration = bench.load(engine, threads, file)
    with Progress(console(stderr=True)) as progress:
        checked = checks.check(
            calibration,
            networks(names) if names else checks.CHECKED,
            output=folder,
            resume=resume,
            on_event=progress,
        )
    write_text(folder / CHECK_FILE, checks.to_json(checked) + "\n")
    picture = save_picture(checked, folder)
    if as_json:
        echo_json(checks.to_json(checked))
    else:
        print_check(console(), checked)
    echo(f"record and picture: {folder / CHECK_FILE}, {picture}", err=True)
