"""Options that take several values."""

from __future__ import annotations

import typer


def split_names(text: str) -> list[str]:
    """The names in a text such as 'eager,native'."""
    return [name.strip() for name in text.split(",") if name.strip()]


def numbers(option: str, text: str | None) -> list[int]:
    """The numbers in a text such as '1,2'; none if there is no text.

    Raises:
        typer.BadParameter: a part is not a whole number; the message names ``option``.
    """
    try:
        return [int(number) for number in split_names(text or "")]
    except ValueError:
        raise typer.BadParameter(
            f"{option} takes whole numbers such as '1,2', not {text!r}"
        ) from None
