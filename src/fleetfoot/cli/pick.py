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
            calibrated=calibrate,
            on_event=progress,
        )
    if as_json:
        typer.echo(json.dumps(record(made)))
    else:
        print_card(console(), made)
