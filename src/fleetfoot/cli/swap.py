"""``fleetfoot swap``: a network's convolutions replaced by PConv and a 1×1, before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from fleetfoot.cli.network import (
    AcceptLicence,
    Channels,
    Inputs,
    Model,
    Option,
    Pretrained,
    Size,
    Weights,
    resolved,
)


def swap(
    model: Model,
    conv: Annotated[str, typer.Option(help="What takes their place; 'pconv'.")] = "pconv",
    which: Annotated[
        str, typer.Option(help="'depthwise', 'grouped', 'plain' or 'all' convolutions.")
    ] = "all",
    kernel: Annotated[
        list[int] | None, typer.Option(help="K of those that are taken, 3 without it; repeatable.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Module paths, as 'layer3.*'; repeatable."),
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Paths to leave; repeatable.")
    ] = None,
    ratio: Annotated[
        int, typer.Option(min=1, help="The PConv convolves channels / RATIO of them.")
    ] = 4,
    pointwise: Annotated[
        str,
        typer.Option(
            help="'new', or 'own': a depthwise convolution's own 1×1 serves, behind its norm and "
            "activation."
        ),
    ] = "new",
    strided: Annotated[
        bool, typer.Option("--strided", help="Take strided ones; the 1×1 gets the stride.")
    ] = False,
    init: Annotated[
        str, typer.Option(help="'fresh', or 'fit' to the old weights by least squares.")
    ] = "fresh",
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    pretrained: Pretrained = None,
    accept_licence: AcceptLicence = False,
    option: Option = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a pass.")] = 1,
    engine: Annotated[str, typer.Option(help="To measure both on.")] = "native",
    threads: Annotated[int, typer.Option(min=1, help="Of the engine.")] = 1,
    measure: Annotated[
        bool, typer.Option("--measure/--no-measure", help="Time both, in turns, for half a minute.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of new layers, and of weights not given.")] = 0,
    output: Annotated[
        Path | None, typer.Option(help="Write the new network's weights, as .safetensors.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUTPUT if it exists.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One record for programs instead of a card.")
    ] = False,
) -> None:
    """Replace convolutions by PConv and a 1×1, and say what that costs and saves."""
    if output is not None and output.exists() and not force:
        raise typer.BadParameter(f"--output {output} exists already; --force replaces it")

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
    if measure:  # a wrong name is said before the work
        check_engines([engine])
        check_threads(threads)
    given = resolved(
        model,
        size=size,
        inputs=inputs,
        channels=channels,
        batch=batch,
        weights=weights,
        pretrained=pretrained,
        accept_licence=accept_licence,
        option=option,
        seed=seed,
    )
    image = given.image(engine) if measure else None  # said before the work
    torch.manual_seed(seed)
    swapped = swap_in(given.module, given.arguments, options)
    if output is not None:
        swap_file.save(swapped, output, base=model, overwrite=force)
    times = None
    if image is not None:
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
        typer.echo(json.dumps({**given.record(), **swapped.record(), "latency": latency}))
    else:
        title = f"{model}, input {given.describe()}"
        print_swap(console(), swapped, title, times)
    if output is not None:
        typer.echo(
            f"{output}: {len(swapped.kept) + len(swapped.new)} tensors; "
            "fleetfoot.transform.swap_file.load builds the network from it",
            err=True,
        )
