"""Options that take several values, and paths that a command will write."""

from __future__ import annotations

import os
from pathlib import Path

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


def check_output(file: Path | None, *, folder: bool = False, option: str = "--output") -> None:
    """Checks that ``file`` can be written, before the work whose result it will hold. Missing
    folders are made when it is written, so the nearest one that exists decides.

    Args:
        folder: a folder will be written, with files in it.

    Raises:
        typer.BadParameter: it cannot be written; the message names ``option`` and says why.
    """
    if file is None:
        return
    if file.is_dir() and not folder:
        raise typer.BadParameter(f"{option} {file} is a folder; name a file in it")
    if file.exists() and folder and not file.is_dir():
        raise typer.BadParameter(f"{option} {file} is a file, not a folder")
    place = file.absolute() if folder else file.absolute().parent
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        raise typer.BadParameter(f"{option} {file} cannot be written: {place} is not a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise typer.BadParameter(f"{option} {file} cannot be written: no permission in {place}")
