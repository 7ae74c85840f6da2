"""The options that state how a picture becomes a network's input, the same for every command."""

from __future__ import annotations

from typing import Annotated, Any

import typer

INPUT = "The input (default: the network's own settings)"

CropPct = Annotated[
    float | None,
    typer.Option(
        help="Share of the resized side that the centre crop keeps.", rich_help_panel=INPUT
    ),
]
Interpolation = Annotated[
    str | None,
    typer.Option(help="Filter of the resize: 'bilinear' or 'bicubic'.", rich_help_panel=INPUT),
]
Mean = Annotated[
    str | None,
    typer.Option(
        help="Mean to subtract: one number, or three such as 0.5,0.5,0.5.", rich_help_panel=INPUT
    ),
]
Std = Annotated[
    str | None,
    typer.Option(help="Deviation to divide by: one number, or three.", rich_help_panel=INPUT),
]
ChannelOrder = Annotated[
    str | None,
    typer.Option(help="Order of the channels: 'rgb' or 'bgr'.", rich_help_panel=INPUT),
]
PixelScale = Annotated[
    float | None,
    typer.Option(help="Factor on each byte, before mean and std.", rich_help_panel=INPUT),
]


def overrides(
    *,
    size: str | None,
    crop_pct: float | None,
    interpolation: str | None,
    mean: str | None,
    std: str | None,
    channel_order: str | None,
    pixel_scale: float | None,
) -> dict[str, Any]:
    """The fields of ``Preprocess`` that these options state; None for those that are not given."""
    from fleetfoot.network import parse_size

    return {
        "size": None if size is None else parse_size(size),
        "crop_pct": crop_pct,
        "interpolation": interpolation,
        "mean": _channels("mean", mean),
        "std": _channels("std", std),
        "channel_order": channel_order,
        "pixel_scale": pixel_scale,
    }


def _channels(name: str, text: str | None) -> tuple[float, ...] | None:
    """The three numbers of an option's text: ``0.5`` -> (0.5, 0.5, 0.5)."""
    if text is None:
        return None
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        raise typer.BadParameter(
            f"--{name} takes numbers such as 0.5,0.5,0.5, not {text!r}"
        ) from None
    return values * 3 if len(values) == 1 else values
