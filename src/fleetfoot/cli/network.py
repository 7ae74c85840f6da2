"""The options that name a network, the same for every command, and the network that they mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetfoot.cli import complete

if TYPE_CHECKING:
    from fleetfoot.network import Workload

PANEL = "The network"

FORMS = (
    "A name, for example 'fastvit_t8', 'timm:resnet18' or 'ssdlite:fasternet_t0'; your own as "
    "'path.py:factory' or 'path.py:Net(depth=2)'; or a file of weights."
)

Model = Annotated[str, typer.Argument(help=FORMS, autocompletion=complete.networks)]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS",
        help="Input size: 256, or 256x192 (height x width). Default: the network's own, or 224.",
        rich_help_panel=PANEL,
    ),
]
Inputs = Annotated[
    str | None,
    typer.Option(
        metavar="SHAPES",
        help="Every input of a network that takes several, or no image: name, shape and type "
        "(default: float32), for example x=1x3x8,m=8:bool.",
        rich_help_panel=PANEL,
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Channels of the input image. Default: what the network's first layer takes.",
        rich_help_panel=PANEL,
    ),
]
Weights = Annotated[
    Path | None,
    typer.Option(help="A file of weights for the network. Default: none.", rich_help_panel=PANEL),
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="ENTRY",
        help="Part of the file of weights, for example model_ema. Default: the part whose keys are "
        "the network's; averaged weights before others.",
        rich_help_panel=PANEL,
    ),
]
Pretrained = Annotated[
    bool | None,
    typer.Option(
        "--pretrained/--no-pretrained",
        help="Fetch the published weights; --weights names a file instead.",
        rich_help_panel=PANEL,
    ),
]
AcceptLicence = Annotated[
    bool,
    typer.Option(
        "--accept-licence",
        help="Accept a licence that allows research only.",
        rich_help_panel=PANEL,
    ),
]
Option = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=VALUE",
        help="A field of the network's configuration, for example small_input=true; repeatable.",
        rich_help_panel=PANEL,
    ),
]


def resolved(
    model: str,
    *,
    size: str | None = None,
    inputs: str | None = None,
    channels: int | None = None,
    batch: int = 1,
    weights: Path | None = None,
    key: str | None = None,
    pretrained: bool | None = None,
    by_default: bool = False,
    accept_licence: bool = False,
    option: list[str] | None = None,
    seed: int = 0,
) -> Workload:
    """The network that these options mean. ``by_default``: fetch published weights, if there are
    any, when neither ``pretrained`` nor ``weights`` is given."""
    from fleetfoot.network import is_file, is_weights, resolve

    nameless = is_file(model) or is_weights(model)
    if pretrained and nameless:
        raise typer.BadParameter(
            f"--pretrained: nobody published weights of {model}; --weights takes a file"
        )
    fetch = (by_default if pretrained is None else pretrained) and not nameless
    return resolve(
        model,
        size=size,
        inputs=inputs,
        channels=channels,
        batch=batch,
        weights=weights,
        key=key,
        pretrained=fetch and weights is None,
        accept_licence=accept_licence,
        options=dict(map(option_pair, option or ())),
        seed=seed,
    )


def one_image(
    command: str, size: str | None, inputs: str | None, channels: int | None
) -> tuple[str | None, int | None]:
    """Size and channels, as given or as ``inputs`` states them, for a command that runs several
    networks on one image each.

    Raises:
        EngineError: ``inputs`` are not one image in float32; the message names ``command``.
    """
    if inputs is None:
        return size, channels
    if size is not None or channels is not None:
        raise typer.BadParameter(
            "--inputs states whole shapes; give no --size or --channels with it"
        )
    import torch

    from fleetfoot.errors import EngineError
    from fleetfoot.network import parse_inputs

    (first, *others) = parse_inputs(inputs).values()
    if others or first.ndim != 4 or first.dtype != torch.float32:
        raise EngineError(
            f"{command} runs networks of one input (B, C, H, W) in float32, not {inputs}"
        )
    return f"{first.shape[2]}x{first.shape[3]}", first.shape[1]


def option_pair(text: str) -> tuple[str, Any]:
    """The name and value of ``small_input=true``; a value that is not JSON is taken as text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"--option takes name=value, not {text!r}")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value
