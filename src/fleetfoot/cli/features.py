"""``fleetfoot features``: a layer's feature maps of a picture, and their similarity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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


def features(
    model: Model,
    image: Annotated[Path | None, typer.Argument(help="A picture; not needed with --list.")] = None,
    layer: Annotated[
        str | None,
        typer.Option(
            help="Module path, as --list shows it. Default: the last of the second stage."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="PNG file to write. Default: features.png.")
    ] = None,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    key: Key = None,
    pretrained: Pretrained = None,
    accept_licence: AcceptLicence = False,
    option: Option = None,
    listed: Annotated[
        bool, typer.Option("--list", help="List the layers with their shapes, and exit.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record instead of a card.")
    ] = False,
) -> None:
    """Draw a layer's feature maps of a picture and the matrix of their similarities."""
    if image is None and not listed:
        raise typer.BadParameter("name a picture, or --list to see the layers")

    if not listed:
        check_output(output or Path("features.png"))
    with working(f"loading {model}"):
        from fleetfoot.data.images import open_image
        from fleetfoot.models.maps import default_layer, layers, maps_of, similarity
        from fleetfoot.network import is_file, is_weights, parse_size, size_text
        from fleetfoot.report import features as drawn
        from fleetfoot.report.plots import save_figure

        made = resolved(
            model,
            size=size,
            inputs=inputs,
            channels=channels,
            weights=weights,
            key=key,
            pretrained=pretrained,
            by_default=not listed,
            accept_licence=accept_licence,
            option=option,
        )
    built = made.module
    example = made.image("features")
    if listed:
        found = layers(built, example)
        if as_json:
            echo_json([vars(one) for one in found])
        else:
            for one in found:
                shape = " × ".join(map(str, one.shape[1:]))
                echo(f"{one.path or '(the network)'}  {one.kind}  {shape}")
        return
    assert image is not None
    preprocess = made.preprocess(size=None if size is None else parse_size(size))
    x = preprocess(open_image(image).image)[None]
    path = layer if layer is not None else default_layer(built, x)
    maps = maps_of(built, path, x)
    alike = similarity(maps)
    if weights is not None or is_weights(model):
        said = f"weights of {Path(model).name if weights is None else weights.name}"
    elif is_file(model):
        said = "weights from the factory"
    elif pretrained is False:
        said = "RANDOM WEIGHTS: the maps show nothing learnt"
    else:
        said = "published weights"
    target = output or Path("features.png")
    count, height, width = maps.shape
    title = f"{model}, {path}: {count} maps of {height} × {width}"
    notes = f"{image.name}, {size_text(preprocess.size)} pixels; {said}"
    save_figure(drawn.features_figure(maps, alike, title, notes), target)
    if as_json:
        record = {
            "model": model,
            "layer": path,
            "image": str(image),
            "size": preprocess.size,
            "weights": said,
            "shape": list(maps.shape),
            "neighbour_similarity": _number(alike.neighbours),
            "pair_similarity": _number(alike.pairs),
            "alike_share": _number(alike.alike),
            "constant_channels": list(alike.constant),
            "output": str(target),
        }
        echo_json(record)
    else:
        echo(f"{title}\n{drawn.summary(alike)}\n{notes}")
        echo(f"wrote {target}", err=True)


def _number(value: float) -> float | None:
    """The value, or None for NaN, which JSON lacks: there are no two maps to compare."""
    return None if value != value else value
