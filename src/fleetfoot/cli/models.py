"""``fleetfoot models``, ``info``, ``engines``, ``fuse`` and ``compile``: list what there is, fold a
network, and write its plan for the native engine."""

from __future__ import annotations

import re
from dataclasses import asdict
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

Json = Annotated[bool, typer.Option("--json", help="Print one JSON record instead of a card.")]


def models(
    patterns: Annotated[
        list[str] | None,
        typer.Argument(help="Shell patterns, for example 'fastvit_*'. Default: all networks."),
    ] = None,
    family: Annotated[
        str | None, typer.Option(help="List only this family. Default: all families.")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="List only networks with published weights.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the networks of the zoo."""
    from fleetfoot.models import list_models

    names = list_models(patterns or "*", family=family, pretrained=pretrained)
    if as_json:
        echo_json(names)
    elif names:
        echo("\n".join(names))
    if not names:
        echo(f"no model matches {' '.join(patterns or [])!r}", err=True)
        raise typer.Exit(1)


def info(
    model: Model,
    as_json: Json = False,
) -> None:
    """Show a network's size, feature maps, published weights and their licences."""
    with working(f"reading about {model}"):
        from fleetfoot.models import model_info
        from fleetfoot.network import is_file, is_weights

        found = None if is_file(model) or is_weights(model) else model_info(model)
    if found is None:
        _info_of_a_file(model, as_json)
        return
    if as_json:
        echo_json(asdict(found))
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
    _print_rows({name: text or "none" for name, text in rows.items()})


def _print_rows(named: dict[str, str]) -> None:
    from fleetfoot.report.kit.terminal import console, rows

    console().print(rows(named))


def _info_of_a_file(model: str, as_json: bool) -> None:
    """Prints what a network without published facts shows of itself: parameters and input."""
    with working(f"loading {model}"):
        made = resolved(model)
    params = sum(parameter.numel() for parameter in made.module.parameters())
    if as_json:
        family = made.facts.family
        echo_json({**made.record(), "family": family, "params": params})
        return
    rows = {"family": made.facts.family or "your own", "parameters": f"{params:,}"}
    _print_rows({**rows, "input": made.describe()})


def engines(as_json: Json = False) -> None:
    """List the engines, with the reason for each that is not available."""
    from fleetfoot.engines import available

    found = available()
    if as_json:
        echo_json(found)
        return
    _print_rows({name: "available" if why is None else why for name, why in found.items()})


def fuse(
    model: Model,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    key: Key = None,
    option: Option = None,
    as_json: Json = False,
) -> None:
    """Fold a network's batch norms and linear branches, and print the certificate."""
    with working(f"loading {model}") as say:
        from fleetfoot.network import is_file
        from fleetfoot.transform import fuse as fold

        made = resolved(
            model,
            size=size,
            inputs=inputs,
            channels=channels,
            weights=weights,
            key=key,
            option=option,
        )
        say(f"folding {model} and proving it")
        # the proof does not depend on the size, so fuse uses a small one by default
        stated = is_file(model) or size or inputs or channels
        fused = fold(made.module, made.arguments if stated else None)
    if as_json:
        echo_json(fused.record())
    else:
        from fleetfoot.report.kit.terminal import console

        for line in fused.summary().splitlines():
            console().print(line, soft_wrap=True)


def compile_plan(
    model: Model,
    output: Annotated[
        Path | None,
        typer.Option(help="The plan's file. Default: NETWORK.plan in the working folder."),
    ] = None,
    size: Size = None,
    inputs: Inputs = None,
    channels: Channels = None,
    weights: Weights = None,
    key: Key = None,
    pretrained: Pretrained = None,
    accept_licence: AcceptLicence = False,
    option: Option = None,
) -> None:
    """Fold a network and write its plan, which fleetfoot.runtime and C programs run."""
    file = output or Path(f"{plan_stem(model)}.plan")
    check_output(file)
    with working(f"loading {model}") as say:
        from fleetfoot.engines.native import save_plan
        from fleetfoot.explain.explanation import folded

        made = resolved(
            model,
            size=size,
            inputs=inputs,
            channels=channels,
            weights=weights,
            key=key,
            pretrained=pretrained,
            by_default=True,
            accept_licence=accept_licence,
            option=option,
        )
        example = made.image("native")
        say(f"folding {model}")
        made, note = folded(made)
        if note:
            echo(f"{model}: {note}", err=True)
        say(f"compiling {model}, and comparing the plan with eager")
        agreement = save_plan(made.module, example, file)
    shape = ", ".join(map(str, example.shape[1:]))
    echo(f"{file}: {file.stat().st_size / 1e6:.1f} MB, input (B, {shape}); {agreement}")


def plan_stem(model: str) -> str:
    """A network's name made fit to be a file's name.

    >>> plan_stem("timm:resnet18"), plan_stem("nets/mine.py:Net(depth=2)"), plan_stem("a/best.pth")
    ('timm-resnet18', 'mine-Net-depth-2', 'best')
    """
    if ".py:" in model:
        path, _, factory = model.partition(".py:")
        model = f"{Path(path).name}-{factory}"
    elif "/" in model or Path(model).is_file():
        model = Path(model).stem
    return re.sub(r"[^\w.+]+", "-", model).strip("-")
