"""``fleetfoot claims``: what papers assert, tried again on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli.bench import SIGNALS, again, output_folder
from fleetfoot.cli.values import split_names


def claims(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAMES]...", help="Names or shell patterns, as 'g*'; all without."),
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(
            help="As 'eager,native', or 'all'; eager,onnxruntime,openvino,native without it."
        ),
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of every engine.")] = 1,
    seconds: Annotated[
        float | None,
        typer.Option(help="After which no experiment begins; 720 without it."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the record; bench-results/TIME-claims without it."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output.")
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(help="Measure nothing: judge the record in this folder again."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(help="Write everything as a page of Markdown; pictures lie by the record."),
    ] = None,
    times: Annotated[
        bool, typer.Option("--times", help="Show what each ratio is made of too.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="What there is to try.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One record for programs instead of tables.")
    ] = False,
) -> None:
    """Try again what the papers assert: their figure, this machine's, and the verdict."""
    if record is not None and (output is not None or resume):
        raise typer.BadParameter("--record excludes --output and --resume: it measures nothing")

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
            typer.echo(json.dumps(cards.list_record(wanted)))
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
        typer.echo(json.dumps(cards.record(found)))
    else:
        cards.print_claims(console(), found, times=times)
    typer.echo(f"record and pictures: {folder}", err=True)
    if done.interrupted:
        typer.echo(f"ended early by {done.interrupted}; go on with: {again(folder)}", err=True)
        raise typer.Exit(SIGNALS[done.interrupted])
    if done.not_reached:
        typer.echo(
            f"no time for {done.not_reached} experiments; go on with: {again(folder)}", err=True
        )
    if not done.measurements:
        raise typer.Exit(1)
