"""``fleetfoot models``, ``info``, ``engines``, ``fuse``, ``compile``: what there is, what folding
does, and plans for the native engine."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

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

Json = Annotated[bool, typer.Option("--json", help="One record for programs instead of a card.")]


def models(
    patterns: Annotated[
        list[str] | None, typer.Argument(help="Shell patterns, as 'fastvit_*'; all without one.")
    ] = None,
    family: Annotated[str | None, typer.Option(help="Only this family.")] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Only those with published weights.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the networks of the zoo."""
    from fleetfoot.models import list_models

    names = list_models(patterns or "*", family=family, pretrained=pretrained)
    typer.echo(json.dumps(names) if as_json else "\n".join(names))
    if not names:
        typer.echo(f"no model matches {' '.join(patterns or [])!r}", err=True)
        raise typer.Exit(1)


def info(
    model: Model,
    as_json: Json = False,
) -> None:
    """Say what is known of a network: size, feature maps, published weights and their terms."""
    from fleetfoot.models import model_info
    from fleetfoot.network import is_file, is_weights

    if is_file(model) or is_weights(model):
        _info_of_a_file(model, as_json)
        return
    found = model_info(model)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    top1 = "not published" if found.top1 is None else f"{found.top1} % ({found.top1_source})"
    maps = ", ".join(f"{m.channels} at stride {m.reduction}" for m in found.feature_info)
    rows = {
        "family": found.family,
        "paper": found.paper,
        "parameters": f"{found.params:,}",
        "top-1": top1,
        "feature maps": maps,
        "weights": ", ".join(
            f"{w.tag} ({w.licence or 'licence not stated'})" for w in found.pretrained
        ),
        "options": ", ".join(f"{k}={v}" for k, v in asdict(found.config).items())
        if found.config
        else "",
    }
    for name, text in rows.items():
        typer.echo(f"{name:12}  {text or 'none'}")


def _info_of_a_file(model: str, as_json: bool) -> None:
    """What a network that has no published facts shows of itself: learned values and input."""
    made = resolved(model)
    params = sum(parameter.numel() for parameter in made.module.parameters())
    if as_json:
        family = made.facts.family
        typer.echo(json.dumps({**made.record(), "family": family, "params": params}))
        return
    rows = {"family": made.facts.family or "your own", "parameters": f"{params:,}"}
    for name, text in {**rows, "input": made.describe()}.items():
        typer.echo(f"{name:12}  {text}")


def engines(as_json: Json = False) -> None:
    """List the engines, and why one is absent."""
    from fleetfoot.engines import available

    found = available()
    if as_json:
        typer.echo(json.dumps(found))
        return
    width = max(len(name) for name in found)
    for name, reason in found.items():
        typer.echo(f"{name:{width}}  {'available' if reason is None else reason}")


def fuse(
    model: Model,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    option: Option = None,
    as_json: Json = False,
) -> None:
    """Fold a network's batch norms and linear branches, and print the certificate."""
    from fleetfoot.network import is_file
    from fleetfoot.transform import fuse as fold

    made = resolved(
        model, size=size, inputs=inputs, channels=channels, weights=weights, option=option
    )
    # what is proved does not depend on the size, so fuse takes a small one if none is asked for
    stated = is_file(model) or size or inputs or channels
    fused = fold(made.module, made.arguments if stated else None)
    if as_json:
        typer.echo(json.dumps(fused.record()))
    else:
        typer.echo(fused.summary())


def compile_plan(
    model: Model,
    output: Annotated[
        Path | None, typer.Option(help="The plan's file. Default: the network's name and .plan.")
    ] = None,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    pretrained: Pretrained = None,
    accept_licence: AcceptLicence = False,
    option: Option = None,
) -> None:
    """Fold a network and write its plan, which fleetfoot.runtime and C programs run."""
    from fleetfoot.engines.native import save_plan
    from fleetfoot.explain.explanation import folded

    made = resolved(
        model,
        size=size,
        inputs=inputs,
        channels=channels,
        weights=weights,
        pretrained=pretrained,
        by_default=True,
        accept_licence=accept_licence,
        option=option,
    )
    example = made.image("native")
    made, note = folded(made)
    if note:
        typer.echo(f"{model}: {note}", err=True)
    file = output or Path(f"{plan_stem(model)}.plan")
    agreement = save_plan(made.module, example, file)
    shape = ", ".join(map(str, example.shape[1:]))
    typer.echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB, input (B, {shape}); {agreement}")


def plan_stem(model: str) -> str:
    """The name of a network as that of a file in the working folder.

    >>> plan_stem("timm:resnet18"), plan_stem("nets/mine.py:Net(depth=2)"), plan_stem("a/best.pth")
    ('timm-resnet18', 'mine-Net-depth-2', 'best')
    """
    if ".py:" in model:
        path, _, factory = model.partition(".py:")
        model = f"{Path(path).name}-{factory}"
    elif "/" in model or Path(model).is_file():
        model = Path(model).stem
    return re.sub(r"[^\w.+]+", "-", model).strip("-")
