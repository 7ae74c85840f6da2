"""Checks a network against the rules and a time limit: a verdict for a script, with reasons.

A rule is disabled with a reason, which is part of the verdict. A project keeps its settings in its
``pyproject.toml``:

    [tool.fleetfoot.lint]
    max-ms = 12
    min-price-ms = 0.05
    disable = { S1 = "squeeze-excite is worth 0.7 points of top-1 here" }
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import nn

from fleetfoot.count import trace
from fleetfoot.explain.explanation import explain
from fleetfoot.explain.findings import Basis, Finding
from fleetfoot.explain.rules import findings, rule, worth_saying
from fleetfoot.explain.rules.pricing import modelled_layers
from fleetfoot.files import read_text
from fleetfoot.machine.machine import Machine

TABLE = "tool.fleetfoot.lint"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Limits and disabled rules for a network.

    Raises:
        UnknownNameError: there is no rule of that code or name.
        ValueError: a rule is disabled without a reason, or a time is negative.
    """

    max_ms: float | None = None
    min_price_ms: float = 0.0
    disable: Mapping[str, str] = field(default_factory=dict)
    """Disabled rules by code or name, each with the reason."""

    def __post_init__(self) -> None:
        for name, reason in self.disable.items():
            rule(name)
            if not isinstance(reason, str) or not reason.strip():
                raise ValueError(
                    f'rule {name} is disabled without a reason; write {name}="why it does not '
                    'apply here"'
                )
        for name in ("max_ms", "min_price_ms"):
            value = getattr(self, name)
            if value is None and name == "max_ms":
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
                raise ValueError(f"{name} must be 0 or more milliseconds, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Lint:
    """The verdict on a network."""

    model: str
    input_shape: tuple[int, ...]
    engine: str
    """Engine that was measured; "" if nothing was measured."""
    threads: int
    basis: Basis
    """Whether the latency and the prices are measured, or modelled from the machine's rates."""
    latency_s: float
    """Median if measured; the sum of the layers' floors if modelled."""
    settings: Settings
    findings: tuple[Finding, ...]
    """Findings, the highest price first."""
    below_min_price: int
    """Number of findings left out because they are worth less than ``min_price_ms``."""

    @property
    def too_slow(self) -> bool:
        most = self.settings.max_ms
        return most is not None and self.latency_s * 1e3 > most

    @property
    def passed(self) -> bool:
        return not self.findings and not self.too_slow

    def as_json(self) -> dict[str, Any]:
        """The verdict as plain values, for programs."""
        return {**asdict(self), "too_slow": self.too_slow, "passed": self.passed}


def lint(
    model: nn.Module,
    example: Any,
    *,
    machine: Machine,
    engine: str = "native",
    settings: Settings | None = None,
    measure: bool = True,
    name: str = "",
    seconds: float = 5.0,
) -> Lint:
    """Checks ``model``, in eval mode, against every rule on ``machine.threads`` threads.

    >>> import torch
    >>> from fleetfoot.explain.rules.examples import ROUND, Unequal
    >>> found = lint(Unequal().eval(), torch.zeros(1, 16, 56, 56), machine=ROUND, measure=False)
    >>> found.passed, {one.name for one in found.findings}
    (False, {'unequal-channel-widths'})

    Args:
        example: the batch to run on, (B, C, H, W); a tuple of several inputs is allowed if
            ``measure`` is False.
        measure: measure the layers' times on ``engine``. If False, each layer is taken to run at
            its floor, and a network that passes ``max_ms`` may still be slower.
        name: name of the network in the verdict. Default: its class.
        seconds: time budget of the runs, in seconds.

    Raises:
        FleetfootError, ValueError: the errors of ``explanation.explain`` and ``count.trace``.
    """
    settings = settings or Settings()
    if measure:
        measured = explain(
            model, example, machine=machine, engine=engine, threads=machine.threads, seconds=seconds
        )
        found, latency_s = list(measured.findings), measured.latency_s
    else:
        traced = trace(model, example)
        latency_s = sum(layer.time_s for layer in modelled_layers(traced, machine))
        found, _ = worth_saying(findings(traced, machine), latency_s)
    disabled = {rule(code).code for code in settings.disable}
    found = [one for one in found if one.rule not in disabled]
    kept = [one for one in found if one.price_s * 1e3 >= settings.min_price_ms]
    return Lint(
        model=name or type(model).__name__,
        input_shape=tuple((example[0] if isinstance(example, tuple) else example).shape),
        engine=engine if measure else "",
        threads=machine.threads,
        basis="measured" if measure else "modelled",
        latency_s=latency_s,
        settings=settings,
        findings=tuple(kept),
        below_min_price=len(found) - len(kept),
    )


def read_settings(folder: Path | None = None) -> Settings:
    """The settings in the nearest ``pyproject.toml``, from ``folder`` upwards; the defaults if it
    has none. Default: the current folder.

    Raises:
        ValueError: the file is not TOML, or its table has an unknown key or value; or there is
            such a table, and this Python, older than 3.11, cannot read TOML.
        UnknownNameError: the table disables a rule that does not exist.
    """
    start = (folder or Path.cwd()).resolve()
    files = (parent / "pyproject.toml" for parent in (start, *start.parents))
    file = next((one for one in files if one.is_file()), None)
    if file is None:
        return Settings()
    text = read_text(file)
    if TABLE not in text:
        return Settings()
    if sys.version_info < (3, 11):
        raise ValueError(
            f"{file} has a table {TABLE}, which Python {sys.version_info[0]}.{sys.version_info[1]} "
            "cannot read; run from another folder and give options, or use Python 3.11"
        )
    import tomllib

    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file} is not valid TOML: {error}") from None
    for key in TABLE.split("."):
        raw = raw.get(key, {})
    known = {one.name.replace("_", "-"): one.name for one in fields(Settings)}
    unknown = [key for key in raw if key not in known]
    if unknown:
        raise ValueError(
            f"{file}: {TABLE} has no key {', '.join(unknown)}; it has {', '.join(known)}"
        )
    if not isinstance(raw.get("disable", {}), dict):
        raise ValueError(f'{file}: disable must be a table of reasons, such as {{ G4 = "reason" }}')
    return Settings(**{known[key]: value for key, value in raw.items()})
