"""``fleetfoot pick``: the networks that are worth taking on this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def pick(
    max_ms: Annotated[float, typer.Option(help="Most time of a batch, in milliseconds.")],
    min_top1: Annotated[
        float, typer.Option(help="Least published ImageNet-1k top-1, in percent.")
    ] = 0.0,
    max_mb: Annotated[
        float | None, typer.Option(help="Most memory of the weights, in 10⁶ bytes.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Of the engine.")] = 1,
    engine: Annotated[
        str,
        typer.Option(
            help="'native', 'onnxruntime', 'openvino', 'eager', or 'auto', the first that is here."
        ),
    ] = "auto",
    batch: Annotated[int, typer.Option(help="Images at a time.")] = 1,
    timm: Annotated[
        str | None,
        typer.Option(help="Networks of timm to consider too: a shell pattern, or 'all'."),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK=TOP1",
            help="A network of yours to consider too, with its top-1 in percent, for example "
            "'path.py:factory=71.3'; repeatable.",
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Predict by the latency model, calibrated now where it was not yet; or by a "
            "roofline.",
        ),
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="One record for programs instead of a card.")
    ] = False,
) -> None:
    """Pick a network for this machine: as accurate as can be within a time.

    Networks are predicted, and those that may be on the front are measured. Weights play no part:
    the top-1 is the published one. The first time takes minutes, since it calibrates and folds.
    """  # fmt: skip
    from fleetfoot.choose.pick import pick as choose
    from fleetfoot.report.kit.terminal import console
    from fleetfoot.report.live import Progress
    from fleetfoot.report.pick import print_card, record

    with Progress(console(stderr=True)) as progress:
        made = choose(
            max_ms,
            min_top1=min_top1,
            max_mb=max_mb,
            threads=threads,
            engine=engine,
            batch=batch,
            timm=timm,
            own=dict(map(_with_top1, network or ())),
            calibrated=calibrate,
            on_event=progress,
        )
    if as_json:
        typer.echo(json.dumps(record(made)))
    else:
        print_card(console(), made)


def _with_top1(text: str) -> tuple[str, float]:
    """The network and the number of ``path.py:factory=71.3``; arguments of a factory may hold
    ``=`` too."""
    name, equals, top1 = text.rpartition("=")
    try:
        value = float(top1)
    except ValueError:
        value = -1.0
    if not (equals and name) or not 0 <= value <= 100:
        raise typer.BadParameter(
            f"--network takes NETWORK=TOP1, with a top-1 of 0 to 100 percent, not {text!r}"
        )
    return name, value
