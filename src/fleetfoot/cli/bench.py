"""``fleetfoot bench``, ``compare`` and ``report``: measure, and what records say."""

from __future__ import annotations

import json
import shlex
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli.network import Channels, Inputs, Size, one_image
from fleetfoot.cli.values import numbers, split_names

SIGNALS = {"SIGINT": 130, "SIGTERM": 143}
"""Exit codes of a run that was ended early: 128 and the number of the signal, as shells have it."""


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names or shell patterns, for example 'fastvit_*' or 'timm:ghostnet_*'; your own "
            "as 'path.py:factory'; files of weights. Default: about a dozen networks."
        ),
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(
            help="As 'eager,native', or 'all', of which some build for a minute a network; the "
            "protocol's without it, as eager,onnxruntime,openvino,native."
        ),
    ] = None,
    threads: Annotated[
        str | None, typer.Option(help="One number or more, as '1,2'; the protocol's without it.")
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="One number or more, as '1,32'; the protocol's without it."),
    ] = None,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="'default', 'fasternet' (batch 1 and 32, one thread), 'peers' (every engine, in "
            "an hour or more) or 'quick'."
        ),
    ] = "default",
    seconds: Annotated[
        float | None, typer.Option(help="Wall time of the run; the protocol's without it.")
    ] = None,
    device: Annotated[str, typer.Option(help="'cpu' or 'cuda'.")] = "cpu",
    precision: Annotated[
        str, typer.Option(help="'float32', or what an engine offers.")
    ] = "float32",
    layout: Annotated[str, typer.Option(help="'nchw' or 'nhwc'.")] = "nchw",
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="Fold batch norms and branches first.")
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder of the results; bench-results/TIME-PROTOCOL without it."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output, asked for alike.")
    ] = False,
    all_engines: Annotated[
        bool, typer.Option("--all", help="Show every engine, not only the fastest of each network.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="The records on stdout, a line each, and nothing else.")
    ] = False,
) -> None:
    """Measure which networks are really fast on this machine."""
    from functools import partial

    from fleetfoot.measure import bench as benchmark
    from fleetfoot.measure.grid import Grid
    from fleetfoot.measure.networks import prepare
    from fleetfoot.measure.pace import Pace
    from fleetfoot.measure.record import to_json
    from fleetfoot.measure.run import Form, Tools
    from fleetfoot.report import join, print_starts, print_tables, save
    from fleetfoot.report.kit.terminal import console
    from fleetfoot.report.live import Progress

    size, channels = one_image("bench", size, inputs, channels)
    folder = output_folder(output, resume, protocol)
    grid = Grid.named(
        protocol,
        models=models or (),
        engines=None if engines is None else split_names(engines),
        threads=numbers("--threads", threads),
        batches=numbers("--batch", batch),
        size=size,
    )
    with Progress(console(stderr=True)) as progress:
        done = benchmark.bench(
            grid,
            Pace.named(protocol, budget_s=seconds),
            form=Form(fold=fold, precision=precision, layout=layout, device=device),
            output=folder,
            resume=resume,
            on_event=progress,
            tools=Tools(networks=partial(prepare, channels=channels)),
        )
    if done.measurements:
        rows = join(done.measurements, done.scores)
        save(rows, done.failures, folder, done.starts)
        if as_json:
            typer.echo("\n".join(to_json(m) for m in done.measurements))
        else:
            print_tables(console(), rows, done.failures, all_engines=all_engines)
            print_starts(console(), done.starts)
        typer.echo(f"record, CSV, plots and page: {folder / 'index.html'}", err=True)
    if done.interrupted:
        typer.echo(f"ended early by {done.interrupted}; go on with: {again(folder)}", err=True)
        raise typer.Exit(SIGNALS[done.interrupted])
    if not done.measurements:
        reasons = "".join(f"\n  {f.model} on {f.engine}: {f.reason}" for f in done.failures)
        typer.echo(f"nothing could be measured{reasons}", err=True)
        raise typer.Exit(1)


def output_folder(output: Path | None, resume: bool, protocol: str) -> Path:
    """Where the results go: a folder that is new or empty, unless a run is resumed."""
    if resume and output is None:
        raise typer.BadParameter("--resume needs --output, the folder of the run to go on with")
    if output is None:
        return Path("bench-results") / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{protocol}"
    if not resume and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise typer.BadParameter(
            f"--output {output} is not empty; name a new folder, or go on with the run in it by "
            "--resume"
        )
    return output


def again(folder: Path) -> str:
    """The command line that resumes this run."""
    given = sys.argv[1:]
    where = [] if "--output" in given else ["--output", str(folder)]
    return shlex.join(["fleetfoot", *given, *where, *([] if "--resume" in given else ["--resume"])])


def compare(
    before: Annotated[Path, typer.Argument(help="A record, or the folder of a run.")],
    after: Annotated[Path, typer.Argument(help="Another, of the same cells.")],
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="The machines may differ.")
    ] = False,
    fail_if_slower: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            min=0,
            help="Exit with 1 where a cell is slower by more, beyond noise.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One record for programs instead of a table.")
    ] = False,
) -> None:
    """Say what is faster, by how much, and whether that is more than noise."""
    from fleetfoot.measure.compare import compare as compare_records
    from fleetfoot.measure.record import read
    from fleetfoot.report import print_comparison
    from fleetfoot.report.kit.terminal import console

    found = compare_records(read(before), read(after), across_machines=across_machines)
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    else:
        print_comparison(console(), found)
    if fail_if_slower is not None and (slower := found.slower_than(fail_if_slower)):
        typer.echo(f"{len(slower)} cells are slower by more than {fail_if_slower:g} %", err=True)
        raise typer.Exit(1)


def report(
    record: Annotated[Path, typer.Argument(help="A record, or the folder of a run.")],
    output: Annotated[
        Path | None, typer.Option(help="Where to; the record's own folder without it.")
    ] = None,
    readme: Annotated[
        Path | None,
        typer.Option(help="Put the table between the results markers of this file, and no more."),
    ] = None,
    all_engines: Annotated[
        bool, typer.Option("--all", help="Every engine, not only the fastest of each network.")
    ] = False,
) -> None:
    """Make the tables, plots and page again from a record."""
    from fleetfoot.measure.record import read_failures, read_starts
    from fleetfoot.report import (
        markdown,
        print_starts,
        print_tables,
        read_joined,
        save,
        update_between_markers,
    )
    from fleetfoot.report.kit.terminal import console

    rows, failures, starts = read_joined(record), read_failures(record), read_starts(record)
    if readme is not None:
        changed = update_between_markers(readme, markdown(rows))
        typer.echo(f"{readme}: {'updated' if changed else 'already what the record gives'}")
        return
    folder = output or (record if record.is_dir() else record.parent)
    written = save(rows, failures, folder, starts)
    print_tables(console(), rows, failures, all_engines=all_engines)
    print_starts(console(), starts)
    for file in written:
        typer.echo(f"wrote {file}", err=True)
