"""Options that hold several values."""

from __future__ import annotations

import typer


def split_names(text: str) -> list[str]:
    """'eager,native' as its names."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(option: str, text: str | None) -> list[int]:
    """'1,2' as its numbers; none without a text.

    Raises:
        typer.BadParameter: a part is no whole number; ``option`` is named.
    """
    try:
        return [int(number) for number in split_names(text or "")]
    except ValueError:
        raise typer.BadParameter(f"{option} wants whole numbers, as '1,2', not {text!r}") from None
