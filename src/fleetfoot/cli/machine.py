"""``fleetfoot machine``: measure the limits of this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from fleetfoot.cli.status import working
from fleetfoot.cli.values import numbers
from fleetfoot.streams import echo_json


def machine(
    threads: Annotated[
        str | None,
        typer.Option(
            help="Numbers of threads, for example '1,2'. Default: 1, and all usable cores."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Device to measure: 'cpu' or 'cuda'.")] = "cpu",
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again instead of using the kept result.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON line for each thread count, and nothing else."),
    ] = False,
) -> None:
    """Measure this machine: rates of operations, bandwidth of each memory level, cost of a start.

    This takes ten seconds for each thread count. The result is kept, and measured again if the
    processor or a version changes, or with --fresh.
    """
    with working("loading"):
        from fleetfoot.cores import usable_cores
        from fleetfoot.machine.measured import machine as measured
        from fleetfoot.machine.measured import to_json
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.live import Counter
        from fleetfoot.report.machine import print_card

    counts = numbers("--threads", threads) or sorted({1, usable_cores()})
    if device == "cuda":
        counts = [1]
    for count in counts:
        with Counter(
            console(stderr=True), f"measuring with {count} thread{'s' if count > 1 else ''}"
        ) as counter:
            found = measured(count, device=device, fresh=fresh, on_round=counter)
        if as_json:
            echo_json(to_json(found))
        else:
            print_card(console(), found)
