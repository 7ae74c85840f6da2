"""What a large file of labels holds, kept in the cache until the file changes. To read the
labels of COCO's training pictures takes tens of seconds; to read what was kept, about one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.numpy import save_file

from fleetfoot import __version__
from fleetfoot.data.masks import Masks
from fleetfoot.data.objects import ObjectTable
from fleetfoot.data.pictures import Texts
from fleetfoot.files import cache_folder, replacing

LEAST_BYTES = 32 * 2**20
"""Size of the smallest file whose content is kept; a smaller one is read in a second or two."""

log = logging.getLogger("fleetfoot")


@dataclass(frozen=True, eq=False)
class Content:
    """What a file of labels holds."""

    names: Texts
    """Paths of the pictures, as the file states them."""
    classes: tuple[str, ...]
    table: ObjectTable
    notes: tuple[str, ...]


def kept(path: str, make: Callable[[], Content]) -> Content:
    """The content of a file of labels: from the cache if it was kept since the file changed last,
    or what ``make`` reads, which is kept then."""
    try:
        state = os.stat(path)
    except OSError:
        return make()  # which says what is wrong
    if state.st_size < LEAST_BYTES:
        return make()
    whole = os.path.realpath(path)
    question = json.dumps([whole, state.st_size, state.st_mtime_ns, __version__])
    # one file for each path, so that a newer content replaces the one before
    name = hashlib.blake2b(whole.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
    file = cache_folder() / "labels" / f"{name}.safetensors"
    if (found := _read(file, question)) is not None:
        return found
    content = make()
    try:
        _write(file, question, content)
    except OSError as error:
        log.warning("labels: %s cannot be kept in %s: %s", path, file.parent, error)
    return content


def _write(file: Path, question: str, content: Content) -> None:
    table = content.table
    arrays = {
        one.name: getattr(table, one.name)
        for one in fields(table)
        if one.name not in ("noun", "files", "masks", "rows")
    }
    if table.masks is not None:
        arrays |= {
            f"masks.{one.name}": getattr(table.masks, one.name) for one in fields(table.masks)
        }
    rest = {
        "names": list(content.names),
        "classes": content.classes,
        "notes": content.notes,
        "noun": table.noun,
        "files": list(table.files),
    }
    with replacing(file) as draft:
        save_file(arrays, draft, {"question": question, "rest": json.dumps(rest)})


def _read(file: Path, question: str) -> Content | None:
    """The kept content that answers the question, or None if there is none."""
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="numpy") as opened:
            stated = opened.metadata()
            if stated["question"] != question:
                return None
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}
        rest: dict[str, Any] = json.loads(stated["rest"])
        of_masks = {
            name.removeprefix("masks."): arrays.pop(name)
            for name in list(arrays)
            if name.startswith("masks.")
        }
        table = ObjectTable(
            **arrays,
            noun=rest["noun"],
            files=Texts(rest["files"]),
            masks=Masks(**of_masks) if of_masks else None,
        )
        if int(table.starts[-1]) != len(table.boxes) or len(table) != len(rest["names"]):
            raise ValueError("its parts do not fit each other")
    except Exception as error:  # anything that a file's content leads to
        log.warning("labels: %s is not valid and will be replaced: %s", file, error)
        return None
    return Content(Texts(rest["names"]), tuple(rest["classes"]), table, tuple(rest["notes"]))
