"""From what a user names to the cells of a run: patterns to networks, engines to those that are
here."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from fleetfoot.engines import ENGINES, available
from fleetfoot.engines.nothing import Nothing
from fleetfoot.errors import EngineError, UnknownNameError
from fleetfoot.measure.protocols import DEFAULT_ENGINES, DEFAULT_MODELS, Protocol, Row, protocol
from fleetfoot.measure.record import Failure
from fleetfoot.measure.run import Case, cases, check_engines
from fleetfoot.models import list_models
from fleetfoot.models.peers import is_peer
from fleetfoot.network import Size, is_file, is_weights, parse_size

ALL = "all"


@dataclass(frozen=True)
class Plan:
    """What a run is to measure, and what it cannot."""

    cases: list[Case]
    protocol: Protocol
    absent: list[Failure]
    """The cells of engines that cannot be used here, each with the reason."""


def plan(
    patterns: Sequence[str] = (),
    *,
    engines: Sequence[str] | None = None,
    protocol_name: str = "default",
    threads: Sequence[int] = (),
    batches: Sequence[int] = (),
    size: Size | str | None = None,
    budget_s: float | None = None,
) -> Plan:
    """The cells that these choices mean.

    Args:
        patterns: names or shell patterns of networks; the protocol's without one.
        engines: names, or "all"; the protocol's without it. Those that cannot be used here are left
            out, with the reason.
        threads, batches: in place of the protocol's; each number with each.
        size: height and width of the input in pixels. Default: each network's own.
        budget_s: in place of the protocol's wall time.

    Raises:
        UnknownNameError: a name or a pattern that means no network, engine or protocol.
        EngineError: none of the engines can be used here; each reason is given.
        ValueError: a number out of its range.
    """
    chosen = protocol(protocol_name)
    for name, numbers in (("threads", threads), ("batch", batches)):
        if any(number < 1 for number in numbers):
            raise ValueError(f"{name} must be 1 or more, not {min(numbers)}")
    size = None if size is None else parse_size(size)
    if budget_s is not None and budget_s <= 0:
        raise ValueError(f"seconds must be above 0, not {budget_s:g}")
    rows = dict.fromkeys(
        Row(batch=b, threads=t, without=row.without if b == row.batch else ())
        for row in chosen.rows
        for t in threads or (row.threads,)
        for b in batches or (row.batch,)
    )
    chosen = replace(chosen, rows=tuple(rows), budget_s=budget_s or chosen.budget_s)
    models = networks(patterns) if patterns else list(chosen.models or DEFAULT_MODELS)
    if engines is None:
        # an engine of the protocol's that this build lacks is absent, not an error
        engines = [e for e in chosen.engines or DEFAULT_ENGINES if e in ENGINES]
    present, absent = engines_here(engines)
    return Plan(
        cases=cases(models, present, chosen, size=size),
        protocol=chosen,
        absent=[
            Failure(**asdict(case), reason=absent[case.engine])
            for case in cases(models, list(absent), chosen, size=size)
        ],
    )


def engines_here(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Of the engines ``names``, or "all" of them, those that can be used here; and the others, each
    with the reason.

    Raises:
        UnknownNameError: no engine has that name.
        ValueError: the engine that does nothing.
        EngineError: none of them can be used here; each reason is given.
    """
    check_engines(name for name in names if name != ALL)
    wanted = [e for e in ENGINES if e != Nothing.name] if ALL in names else list(names)
    reasons = available()
    absent = {name: reason for name in wanted if (reason := reasons[name]) is not None}
    present = [name for name in wanted if name not in absent]
    if not present:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in absent.items())
        raise EngineError(f"none of the engines can be used here{lines}")
    return present, absent


def networks(patterns: Sequence[str]) -> list[str]:
    """The names that ``patterns`` mean, each once: ``fastvit_*``, ``timm:ghostnet_*``,
    ``torchvision:resnet50``. A user's file with its factory, and a file of weights, stay as they
    are.

    Raises:
        UnknownNameError: a pattern matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if is_file(pattern) or is_weights(pattern):
            found[pattern] = None
            continue
        prefix, known = _known(pattern)
        bare = pattern.removeprefix(prefix)
        matching = [name for name in known if fnmatch.fnmatchcase(name, bare)]
        if not matching:
            kind = f"{prefix.rstrip(':')} model" if prefix else "model"
            raise UnknownNameError.of(
                kind, bare, known, hint="" if prefix else "'fleetfoot models' lists the zoo."
            )
        found.update(dict.fromkeys(f"{prefix}{name}" for name in matching))
    return list(found)


def _known(pattern: str) -> tuple[str, list[str]]:
    """The prefix of the library that ``pattern`` speaks of, and that library's classifiers."""
    if not is_peer(pattern):
        return "", list_models()
    library = pattern.split(":")[0]
    if library == "timm":
        import timm

        return "timm:", timm.list_models()
    if library == "torchvision":
        import torchvision

        return "torchvision:", torchvision.models.list_models(module=torchvision.models)
    raise UnknownNameError.of("library prefix", library, ("timm", "torchvision"))
