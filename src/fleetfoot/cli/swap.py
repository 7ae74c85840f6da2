"""``fleetfoot swap``: a network's convolutions replaced by PConv and a 1×1, before and after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, cast

import typer


def swap(
    model: Annotated[
        str,
        typer.Argument(
            help="A name, as 'timm:resnet18' or 'mobilenetv2_100', or your own as "
            "'path.py:factory'."
        ),
    ],
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
    weights: Annotated[Path | None, typer.Option(help="A file of weights to start from.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start from the published weights.")
    ] = False,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Yes to weights for research only.")
    ] = False,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Input height and width; the network's own without it, or 224."),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images a pass.")] = 1,
    channels: Annotated[int, typer.Option(min=1, help="Channels of the input.")] = 3,
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
    if measure and channels != 3:
        raise typer.BadParameter(
            f"--channels {channels}: times are taken on images of 3; add --no-measure"
        )

    import torch

    from fleetfoot.cores import check_threads
    from fleetfoot.measure import pair
    from fleetfoot.measure.run import check_engines
    from fleetfoot.network import is_file, native_size
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
    torch.manual_seed(seed)
    given = _network(model, weights, pretrained, accept_licence)
    pixels = size or (224 if is_file(model) else native_size(model))
    swapped = swap_in(given, torch.zeros(batch, channels, pixels, pixels), options)
    if output is not None:
        swap_file.save(swapped, output, base=model, overwrite=force)
    times = None
    if measure:
        times = pair.measure(
            given,
            swapped.model,
            engine=engine,
            name=model,
            changed_name=f"{model}, swapped",
            threads=threads,
            batch=batch,
            size=pixels,
        )
    if as_json:
        asked = {"model": model, "batch": batch, "channels": channels, "size": pixels}
        latency = times and times.record()
        typer.echo(json.dumps({**asked, **swapped.record(), "latency": latency}))
    else:
        title = f"{model}, input ({batch}, {channels}, {pixels}, {pixels})"
        print_swap(console(), swapped, title, times)
    if output is not None:
        typer.echo(
            f"{output}: {len(swapped.kept) + len(swapped.new)} tensors; "
            "fleetfoot.transform.swap_file.load builds the network from it",
            err=True,
        )


def _network(model: str, weights: Path | None, pretrained: bool, accept_licence: bool) -> Any:
    from fleetfoot.models import create_model
    from fleetfoot.network import create, is_file
    from fleetfoot.weights.files import read
    from fleetfoot.weights.loading import load

    if not is_file(model):
        return create_model(
            model, pretrained=pretrained, weights=weights, accept_licence=accept_licence
        )
    if pretrained:
        raise typer.BadParameter(
            f"--pretrained: nobody published weights of {model}; --weights takes a file"
        )
    made = create(model)
    if weights is not None:
        load(made, read(weights))
    return made
