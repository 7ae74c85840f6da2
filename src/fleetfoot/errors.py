"""The errors that fleetfoot raises, as one tree. Python's own types are used where they fit; these
are for our domain.

FleetfootError
├── UnknownNameError     a model, engine, protocol or option that does not exist (also a ValueError)
├── FactoryError         a user's file or factory that gives no network
├── MissingExtraError    an optional package is not installed (also an ImportError)
├── WeightsError         a file of weights that cannot be used
│   ├── UnsafeFileError    reading it would run code
│   ├── CorruptFileError   truncated, or not of the format that its name says
│   ├── KeyMismatchError   missing, left-over or wrongly shaped keys; all of them are listed
│   ├── LicenceError       weights whose licence asks for an explicit yes
│   └── OfflineError       a hub file that is not here and cannot be fetched
├── FoldError            a fold that cannot be proved
├── NotTraceableError    a forward that torch.fx cannot follow
├── SwapError            nothing to replace as asked, or the replacement does not fit
├── EngineError          an engine that cannot build or run a network
│   ├── ArtifactError      a saved engine that is missing, damaged, changed or of another kind
│   ├── PlanError          a compiled plan that is damaged, invalid or of another version
│   ├── DisagreementError  an engine whose answer differs from eager's
│   ├── LackingError       one operator that the engine lacks, while a network is lowered
│   └── UnsupportedOperatorError  operators of the network that the engine lacks; all are listed
├── NoneFitsError        no network within the limits of ``pick`` (also a ValueError)
├── TopologyError        a file of a hand's mesh that cannot be used
├── DatasetError         a data set whose layout is not known, or in which something is wrong
├── ImageError           a picture that cannot be used (``path`` and the reason)
├── LoadingError         a process that reads pictures for training died
├── TrainingError        a training run that cannot go on
│   ├── CheckpointError    a state of a run that cannot be saved, read or continued
│   └── ToldElsewhereError  another process of the run has ended it, and tells why
└── RecordError          measurements that cannot be read or compared
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

STRANGERS = (Exception, SystemExit)
"""What a stranger's code, for example a user's forward, can raise, except to interrupt."""

_HIDDEN = "\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
"""Characters that a terminal obeys or does not show: controls, directions of writing, lone halves
of pairs."""
_OF_TEXT = re.compile(f"[{_HIDDEN}]")
_OF_MESSAGE = re.compile(f"(?![\n\t])[{_HIDDEN}]")


def visible(text: object) -> str:
    """Text that came from a file or its name, with each character that a terminal would obey shown
    as its number: a key may hold a sequence that clears the screen.

    >>> visible("conv\x1b[2J.weight")
    'conv\\\\x1b[2J.weight'
    """
    return _OF_TEXT.sub(_escaped, str(text))


def printable(message: object) -> str:
    """A message of several lines, with each other character that a terminal would obey shown as its
    number."""
    return _OF_MESSAGE.sub(_escaped, str(message))


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # Python's sign for a byte that is no text, for example in a path
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message; "" if the message is empty."""
    return str(error).strip().partition("\n")[0]


def counted(number: int, noun: str, plural: str = "") -> str:
    """A number and its noun.

    >>> counted(1, "picture"), counted(2000, "picture"), counted(2, "class", "classes")
    ('1 picture', '2,000 pictures', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def nearest_names(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The names that are likely meant by ``name``, the likeliest first: those that differ in
    capitals and separators only, then those that start so, then those of similar letters.

    >>> nearest_names("mobilenet_v2", ["mobileone_s2", "mobilenetv1_100", "mobilenetv2_100"])[0]
    'mobilenetv2_100'
    """
    wanted = _letters(name)
    spelled: dict[str, list[str]] = {}
    for one in known:
        spelled.setdefault(_letters(one), []).append(one)
    same = spelled.pop(wanted, []) if wanted else []
    longer = [x for x in spelled if len(wanted) > 2 and x.startswith(wanted)]
    longer.sort(key=lambda letters: (len(letters), not letters.endswith("100")))
    similar = difflib.get_close_matches(wanted, spelled, n=most, cutoff=0.6)
    found = dict.fromkeys([*same, *(one for x in (*longer, *similar) for one in spelled[x])])
    return list(found)[:most]


def _letters(name: str) -> str:
    """A name without separators, in lower case: what people remember of it."""
    return re.sub(r"[\W_]", "", name.lower())


class FleetfootError(Exception):
    """Base of everything that fleetfoot raises for its own domain. Its text holds no character that
    a terminal would obey, except line ends and tabs."""

    def __str__(self) -> str:
        return printable(super().__str__())


class UnknownNameError(FleetfootError, ValueError):
    """A name that is in no table. ``UnknownNameError.of("model", "fasternet_t5", names)`` suggests
    the nearest known names."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str], hint: str = "") -> UnknownNameError:
        """The error for ``name``; ``kind`` says what it should have been: "model", "engine"."""
        known = list(known)
        close = nearest_names(name, known)
        text = f"unknown {kind} {name!r}"
        if close:
            text += f"; did you mean {' or '.join(repr(c) for c in close)}?"
        elif len(known) <= 12:
            text += f"; known: {', '.join(known)}."
        if hint:
            text += f"{'' if text.endswith(('.', '?')) else '.'} {hint}"
        return cls(text)


class FactoryError(FleetfootError):
    """A user's file, or the factory in it, does not give a network."""


class MissingExtraError(FleetfootError, ImportError):
    """A feature needs a package that an extra brings."""

    @classmethod
    def of(cls, feature: str, package: str, extra: str) -> MissingExtraError:
        return cls(
            f"{feature} needs the package {package!r}, which is not installed; "
            f"run in fleetfoot's checkout: pip install '.[{extra}]'"
        )


class WeightsError(FleetfootError):
    """A file of weights cannot be used."""


class UnsafeFileError(WeightsError):
    """Reading the file would run code that it carries."""


class CorruptFileError(WeightsError):
    """The file is truncated, or is not of the format that its name says."""


class KeyMismatchError(WeightsError):
    """The file's keys are not the network's: every missing, left-over and misshaped key is
    listed."""


class LicenceError(WeightsError):
    """The licence of these weights asks for an explicit yes."""


class OfflineError(WeightsError):
    """A hub file is not in the cache and cannot be fetched."""


class FoldError(FleetfootError):
    """A fold whose equality with the given network cannot be shown."""


class NotTraceableError(FleetfootError):
    """A forward that depends on the values of its input, or that torch.fx cannot follow."""


class SwapError(FleetfootError):
    """Nothing in the network can be replaced as asked, or the replacement does not fit."""


class EngineError(FleetfootError):
    """An engine cannot build or run a network."""


class ArtifactError(EngineError):
    """A saved engine whose manifest or files are missing, damaged or changed, or that cannot be
    opened here."""


class PlanError(EngineError):
    """A compiled plan is damaged, not valid, or of another version."""


class DisagreementError(EngineError):
    """An engine's answer differs from eager's, so the engine is not used. ``error`` and
    ``tolerance`` are shares of the largest value; ``place`` is the first node that differs."""

    def __init__(
        self,
        engine: str,
        network: str,
        error: float,
        tolerance: float,
        precision: str,
        place: str,
        redrawn: int = 0,
    ) -> None:
        super().__init__(engine, network, error, tolerance, precision, place, redrawn)
        self.engine = engine
        self.network = network
        self.error = error
        self.tolerance = tolerance
        self.precision = precision
        self.place = place
        self.redrawn = redrawn
        """Number of parameters drawn anew to make the difference visible: with the network's own
        parameters, which are nearly zero, it does not show."""

    def __str__(self) -> str:
        drawn = f" with {self.redrawn} parameters, nearly zero, drawn anew" if self.redrawn else ""
        return (
            f"the output of {self.engine} for {self.network}{drawn} differs from eager's by "
            f"{self.error:.1e} of the largest value, more than the {self.tolerance:.0e} allowed in "
            f"{self.precision}. First difference: {self.place}. Run this network with another "
            "engine, and please report it"
        )


class LackingError(EngineError):
    """An engine lacks part of one operator. ``lower`` collects these and names all of them."""


class UnsupportedOperatorError(EngineError):
    """The network uses operators that the engine lacks. ``places`` maps each operator to the paths
    of the modules that use it."""

    def __init__(self, engine: str, places: dict[str, list[str]]) -> None:
        super().__init__(engine, places)
        self.engine = engine
        self.places = places

    def __str__(self) -> str:
        found = []
        for operator, paths in self.places.items():
            rest = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
            found.append(f"{operator} (at {', '.join(paths[:3])}{rest})")
        return (
            f"{self.engine} lacks {'; '.join(found)}. Run this network with another engine, or "
            "write these parts of it with other operators"
        )


class NoneFitsError(FleetfootError, ValueError):
    """No network is within the limits; the message names the nearest possible one."""


class DatasetError(FleetfootError):
    """A data set cannot be used as it lies on disk: the message says what was found, and how to go
    on."""


class TopologyError(FleetfootError):
    """The vertices, faces or joints of a hand's mesh cannot be used; all that is wrong is named."""


class ImageError(FleetfootError):
    """A picture cannot be used: ``path`` is the caller's name for it, ``reason`` says why."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class LoadingError(FleetfootError):
    """A process that reads pictures died or failed; the message says what to do."""


class TrainingError(FleetfootError):
    """A training run cannot begin or go on."""


class CheckpointError(TrainingError):
    """The state of a run cannot be saved, read or continued."""


class ToldElsewhereError(TrainingError):
    """Another process of the run has ended it, and tells the error; the message repeats it."""


class RecordError(FleetfootError):
    """Measurements cannot be read, resumed or compared."""
