"""``fleetfoot features``: a layer's maps of a picture, and how alike they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fleetfoot.cli.predict import option_pair


def features(
    model: Annotated[
        str,
        typer.Argument(
            help="A name, as 'mobileone_s0' or 'timm:resnet50', or your own as 'path.py:factory'."
        ),
    ],
    image: Annotated[Path | None, typer.Argument(help="A picture; --list needs none.")] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Path of a module, as --list shows; the second stage's last without."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="The picture to write, a PNG; features.png without it.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="A file of weights.")] = None,
    pretrained: Annotated[
        bool, typer.Option(help="Fetch the published weights, unless --weights names a file.")
    ] = True,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Yes to weights for research only.")
    ] = False,
    option: Annotated[
        list[str] | None, typer.Option(help="A field of the network, as small_input=true.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=1, help="Pixels a side that the network sees.")
    ] = None,
    listed: Annotated[bool, typer.Option("--list", help="The layers, with their shapes.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One record for programs instead of a card.")
    ] = False,
) -> None:
    """Draw a layer's feature maps of a picture, and the matrix of their similarity."""
    from fleetfoot.network import is_file

    if image is None and not listed:
        raise typer.BadParameter("name a picture, or --list to see the layers")
    own = is_file(model)
    if own and (weights is not None or option):
        raise typer.BadParameter(
            f"{model} is your own file: its factory loads weights and takes options, not "
            "--weights and --option"
        )

    import torch

    from fleetfoot.data.images import open_image
    from fleetfoot.data.preprocess import Preprocess
    from fleetfoot.models.maps import default_layer, layers, maps_of, similarity
    from fleetfoot.network import network
    from fleetfoot.report import features as drawn

    made: dict[str, Any] = dict(map(option_pair, option or ()))
    if weights is not None:
        made["weights"] = weights
    elif pretrained and not own and not listed:
        made["pretrained"] = True
    if accept_licence and not own:
        made["accept_licence"] = True
    torch.manual_seed(0)
    built = network(model, **made)
    told = hasattr(built, "pretrained_cfg")
    preprocess = Preprocess.of(built, size=size) if told else Preprocess(size=size or 224)
    if listed:
        found = layers(built, torch.zeros(1, 3, preprocess.size, preprocess.size))
        if as_json:
            typer.echo(json.dumps([vars(one) for one in found]))
        else:
            for one in found:
                shape = " × ".join(map(str, one.shape[1:]))
                typer.echo(f"{one.path or '(the network)'}  {one.kind}  {shape}")
        return
    assert image is not None
    x = preprocess(open_image(image).image)[None]
    path = layer if layer is not None else default_layer(built, x)
    maps = maps_of(built, path, x)
    alike = similarity(maps)
    if own:
        said = "weights as the factory gives them"
    elif weights is not None:
        said = f"weights of {weights.name}"
    else:
        said = "published weights" if pretrained else "RANDOM WEIGHTS: the maps show nothing learnt"
    target = output or Path("features.png")
    channels, height, width = maps.shape
    title = f"{model}, {path}: {channels} maps of {height} × {width}"
    notes = f"{image.name}, {preprocess.size} pixels; {said}"
    drawn.save(target, drawn.features_figure(maps, alike, title, notes))
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
        typer.echo(json.dumps(record))
    else:
        typer.echo(f"{title}\n{drawn.summary(alike)}\n{notes}")
        typer.echo(f"wrote {target}", err=True)


def _number(value: float) -> float | None:
    """JSON has no NaN: None where there are no two maps to compare."""
    return None if value != value else value
