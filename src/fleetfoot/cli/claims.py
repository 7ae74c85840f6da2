"""``fleetfoot claims``: try the papers' claims again on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.bench import again, output_folder
from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output, split_names
from fleetfoot.interrupts import exit_code
from fleetfoot.streams import echo, echo_json


def claims(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Claims: names or shell patterns, for example 'g*'. Default: all.",
        ),
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(
            help="Engines to measure, for example 'eager,native', or 'all'. Default: "
            "eager, onnxruntime, openvino, native.",
            autocompletion=complete.engines,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of threads of every engine.")] = 1,
    seconds: Annotated[
        float | None,
        typer.Option(help="Time in seconds after which no new experiment begins. Default: 720."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the record. Default: bench-results/TIME-claims."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --output.")] = False,
    record: Annotated[
        Path | None,
        typer.Option(help="Measure nothing: judge the record in this folder again."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            help="Write a Markdown page with everything; its pictures lie beside the record."
        ),
    ] = None,
    times: Annotated[
        bool, typer.Option("--times", help="Show the two times of each ratio too.")
    ] = False,
    listed: Annotated[
        bool, typer.Option("--list", help="List the claims, and measure nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record instead of tables.")
    ] = False,
) -> None:
    """Try the papers' claims again: the paper's figure, this machine's, and the verdict."""
    if record is not None and (output is not None or resume):
        raise typer.BadParameter("--record excludes --output and --resume: it measures nothing")

    check_output(page, option="--page")
    with working("loading"):
        from fleetfoot.claims import chosen
        from fleetfoot.claims.base import verdict
        from fleetfoot.claims.measure import DEFAULT_S, Result, measure
        from fleetfoot.files import write_text
        from fleetfoot.measure.record import read, read_failures
        from fleetfoot.report import claims as cards
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.live import Progress

    wanted = chosen(names or ())
    if listed:
        if as_json:
            echo_json(cards.list_record(wanted))
        else:
            cards.print_list(console(), wanted)
        return
    if record is not None:
        folder = record if record.is_dir() else record.parent
        done = Result(read(record), read_failures(record), "", 0)
    else:
        folder = output_folder(output, resume, "claims")
        with Progress(console(stderr=True)) as progress:
            done = measure(
                wanted,
                engines=None if engines is None else split_names(engines),
                threads=threads,
                seconds=DEFAULT_S if seconds is None else seconds,
                output=folder,
                resume=resume,
                on_event=progress,
            )
    found = [verdict(claim, done.measurements, done.failures) for claim in wanted]
    pictures = cards.save(found, folder)
    if page is not None and done.measurements:
        text = cards.markdown(found, done.measurements, done.failures, pictures, page)
        write_text(page, text)
    if as_json:
        echo_json(cards.record(found))
    else:
        cards.print_claims(console(), found, times=times)
    echo(f"record and pictures: {folder}", err=True)
    if done.interrupted:
        echo(f"ended early by {done.interrupted}; continue with: {again(folder)}", err=True)
        raise typer.Exit(exit_code(done.interrupted))
    if done.not_reached:
        echo(
            f"no time for {done.not_reached} experiments; continue with: {again(folder)}", err=True
        )
    if not done.measurements:
        raise typer.Exit(1)
