"""The page of the recipes, made from the recipes and settings themselves.

python -m tools.recipes docs/recipes.md
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterable
from textwrap import dedent

from fleetfoot.data import settings as of_pictures
from fleetfoot.report import update_between_markers
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.train import config
from fleetfoot.train.config import Recipe
from fleetfoot.train.limits import LIMITS
from fleetfoot.train.recipes import EVERY
from fleetfoot.train.settings import Settings, names, written
from fleetfoot.train.timm_flags import FLAGS, SHORT, WITHOUT, from_timm_flags

FAMILIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("FasterNet", ("fasternet_",)),
    ("FastViT", ("fastvit_",)),
    ("MobileOne", ("mobileone_",)),
    ("MobileNets", ("mobilenet_",)),
    ("ShuffleNets", ("shufflenet_",)),
    ("Smaller sets", ()),
    ("Mask R-CNN", ("maskrcnn_",)),
    ("SSDLite", ("ssdlite",)),
    ("Semantic FPN", ("semantic_fpn",)),
    ("LR-ASPP and DeepLabV3", ("lraspp", "deeplabv3")),
    ("Smaller sets for detection, segmentation and hands", ("finetune-",)),
)
"""Titles, and the starts of the names; none for what belongs to no family."""


def _members(starts: tuple[str, ...]) -> list[Recipe]:
    """The recipes whose names begin so; without any start, those of no family."""
    known = tuple(start for _, starts in FAMILIES for start in starts)
    return [
        recipe
        for name, recipe in EVERY.items()
        if (name.startswith(starts) if starts else not name.startswith(known))
    ]


def _overview() -> list[str]:
    rows = []
    for recipe in EVERY.values():
        optim = recipe.optim
        length = f"{recipe.updates:,} updates" if recipe.updates else f"{recipe.epochs} epochs"
        sizes = "-".join(map(str, dict.fromkeys(phase.size for phase in recipe.phases)))
        rows.append(
            (
                f"`{recipe.name}`",
                recipe.task,
                length,
                f"{recipe.batch:,}",
                sizes or written(recipe.size),
                f"{optim.name} {optim.lr:g}",
                recipe.about.expected,
                recipe.about.time,
                "yes" if recipe.about.measured else "no",
            )
        )
    titles = ("recipe", "task", "length", "batch", "size", "optimiser and rate")
    more = ("expected accuracy", "time", "confirmed by a run here")
    return markdown_table((*titles, *more), rows, left=tuple(range(len(titles) + len(more))))


def _family(title: str, starts: tuple[str, ...]) -> str:
    """Source and settings: first those that all members share, then those that differ."""
    members = _members(starts)
    prefix = starts[0] if len(starts) == 1 else ""
    default = Settings(Recipe()).values()
    values = {recipe.name: Settings(recipe).values() for recipe in members}
    sources = dict.fromkeys(recipe.about.source for recipe in members)
    shared, differing = [], []
    for name, usual in default.items():
        found = [values[recipe.name][name] for recipe in members]
        if any(value != found[0] for value in found):
            differing.append(name)
        elif found[0] != usual:
            shared.append(f"`{name}={written(found[0])}`")
    parts = [f"### {title}"]
    for source in sources:
        of = [f"`{recipe.name}`" for recipe in members if recipe.about.source == source]
        whose = "" if len(sources) == 1 else f" ({', '.join(of)})"
        parts.append(f"Source{whose}: {source}.")
    if len(members) > 1:
        if shared:
            parts.append("All: " + " ".join(shared))
        rows = [
            (f"`{name}`", *(written(values[recipe.name][name]) for recipe in members))
            for name in differing
        ]
        titles = ("setting", *(recipe.name.removeprefix(prefix) for recipe in members))
        parts.append("\n".join(markdown_table(titles, rows)))
    return "\n\n".join(parts)


def _meanings(module: object, kind: str, prefix: str) -> dict[str, str]:
    """The docstring of each field of a dataclass, by dotted name."""
    tree = ast.parse(inspect.getsource(module))  # type: ignore[arg-type]
    found: dict[str, str] = {}
    body = next(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == kind)
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            text = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                text = " ".join(dedent(str(after.value.value)).split())
            found[prefix + node.target.id] = text.replace("``", "`")
    return found


def meanings() -> dict[str, str]:
    """What each setting means, from the docstrings of its dataclass."""
    found = _meanings(config, "Recipe", "") | _meanings(config, "Run", "run.")
    for kind in ("Optim", "Schedule", "Loss", "Ema", "Distil", "Init"):
        found |= _meanings(config, kind, f"{kind.lower()}.")
    for kind in ("Augment", "Mix", "Scene"):
        found |= _meanings(of_pictures, kind, f"{kind.lower()}.")
    return found


def _settings() -> list[str]:
    default, known = Settings().values(), meanings()
    rows = []
    for name, hint in names().items():
        choices = [c for arg in _arguments(hint) for c in _arguments(arg) if isinstance(c, str)]
        choices += [c for c in _arguments(hint) if isinstance(c, str)]
        allowed = ", ".join(choices) or (str(LIMITS[name]) if name in LIMITS else "")
        rows.append((f"`{name}`", f"`{written(default[name])}`", allowed, known[name]))
    return markdown_table(("setting", "default", "allowed", "meaning"), rows, left=(0, 1, 2, 3))


def _arguments(hint: object) -> tuple[object, ...]:
    return getattr(hint, "__args__", ())


EXAMPLES = {
    "--opt": "adamw",
    "--sched": "cosine",
    "--clip-mode": "norm",
    "--vflip": "0",
    "--recount": "1",
    "--input-size": "3 256 256",
    "--opt-betas": "0.9 0.95",
    "--scale": "0.2 1.0",
    "--ratio": "0.75 1.33",
    "--torchcompile": "",
    "--amp-dtype": "bfloat16 --amp",
    "--bce-target-thresh": "0.2 --bce-loss",
    "--bce-sum": " --bce-loss",
    "--warmup-epochs": "3",
    "--cooldown-epochs": "3",
    "--min-lr": "1e-5",
    "--initial-checkpoint": "best.safetensors",
    "--remode": "pixel",
    "--aa": "rand-m9",
    "--mixup-mode": "elem",
    "--train-interpolation": "random",
    "--device": "cuda",
    "--lr-base-size": "512 --lr-base 0.1",
    "--lr-base-scale": "sqrt --lr-base 0.1",
    "--kd-model-name": "timm:resnet18",
    "--kd-distill-type": "logit",
    "--kd-loss-type": "kl",
    "--epochs": "20",
    "--decay-rate": "0.97",
    "--batch-size": "64",
    "--grad-accum-steps": "4",
    "--seed": "3",
    "--img-size": "160",
    "--workers": "3",
    "--recovery-interval": "50",
    "--checkpoint-hist": "5",
    "--val-interval": "5",
    "--mixup-off-epoch": "5",
    "--aug-repeats": "3",
    "--lr": "0.4",
    "--lr-base": "0.1",
    "--drop": "0.2",
}


def _flags() -> list[str]:
    """Each flag with the settings that an example of it changes."""
    before = Settings().values()
    short = {long: other for other, long in SHORT.items()}
    rows = []
    for flag, kind in FLAGS.items():
        example = EXAMPLES.get(flag, "" if kind.values == 0 else "0.3")
        words = [flag, *example.split()]
        after = from_timm_flags(words, Settings()).settings.values()
        changes = [f"`{n}={written(v)}`" for n, v in after.items() if v != before[n]]
        spelled = " ".join(f"`{one}`" for one in (flag, short.get(flag, "")) if one)
        rows.append((spelled, f"`{' '.join(words)}`", " ".join(changes) or "nothing else is done"))
    return markdown_table(("flag", "for example", "means"), rows, left=(0, 1, 2))


def _without() -> list[str]:
    reasons: dict[str, list[str]] = {}
    for flag, reason in WITHOUT.items():
        reasons.setdefault(reason or "not offered", []).append(f"`{flag}`")
    rows = [(reason, " ".join(flags)) for reason, flags in reasons.items()]
    return markdown_table(("why", "flags"), rows, left=(0, 1))


def markdown() -> str:
    """The page between its markers."""

    def section(title: str, lines: Iterable[str]) -> str:
        return "\n".join((f"## {title}", "", *lines))

    return "\n\n".join(
        (
            section("All recipes", _overview()),
            "## What each sets",
            *(_family(title, starts) for title, starts in FAMILIES),
            section("All settings", _settings()),
            section("timm's flags", _flags()),
            section("timm's flags that mean nothing here", _without()),
        )
    )


def main(document: str) -> None:
    """Puts the page between the markers of ``document``."""
    changed = update_between_markers(document, markdown())
    print(f"{document}: {'updated' if changed else 'already what the code gives'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
