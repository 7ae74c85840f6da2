"""``fleetfoot models``, ``info``, ``engines``, ``fuse``, ``compile``: what there is, what folding
does, and plans for the native engine."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

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
    model: Annotated[str, typer.Argument(help="A name, as 'fastvit_t8' or 'timm:ghostnet_100'.")],
    as_json: Json = False,
) -> None:
    """Say what is known of a network: size, feature maps, published weights and their terms."""
    from fleetfoot.models import model_info

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
    model: Annotated[str, typer.Argument(help="A name, as 'fastvit_t8' or 'timm:repvit_m1'.")],
    weights: Annotated[Path | None, typer.Option(help="A file of weights.")] = None,
    as_json: Json = False,
) -> None:
    """Fold a network's batch norms and linear branches, and print the certificate."""
    from fleetfoot.models import create_model
    from fleetfoot.transform import fuse as fold

    fused = fold(create_model(model, weights=weights))
    if as_json:
        typer.echo(json.dumps(fused.record()))
    else:
        typer.echo(fused.summary())


def compile_plan(
    model: Annotated[str, typer.Argument(help="A name, as 'fastvit_t8' or 'timm:resnet18'.")],
    output: Annotated[
        Path | None, typer.Option(help="The plan's file; MODEL.plan without it.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Input height and width; the network's own without it."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="A file of weights.")] = None,
    pretrained: Annotated[
        bool, typer.Option(help="Fetch the published weights, unless --weights names a file.")
    ] = True,
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Yes to weights for research only.")
    ] = False,
) -> None:
    """Fold a network and write its plan, which fleetfoot.runtime and C programs run."""
    import torch

    from fleetfoot.engines.native import save_plan
    from fleetfoot.models import create_model
    from fleetfoot.network import native_size
    from fleetfoot.transform import fuse as fold

    made: dict[str, Any] = {"weights": weights} if weights else {"pretrained": pretrained}
    if accept_licence:
        made["accept_licence"] = True
    network = fold(create_model(model, **made)).model
    pixels = size or native_size(model)
    file = output or Path(f"{model.replace(':', '-')}.plan")
    agreement = save_plan(network, torch.zeros(1, 3, pixels, pixels), file)
    typer.echo(
        f"{file}: {file.stat().st_size / 1e6:.1f} MB, input (B, 3, {pixels}, {pixels}); {agreement}"
    )
