"""``fleetfoot explain``: what each layer of a network takes, beside the least that it could."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fleetfoot.cli.network import Channels, Inputs, Model, Option, Size, Weights, resolved


def explain(
    model: Model,
    engine: Annotated[
        str, typer.Option(help="'native', 'eager', 'onnxruntime' or 'openvino'.")
    ] = "native",
    threads: Annotated[int, typer.Option(min=1, help="Of the engine.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images a run.")] = 1,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    option: Option = None,
    fold: Annotated[
        bool, typer.Option("--fold/--no-fold", help="Fold batch norms and branches first.")
    ] = True,
    depth: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Names of a module's path that are kept, layers below added up; the slowest "
            "layers, each for itself, without it.",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time to spend on runs.")] = 5.0,
    html: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="A file for one page with the roofline, the time by module, and every layer.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One record for programs, with every layer.")
    ] = False,
) -> None:
    """Explain the latency of a network: the time of each layer beside its floor on this machine.

    Weights are random and the image is noise: times do not depend on them. The machine is measured
    once, ten seconds a thread count, and remembered.
    """
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
        option=option,
    ).with_noise()
    example = made.image(engine)  # before it is folded, which takes time
    made, fold_note = folded(made) if fold else (made, "")
    with Counter(console(stderr=True), "measuring the machine") as counter:
        ceilings = machine(threads, on_round=counter)
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
        typer.echo(to_json(found))
    else:
        print_card(console(), found, depth=depth)
    if html is not None:
        write_text(html, explain_page.html(found))
        typer.echo(f"page: {html}", err=True)
