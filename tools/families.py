"""``docs/families.md``: one network of each family of timm, and whether the native engine takes it.

    python -m tools.families docs/families.md benchmarks/families.json    # makes the page
    python -m tools.families --try benchmarks/families.json               # tries what is left
    python -m tools.families --try benchmarks/families.json edgenext vgg  # tries these again

A family is a module of ``timm.models``. Its network is the one with the fewest parameters whose own
size of picture takes less than 6 GMACs; timm's networks for tests (``test_*``) are left out. Each
network is folded and compiled as ``fleetfoot compile`` does it, in a process of its own, with fresh
weights, and its answer is compared with eager's. The record is written after each one, so a run
that is broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import timm
import torch

import fleetfoot.engines.native.compile  # noqa: F401  (imported once, not in each process)
from fleetfoot.count import trace
from fleetfoot.engines import load
from fleetfoot.errors import FleetfootError
from fleetfoot.explain.explanation import folded
from fleetfoot.files import read_json, write_text
from fleetfoot.network import resolve
from fleetfoot.report import update_between_markers
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.report.summary import digits

LIMIT = 6e9
"""Multiply-adds of a network, at most."""
SECONDS = 900
"""Time for one network, at most."""
PACKAGES = ("torch", "timm", "fleetfoot")


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What became of one family's network."""

    family: str
    network: str
    """"" if none of the family is small enough."""
    size: tuple[int, ...] = ()
    """Channels, height and width of its picture."""
    macs: int = 0
    error: float | None = None
    """Largest difference of the engine's answer from eager's, relative to the largest value; None
    if there is no plan."""
    redrawn: float | None = None
    """The same with the parameters that a fresh network has at nearly zero drawn anew; None if it
    has none."""
    reason: str = ""
    """Why there is no plan."""

    @property
    def counts(self) -> bool:
        """Whether the family has a network that is small enough."""
        return bool(self.network)

    @property
    def done(self) -> bool:
        return not self.counts or self.error is not None or bool(self.reason)


@dataclass(frozen=True, kw_only=True)
class Families:
    """The record: what was tried, with these versions."""

    versions: dict[str, str]
    families: tuple[Tried, ...]


def read(file: Path) -> Families:
    """Raises RecordError: the file is not such a record."""
    return read_json(file, Families)


# ---- Trying


def smallest(family: str) -> Tried:
    """The family's network: the fewest parameters of those below the limit."""

    def built(name: str) -> torch.nn.Module:
        with torch.device("meta"):
            return timm.create_model(name).eval()

    sizes: dict[str, int] = {}
    for name in timm.list_models(module=family):
        if not name.startswith("test_"):
            sizes[name] = sum(parameter.numel() for parameter in built(name).parameters())
    for name in sorted(sizes, key=lambda one: (sizes[one], one)):
        module = built(name)
        config: Any = module.pretrained_cfg
        size = tuple(config["input_size"])
        with torch.no_grad():
            macs = trace(module, torch.empty(1, *size, device="meta")).macs
        if macs < LIMIT:
            return Tried(family=family, network=name, size=size, macs=macs)
        if macs > 4 * LIMIT:
            break  # larger ones of a family do more
    return Tried(family=family, network="")


def tried(one: Tried) -> Tried:
    """The network compiled and compared, in this process."""
    try:
        made = resolve(f"timm:{one.network}")
        example = made.image("native")
        made, _ = folded(made)
        with load("native", made.module, example=example) as engine:
            agreement = engine.agreement
            assert agreement is not None, "load compares every engine"
            return replace(one, error=agreement.error, redrawn=agreement.redrawn, reason="")
    except FleetfootError as error:
        return replace(one, error=None, redrawn=None, reason=" ".join(str(error).split()))


def _in_a_process(one: Tried) -> Tried:
    """``tried`` in a process of its own; if that dies or takes too long, this is the reason."""
    context = multiprocessing.get_context("fork")  # what is imported here is imported there
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(one, theirs))
    process.start()
    theirs.close()
    try:
        if not ours.poll(SECONDS):
            return replace(one, reason=f"it took more than {SECONDS} s")
        found: Tried = ours.recv()
        return found
    except EOFError:
        process.join()
        return replace(one, reason=f"the process died with status {process.exitcode}")
    finally:
        process.kill()
        process.join()


def _send(one: Tried, to: Connection) -> None:
    to.send(tried(one))


def survey(file: Path, again: Sequence[str] = ()) -> None:
    """Tries the families that have no result in the record yet, and these ``again``."""
    torch.set_num_threads(1)
    known = {one.family: one for one in read(file).families} if file.exists() else {}
    for family in timm.list_modules():
        if family not in known:
            known[family] = smallest(family)
            _write(file, known)
    wanted = list(again) or [family for family, one in known.items() if not one.done]
    for number, family in enumerate(wanted, 1):
        began = time.monotonic()
        known[family] = found = _in_a_process(known[family])
        _write(file, known)
        took = f"{time.monotonic() - began:.0f} s"
        said = found.reason or f"{found.error:.1e}"
        print(f"{number} of {len(wanted)} {family} {found.network}: {said} ({took})", flush=True)


def _write(file: Path, known: dict[str, Tried]) -> None:
    versions = {package: version(package) for package in PACKAGES}
    rows = tuple(known[family] for family in sorted(known))
    record = Families(versions=versions, families=rows)
    write_text(file, json.dumps(asdict(record), indent=1) + "\n")


# ---- The page


def markdown(record: Families) -> str:
    """What was tried with which versions, the networks left with their reasons, all of them."""
    counted = [one for one in record.families if one.counts]
    waiting = [one.family for one in counted if not one.done]
    taken = [one for one in counted if one.error is not None]
    left = [one for one in counted if one.reason]
    absent = [one.family for one in record.families if not one.counts]
    versions = ", ".join(f"{name} {number}" for name, number in record.versions.items())
    parts = [
        f"**{len(taken)} of {len(counted) - len(waiting)}** families compile and agree with eager "
        f"({versions}).",
    ]
    if waiting:
        parts.append(f"{len(waiting)} families are not tried yet: {', '.join(waiting)}.")
    if left:
        rows = [(one.family, one.network, one.reason) for one in left]
        head = ("family", "network", "reason")
        parts += ["## Left", "\n".join(markdown_table(head, rows, left=(0, 1, 2)))]
    figures = [
        (
            one.family,
            one.network,
            " × ".join(map(str, one.size[1:])),
            digits(one.macs / 1e6),
            "" if one.error is None else f"{one.error:.1e}",
            "" if one.redrawn is None else f"{one.redrawn:.1e}",
        )
        for one in taken
    ]
    titles = ("family", "network", "size", "MMACs", "error", "error, redrawn")
    parts += ["## Taken", "\n".join(markdown_table(titles, figures, left=(0, 1)))]
    parts.append(f"No network below {LIMIT / 1e9:g} GMACs: {', '.join(absent)}.")
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--try", action="store_true", dest="trying", help="add to the record")
    parser.add_argument("names", nargs="+", help="PAGE RECORD; with --try RECORD [FAMILY ...]")
    given = parser.parse_args(arguments)
    if given.trying:
        survey(Path(given.names[0]), given.names[1:])
    else:
        document, file = given.names
        changed = update_between_markers(document, markdown(read(Path(file))))
        print(f"{document}: {'updated' if changed else 'already what the record gives'}")


if __name__ == "__main__":
    main()
