"""``fleetfoot bench``, ``compare`` and ``report``: measure networks and read the records."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.network import Channels, Inputs, Size, one_image
from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output, numbers, split_names
from fleetfoot.interrupts import exit_code
from fleetfoot.streams import echo, echo_json


def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            help="Networks: names or shell patterns, for example 'fastvit_*' or 'timm:ghostnet_*'; "
            "your own as 'path.py:factory'; files of weights. Default: about a dozen networks.",
            autocompletion=complete.networks,
        ),
    ] = None,
    engines: Annotated[
        str | None,
        typer.Option(
            help="Engines to measure, for example 'eager,native'; or 'all', some of which build "
            "for a minute a network. Default: the protocol's, eager, onnxruntime, openvino and "
            "native.",
            autocompletion=complete.engines,
        ),
    ] = None,
    threads: Annotated[
        str | None,
        typer.Option(help="Numbers of threads, for example '1,2'. Default: the protocol's."),
    ] = None,
    batch: Annotated[
        str | None,
        typer.Option(help="Batch sizes in images, for example '1,32'. Default: the protocol's."),
    ] = None,
    beside: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Numbers of cores that a loop in another process keeps busy meanwhile, for "
            "example '0,1,2'. Default: the protocol's, 0.",
        ),
    ] = None,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="What is measured and for how long: 'default', 'quick', 'fasternet' (batch 1 and "
            "32, one thread), 'beside' (one thread and two beside busy cores), or 'peers' (every "
            "engine, an hour or more).",
            autocompletion=complete.protocol,
        ),
    ] = "default",
    seconds: Annotated[
        float | None,
        typer.Option(help="Wall time of the run, in seconds. Default: the protocol's."),
    ] = None,
    device: Annotated[str, typer.Option(help="Device to run on: 'cpu' or 'cuda'.")] = "cpu",
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the computation: 'float32', or another that the engine offers."
        ),
    ] = "float32",
    layout: Annotated[
        str, typer.Option(help="Memory layout of images: 'nchw' or 'nhwc'.")
    ] = "nchw",
    fold: Annotated[
        bool,
        typer.Option("--fold/--no-fold", help="Fold batch norms and branches before measuring."),
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the results. Default: bench-results/TIME-PROTOCOL."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue the run in --output; give the same options as before."
        ),
    ] = False,
    all_engines: Annotated[
        bool,
        typer.Option("--all", help="Show every engine, not only the fastest for each network."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the records alone, one JSON line each.")
    ] = False,
) -> None:
    """Measure how fast networks run on this machine."""
    with working("loading the networks"):
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
        beside=numbers("--beside", beside),
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
            for m in done.measurements:
                echo_json(to_json(m))
        else:
            print_tables(console(), rows, done.failures, all_engines=all_engines)
            print_starts(console(), done.starts)
        echo(f"record, CSV, plots and page: {folder / 'index.html'}", err=True)
    if done.interrupted:
        echo(f"ended early by {done.interrupted}; continue with: {again(folder)}", err=True)
        raise typer.Exit(exit_code(done.interrupted))
    if not done.measurements:
        reasons = "".join(f"\n  {f.model} on {f.engine}: {f.reason}" for f in done.failures)
        echo(f"nothing could be measured{reasons}", err=True)
        raise typer.Exit(1)


def output_folder(output: Path | None, resume: bool, protocol: str) -> Path:
    """The folder for the results, which must be new or empty unless a run is resumed."""
    if resume and output is None:
        raise typer.BadParameter("--resume needs --output, the folder of the run to continue")
    if output is None:
        return Path("bench-results") / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{protocol}"
    check_output(output, folder=True)
    if not resume and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise typer.BadParameter(
            f"--output {output} is not empty; name a new folder, or continue the run in it with "
            "--resume"
        )
    return output


def again(folder: Path) -> str:
    """The command line that resumes the run in ``folder``."""
    given = sys.argv[1:]
    where = [] if "--output" in given else ["--output", str(folder)]
    return shlex.join(["fleetfoot", *given, *where, *([] if "--resume" in given else ["--resume"])])


def compare(
    before: Annotated[
        Path,
        typer.Argument(help="The earlier record of bench or eval, or the folder of its run."),
    ],
    after: Annotated[
        Path,
        typer.Argument(help="The later record of the same cells or pictures, or its folder."),
    ],
    across_machines: Annotated[
        bool, typer.Option("--across-machines", help="Allow records of different machines.")
    ] = False,
    fail_if_slower: Annotated[
        float | None,
        typer.Option(
            metavar="PERCENT",
            min=0,
            help="Exit with code 1 if a cell is slower by more than this percentage, beyond noise.",
        ),
    ] = None,
    fail_if_worse: Annotated[
        bool,
        typer.Option(
            "--fail-if-worse", help="Exit with code 1 if the accuracy is lower, beyond noise."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record instead of a table.")
    ] = False,
) -> None:
    """Compare two records: what is faster, or right more often, by how much, and whether it is more
    than noise."""
    with working("reading the record"):
        from fleetfoot.evaluate.record import by_engine, is_evaluation

        kinds = [is_evaluation(where) for where in (before, after)]
        for where in (before, after):
            if several := by_engine(where):
                raise typer.BadParameter(
                    f"{where} holds an evaluation for each engine; name one: "
                    f"{', '.join(map(str, several))}"
                )
    if kinds[0] != kinds[1]:
        raise typer.BadParameter(
            f"{after if kinds[0] else before} is a record of bench, and "
            f"{before if kinds[0] else after} one of eval; compare two of one kind"
        )
    if kinds[0]:
        if fail_if_slower is not None or across_machines:
            raise typer.BadParameter(
                "evaluations hold no times; leave --fail-if-slower and --across-machines out"
            )
        _compare_accuracy(before, after, fail_if_worse, as_json)
        return
    if fail_if_worse:
        raise typer.BadParameter("records of bench hold no accuracy; leave --fail-if-worse out")
    with working("reading the record"):
        from fleetfoot.measure.compare import compare as compare_records
        from fleetfoot.measure.record import read
        from fleetfoot.report import print_comparison
        from fleetfoot.report.kit.terminal import console

        found = compare_records(read(before), read(after), across_machines=across_machines)
    if as_json:
        echo_json(found.as_json())
    else:
        print_comparison(console(), found)
    if fail_if_slower is not None and (slower := found.slower_than(fail_if_slower)):
        echo(f"{len(slower)} cells are slower by more than {fail_if_slower:g} %", err=True)
        raise typer.Exit(1)


def _compare_accuracy(before: Path, after: Path, fail_if_worse: bool, as_json: bool) -> None:
    with working("reading the evaluations"):
        from fleetfoot.evaluate import record, task_compare, task_record
        from fleetfoot.evaluate.compare import compare as compare_evaluations
        from fleetfoot.report.evaluations import print_accuracy_comparison
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.task_evaluations import print_task_comparison

        tasks = [task_record.task_of(where) for where in (before, after)]
        if tasks[0] != tasks[1]:
            raise typer.BadParameter(
                f"{before} is an evaluation of {tasks[0]}, and {after} one of {tasks[1]}; compare "
                "two of one task"
            )
        verdict: str
        if tasks[0] == "classify":
            pair = compare_evaluations(record.read(before), record.read(after))
            verdict, raw = pair.paired.verdict, pair.as_json()
            show = partial(print_accuracy_comparison, console(), pair)
        else:
            found = task_compare.compare(task_record.read(before), task_record.read(after))
            verdict, raw = found.verdict, found.as_json()
            show = partial(print_task_comparison, console(), found)
    if as_json:
        echo_json(raw)
    else:
        show()
    if fail_if_worse and verdict == "worse":
        echo("the accuracy is lower, beyond noise", err=True)
        raise typer.Exit(1)


def report(
    record: Annotated[Path, typer.Argument(help="The record, or the folder of its run.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for the files. Default: the record's own folder.")
    ] = None,
    readme: Annotated[
        Path | None,
        typer.Option(help="Only put the table between the results markers of this file."),
    ] = None,
    all_engines: Annotated[
        bool,
        typer.Option("--all", help="Show every engine, not only the fastest for each network."),
    ] = False,
) -> None:
    """Make the tables, plots and page of a record of bench again."""
    check_output(output, folder=True)
    with working("reading the record"):
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
        echo(f"{readme}: {'updated' if changed else 'already up to date'}")
        return
    folder = output or (record if record.is_dir() else record.parent)
    written = save(rows, failures, folder, starts)
    print_tables(console(), rows, failures, all_engines=all_engines)
    print_starts(console(), starts)
    for file in written:
        echo(f"wrote {file}", err=True)
