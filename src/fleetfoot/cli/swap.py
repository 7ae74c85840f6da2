"""``fleetfoot swap``: replace convolutions by PConv and a 1×1, and compare before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.network import (
    AcceptLicence,
    Channels,
    Inputs,
    Key,
    Model,
    Option,
    Pretrained,
    Size,
    Weights,
    resolved,
)
from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output
from fleetfoot.streams import echo, echo_json


def swap(
    model: Model,
    conv: Annotated[str, typer.Option(help="Replacement: 'pconv' is the only one.")] = "pconv",
    which: Annotated[
        str, typer.Option(help="Convolutions to replace: 'depthwise', 'grouped', 'plain' or 'all'.")
    ] = "all",
    kernel: Annotated[
        list[int] | None,
        typer.Option(help="Kernel size of those to replace; repeatable. Default: 3."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Module paths to replace, for example 'layer3.*'; repeatable. Default: all.",
        ),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Module paths to leave; repeatable.")
    ] = None,
    ratio: Annotated[
        int, typer.Option(min=1, help="The PConv convolves channels / RATIO channels.")
    ] = 4,
    pointwise: Annotated[
        str,
        typer.Option(
            help="The 1×1 after the PConv: 'new'; or 'own', the 1×1 that already follows a "
            "depthwise convolution, after its norm and activation."
        ),
    ] = "new",
    strided: Annotated[
        bool, typer.Option("--strided", help="Replace strided ones too; the 1×1 gets the stride.")
    ] = False,
    init: Annotated[
        str,
        typer.Option(help="Weights of new layers: 'fresh', or 'fit' to the old by least squares."),
    ] = "fresh",
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    key: Key = None,
    pretrained: Pretrained = None,
    accept_licence: AcceptLicence = False,
    option: Option = None,
    batch: Annotated[int, typer.Option(min=1, help="Batch size, in images.")] = 1,
    engine: Annotated[
        str,
        typer.Option(
            help="Engine on which both networks are measured.", autocompletion=complete.engine
        ),
    ] = "native",
    threads: Annotated[int, typer.Option(min=1, help="Number of threads of the engine.")] = 1,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure/--no-measure", help="Time both networks in turns, for half a minute."
        ),
    ] = True,
    seed: Annotated[
        int, typer.Option(help="Seed of the new layers, and of weights not given.")
    ] = 0,
    output: Annotated[
        Path | None,
        typer.Option(help="Safetensors file for the new network's weights. Default: none."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUTPUT if it exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record instead of a card.")
    ] = False,
) -> None:
    """Replace convolutions by PConv and a 1×1, and report what this costs and saves."""
    if output is not None and output.exists() and not force:
        raise typer.BadParameter(f"--output {output} exists already; --force replaces it")
    check_output(output)

    with working(f"loading {model}"):
        import torch

        from fleetfoot.cores import check_threads
        from fleetfoot.measure import pair
        from fleetfoot.measure.grid import check_engines
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.swaps import print_swap
        from fleetfoot.transform import SwapOptions, swap_file
        from fleetfoot.transform import swap as swap_in

    options = SwapOptions(
        conv=conv,
        which=cast(Any, which),
        kernels=tuple(kernel or (3,)),
        only=tuple(only or ()),
        skip=tuple(skip or ()),
        ratio=ratio,
        pointwise=cast(Any, pointwise),
        strided=strided,
        init=cast(Any, init),
    )
    if measure:  # a wrong name is reported before the work
        check_engines([engine])
        check_threads(threads)
    with working(f"loading {model}") as say:
        given = resolved(
            model,
            size=size,
            inputs=inputs,
            channels=channels,
            batch=batch,
            weights=weights,
            key=key,
            pretrained=pretrained,
            accept_licence=accept_licence,
            option=option,
            seed=seed,
        )
        image = given.image(engine) if measure else None  # an unsuitable input: before the work
        torch.manual_seed(seed)
        say(f"replacing convolutions of {model}")
        swapped = swap_in(given.module, given.arguments, options)
        if output is not None:
            swap_file.save(swapped, output, base=model, overwrite=force)
        times = None
        if image is not None:
            say(f"measuring {model} before and after, for half a minute")
            times = pair.measure(
                given.module,
                swapped.model,
                engine=engine,
                name=model,
                changed_name=f"{model}, swapped",
                threads=threads,
                batch=len(image),
                size=given.size,
                channels=image.shape[1],
            )
    if as_json:
        latency = times and times.record()
        echo_json({**given.record(), **swapped.record(), "latency": latency})
    else:
        title = f"{model}, input {given.describe()}"
        print_swap(console(), swapped, title, times)
    if output is not None:
        echo(
            f"{output}: {len(swapped.kept) + len(swapped.new)} tensors; "
            "fleetfoot.transform.swap_file.load builds the network from it",
            err=True,
        )
