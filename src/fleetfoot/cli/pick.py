"""``fleetfoot pick``: the best networks for this machine within limits."""

from __future__ import annotations

from typing import Annotated

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.status import working
from fleetfoot.streams import echo_json


def pick(
    max_ms: Annotated[
        float, typer.Option(help="Longest latency allowed for a batch, in milliseconds.")
    ],
    min_top1: Annotated[
        float, typer.Option(help="Lowest published ImageNet-1k top-1 allowed, in percent.")
    ] = 0.0,
    max_mb: Annotated[
        float | None,
        typer.Option(help="Largest memory of the weights, in 10⁶ bytes. Default: no limit."),
    ] = None,
    threads: Annotated[int, typer.Option(help="Number of threads of the engine.")] = 1,
    engine: Annotated[
        str,
        typer.Option(
            help="Engine to run: 'native', 'onnxruntime', 'openvino', 'eager', or 'auto', the "
            "first of them that is installed.",
            autocompletion=complete.modelled_engine,
        ),
    ] = "auto",
    batch: Annotated[int, typer.Option(help="Batch size, in images.")] = 1,
    timm: Annotated[
        str | None,
        typer.Option(
            help="More networks of timm to consider: a shell pattern, or 'all'. Default: none."
        ),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK=TOP1",
            help="Your own network to consider, with its top-1 in percent, for example "
            "'path.py:factory=71.3'; repeatable.",
        ),
    ] = None,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate/--no-calibrate",
            help="Predict by the latency model, which is calibrated first if necessary; or by a "
            "roofline.",
        ),
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record instead of a card.")
    ] = False,
) -> None:
    """Pick the most accurate networks that run within a time limit on this machine.

    Times are predicted, and then measured for networks that may be among the best. No weights are
    loaded: the top-1 is the published one. The first run takes three to five minutes: it
    calibrates and traces. Later ones take one or two.
    """
    with working("loading the networks"):
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
        echo_json(record(made))
    else:
        print_card(console(), made)


def _with_top1(text: str) -> tuple[str, float]:
    """The network and the number of ``path.py:factory=71.3``; the factory's arguments may contain
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
