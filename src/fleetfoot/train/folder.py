"""The folder of a run: its checkpoints, and which of them stay.

==============================  ==================================================================
``checkpoints/update-N...``     the last ones, and the one with the highest accuracy
``best.safetensors``            the checkpoint with the highest accuracy, under a name that stays
``last.safetensors``            the last checkpoint, likewise
``args.yaml``, ``summary.csv``, ``curves.png``, ``events.jsonl``   see ``train.journal``
==============================  ==================================================================
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from fleetfoot.errors import CheckpointError, CorruptFileError, RecordError
from fleetfoot.files import flush_folder, locked
from fleetfoot.train import checkpoint
from fleetfoot.train.checkpoint import Checkpoint

CHECKPOINTS = "checkpoints"
BEST, LAST = "best.safetensors", "last.safetensors"
LOCK = ".lock"
_locks: set[IO[Any]] = set()
"""Open files of the locks that this process holds."""
_NAME = re.compile(r"update-(\d{8,})\.safetensors")


class Folder:
    """One run's folder. Only one process at a time may hold it (``held``)."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def checkpoints(self) -> Path:
        return self.path / CHECKPOINTS

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder if there is none, and keeps other runs out of it while this lasts.

        Raises:
            CheckpointError: it cannot be written to, or another run holds it.
        """
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            file = (self.path / LOCK).open("a")
        except OSError as error:
            raise CheckpointError(
                f"{self.path} cannot take a run: {error.strerror}; name another folder (--output)"
            ) from error
        with file, contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(file))
            except RecordError as error:
                raise CheckpointError(f"two runs cannot share a folder: {error}") from None
            _locks.add(file)
            try:
                yield
            finally:
                _locks.discard(file)

    def files(self) -> list[tuple[int, Path]]:
        """Update and path of every checkpoint, in order."""
        found = []
        if self.checkpoints.is_dir():
            for path in self.checkpoints.iterdir():
                if matched := _NAME.fullmatch(path.name):
                    found.append((int(matched[1]), path))
        return sorted(found)

    def save(self, made: Checkpoint, *, keep: int) -> Path:
        """Writes a checkpoint; then removes those that are neither among the last ``keep`` nor the
        best.

        Raises:
            CheckpointError: it cannot be written; the others are as they were.
        """
        update = made.training.update
        path = self.checkpoints / checkpoint.file_name(update)
        self._remove_drafts()
        checkpoint.write(path, made)
        self.tidy(made, keep=keep)
        return path

    def tidy(self, made: Checkpoint, *, keep: int) -> None:
        """Brings names and number of the files to what the state ``made``, the newest, says: after
        a crash between two steps too. Files of later updates, which a run left that went back, are
        removed."""
        update = made.training.update
        best = made.training.best
        files = dict(self.files())
        if update in files:
            _link(files[update], self.path / LAST)
        if best is not None and best.update in files:
            _link(files[best.update], self.path / BEST)
        earlier = [number for number in files if number <= update]
        stay = {*earlier[-max(1, keep) :], *([best.update] if best else [])}
        for number, path in files.items():
            if number not in stay:
                path.unlink(missing_ok=True)

    def last_good(self, say: Callable[[str], None]) -> tuple[Path, Checkpoint] | None:
        """The newest checkpoint that is whole, or None if there is none at all. ``say`` is given a
        sentence for each that is torn or damaged.

        Raises:
            CheckpointError: checkpoints are there, but none is whole; or the newest whole one is of
                another version.
        """
        files = self.files()
        for _, path in reversed(files):
            try:
                return path, checkpoint.read(path)
            except CorruptFileError as error:
                say(f"{error}; it is passed over")
        if files:
            raise CheckpointError(
                f"none of the {len(files)} checkpoints in {self.checkpoints} is whole, so the run "
                "cannot go on; begin again in another folder"
            )
        return None

    def _remove_drafts(self) -> None:
        """Removes what a process that was killed while it wrote has left."""
        for path in (*self.checkpoints.glob(".*.part"), *self.path.glob(".*.part")):
            path.unlink(missing_ok=True)


def _leave_locks() -> None:
    """Closes the locks in a process that was just forked, for example one that decodes pictures:
    otherwise it would hold them, for a moment, after the run was killed, and a run that goes on at
    once would be refused."""
    while _locks:
        _locks.pop().close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_locks)


def _link(source: Path, name: Path) -> None:
    """Makes ``name`` a second name of the file ``source``, or a copy where the file system has no
    links, in one step."""
    with contextlib.suppress(OSError):
        if name.samefile(source):
            return
    draft = name.with_name(f".{name.name}.{secrets.token_hex(8)}.part")
    try:
        try:
            os.link(source, draft)
        except OSError:
            shutil.copyfile(source, draft)
        os.replace(draft, name)
        flush_folder(name.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CheckpointError(f"{name} cannot be written: {error.strerror}") from error
