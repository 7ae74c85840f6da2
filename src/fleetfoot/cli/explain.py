"""``fleetfoot explain``: each layer's time beside its floor on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.network import Channels, Inputs, Key, Model, Option, Size, Weights, resolved
from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output
from fleetfoot.streams import echo, echo_json


def explain(
    model: Model,
    engine: Annotated[
        str,
        typer.Option(
            help="Engine to run: 'native', 'eager', 'onnxruntime' or 'openvino'.",
            autocompletion=complete.timed_engine,
        ),
    ] = "native",
    threads: Annotated[int, typer.Option(min=1, help="Number of threads of the engine.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Batch size, in images.")] = 1,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    key: Key = None,
    option: Option = None,
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="Fold batch norms and branches before the run.")
    ] = True,
    depth: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Depth of the table: layers below this level are added up. Default: the slowest "
            "layers, not added up.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time for the runs, in seconds.")] = 5.0,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write an HTML page too: roofline, time by module, all layers. Default: no page.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record with every layer.")
    ] = False,
) -> None:
    """Explain a network's latency: each layer's time beside its floor on this machine.

    The weights are random and the image is noise, because times do not depend on them. The first
    run measures the machine, which takes ten seconds for each thread count, and keeps the result.
    """
    check_output(html, option="--html")
    with working(f"loading {model}") as say:
        from fleetfoot.explain.explanation import explain as explained
        from fleetfoot.explain.explanation import folded, to_json
        from fleetfoot.files import write_text
        from fleetfoot.machine.measured import machine
        from fleetfoot.report import explain_page
        from fleetfoot.report.explain import print_card
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.live import Counter

        made = resolved(
            model,
            size=size,
            inputs=inputs,
            channels=channels,
            batch=batch,
            weights=weights,
            key=key,
            option=option,
        ).with_noise()
        example = made.image(engine)  # an unsuitable input is refused before the slow fold
        say(f"folding {model}")
        made, fold_note = folded(made) if fold else (made, "")
    with Counter(console(stderr=True), "measuring the machine") as counter:
        ceilings = machine(threads, on_round=counter)
    with working(f"building {model} on {engine}, and measuring its layers"):
        found = explained(
            made.module,
            example,
            machine=ceilings,
            engine=engine,
            threads=threads,
            name=model,
            folded=fold and not fold_note,
            fold_note=fold_note,
            seconds=seconds,
        )
    if as_json:
        echo_json(to_json(found))
    else:
        print_card(console(), found, depth=depth)
    if html is not None:
        write_text(html, explain_page.html(found))
        echo(f"page: {html}", err=True)
