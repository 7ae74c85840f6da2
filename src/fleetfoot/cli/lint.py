"""``fleetfoot lint``: check a network against the rules and a time limit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.network import FORMS, Channels, Inputs, Key, Option, Size, Weights, resolved
from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output
from fleetfoot.streams import echo, echo_json


def lint(
    model: Annotated[
        str | None,
        typer.Argument(help=FORMS, autocompletion=complete.networks),
    ] = None,
    max_ms: Annotated[
        float | None,
        typer.Option(min=0, help="Longest latency allowed, in milliseconds. Default: no limit."),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="Engine to measure: 'native', 'eager', 'onnxruntime' or 'openvino'.",
            autocompletion=complete.timed_engine,
        ),
    ] = "native",
    threads: Annotated[int, typer.Option(min=1, help="Number of threads of the engine.")] = 1,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    key: Key = None,
    option: Option = None,
    disable: Annotated[
        list[str] | None,
        typer.Option(metavar="RULE=REASON", help="A rule to disable, with the reason; repeatable."),
    ] = None,
    min_price_ms: Annotated[
        float | None,
        typer.Option(
            min=0, help="Smallest price of a finding to report, in milliseconds. Default: all."
        ),
    ] = None,
    measure: Annotated[
        bool,
        typer.Option("--measure/--no-measure", help="Measure the layers, or take their floors."),
    ] = True,
    machine_file: Annotated[
        Path | None,
        typer.Option(
            "--machine",
            metavar="FILE",
            help="Rates of a machine, as 'fleetfoot machine --json' prints them. With --no-measure "
            "the verdict is then the same on every run and machine. Default: this machine's rates.",
        ),
    ] = None,
    fold: Annotated[
        bool,
        typer.Option("--fold/--no-fold", help="Fold batch norms and branches before checking."),
    ] = True,
    rules: Annotated[bool, typer.Option("--rules", help="List the rules, and exit.")] = False,
    check_prices: Annotated[
        bool,
        typer.Option(
            "--check-prices",
            help="Measure what each rule's change saves on the engine, and compare its price.",
        ),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the record of --check-prices. Default: none is kept."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON record.")] = False,
) -> None:
    """Check a network; exit with code 1 if it breaks a rule or takes too long.

    Settings come from the table tool.fleetfoot.lint of the nearest pyproject.toml; options override
    them.
    """
    if rules:
        _list_rules(as_json)
        return
    if check_prices:
        _check_prices(engine, threads, output, as_json)
        return
    if output is not None:
        raise typer.BadParameter("--output is only for the record of --check-prices")
    if model is None:
        raise typer.BadParameter("name a network, or list the rules with --rules")

    with working(f"loading {model}"):
        from fleetfoot.explain.explanation import folded
        from fleetfoot.explain.lint import Settings, read_settings
        from fleetfoot.explain.lint import lint as run
        from fleetfoot.machine.measured import machine, read_machine
        from fleetfoot.report.findings import print_lint
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.live import Counter

    kept = read_settings()
    settings = Settings(
        max_ms=kept.max_ms if max_ms is None else max_ms,
        min_price_ms=kept.min_price_ms if min_price_ms is None else min_price_ms,
        disable={**kept.disable, **_reasons(disable or [])},
    )
    rates = None if machine_file is None else read_machine(machine_file, threads)
    with working(f"loading {model}") as say:
        made = resolved(
            model,
            size=size,
            inputs=inputs,
            channels=channels,
            weights=weights,
            key=key,
            option=option,
        )
        example = made.image(engine) if measure else made.arguments
        if fold:
            say(f"folding {model}")
            made, note = folded(made)
            if note:
                echo(f"{model}: {note}", err=True)
    if rates is None:
        with Counter(console(stderr=True), "measuring the machine") as counter:
            rates = machine(threads, on_round=counter)
    with working(f"checking {model}"):
        found = run(
            made.module,
            example,
            machine=rates,
            engine=engine,
            settings=settings,
            measure=measure,
            name=model,
        )
    if as_json:
        echo_json(found.as_json())
    else:
        print_lint(console(), found)
    if not found.passed:
        raise typer.Exit(1)


def _reasons(given: list[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, _, reason = text.partition("=")
        found[name.strip()] = reason.strip().strip("\"'")
    return found


def _list_rules(as_json: bool) -> None:
    from dataclasses import asdict

    from fleetfoot.explain.rules import RULES
    from fleetfoot.report.findings import print_rules
    from fleetfoot.report.kit.terminal import console

    if as_json:
        rows = [{k: v for k, v in asdict(r).items() if k != "check"} for r in RULES.values()]
        echo_json(rows)
    else:
        print_rules(console())


def _check_prices(engine: str, threads: int, output: Path | None, as_json: bool) -> None:
    check_output(output, folder=True)
    from dataclasses import asdict

    from fleetfoot.explain import price_check
    from fleetfoot.machine.measured import machine
    from fleetfoot.report.findings import print_prices
    from fleetfoot.report.kit.terminal import console

    record = price_check.check_prices(
        machine(threads),
        engine=engine,
        on_rule=lambda code: echo(f"measuring {code}", err=True),
    )
    if output is not None:
        echo(f"record: {price_check.write(output, record)}", err=True)
    if as_json:
        echo_json(asdict(record))
    else:
        print_prices(console(), record)
