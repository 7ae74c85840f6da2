"""What the shell offers when the user presses Tab: names of networks and engines.

A shell waits for this, so nothing is imported for it: names come from files and from the constants
below, and a test holds them beside what the rest of the package says.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from pathlib import Path

ZOO = Path(__file__).with_name("zoo.txt")
"""Names of the networks of the zoo, one a line."""
TIMM = Path(__file__).parents[1] / "weights" / "timm_top1.csv"
"""Networks of timm with a published top-1; the first column is the name."""
ENGINES = (
    "eager",
    "compiled",
    "onnxruntime",
    "openvino",
    "ncnn",
    "executorch",
    "native",
    "cudagraph",
)
PROTOCOLS = ("default", "quick", "fasternet", "beside", "peers")
SHELL = "_FLEETFOOT_COMPLETE"
"""Variable of the environment by which a shell asks."""
PREFIX = "_FLEETFOOT_COMPLETE_PREFIX"


def networks(incomplete: str) -> list[str]:
    """Names of networks that begin with ``incomplete``; timm's only after ``timm:``, since there
    are hundreds."""
    import os

    prefix = os.environ.get(PREFIX, "")
    whole = prefix + incomplete
    if whole.startswith("timm:"):
        rows = TIMM.read_text(encoding="utf-8").splitlines()
        names = dict.fromkeys(
            f"timm:{row.partition(',')[0]}" for row in rows if row and row[0] != "#"
        )
        names.pop("timm:network", None)  # the head of the table
    else:
        names = dict.fromkeys([*ZOO.read_text(encoding="utf-8").split(), "timm:", "torchvision:"])
    return [name.removeprefix(prefix) for name in names if name.startswith(whole)]


def one_of(*choices: str) -> Callable[[str], list[str]]:
    """Completes one of ``choices``."""

    def complete(incomplete: str) -> list[str]:
        return [one for one in choices if one.startswith(incomplete)]

    return complete


def several_of(*choices: str) -> Callable[[str], list[str]]:
    """Completes the last of several ``choices`` with commas between them."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        return [
            f"{before}{comma}{one}" for one in choices if one.startswith(last) and one not in given
        ]

    return complete


MODELLED = ("native", "onnxruntime", "openvino", "eager")
"""Engines that time their layers, which also have a latency model."""

engine = one_of(*ENGINES)
engine_or_auto = one_of(*ENGINES, "auto")
timed_engine = one_of(*MODELLED)
modelled_engine = one_of(*MODELLED, "auto")
engines = several_of(*ENGINES, "all")
protocol = one_of(*PROTOCOLS)


def join_colons(environ: MutableMapping[str, str]) -> None:
    """Undoes what bash does to ``timm:resnet18``: it hands over three words, split at the colon,
    and replaces the last of them only. So the word to complete stays as it is, and the part before
    it goes to ``networks`` by a variable."""
    if environ.get(SHELL) != "complete_bash":
        return
    words = environ.get("COMP_WORDS", "").split("\n")
    at = int(environ.get("COMP_CWORD", "0"))
    words += [""] * (at + 1 - len(words))
    joined: list[str] = []
    last = ""
    for number, word in enumerate(words[: at + 1]):
        glued = bool(joined) and (word == ":" or words[number - 1] == ":")
        if number == at and glued:
            prefix = joined.pop() + (":" if word == ":" else "")
            environ[PREFIX] = prefix
            last = "" if word == ":" else word
        elif number == at:
            last = word
        elif glued:
            joined[-1] += word
        else:
            joined.append(word)
    environ["COMP_WORDS"] = "\n".join([*joined, last])
    environ["COMP_CWORD"] = str(len(joined))
