"""One HTML page of a training run: curves, epochs, data, settings and times. Like a record's page,
it fetches nothing from the internet, works without its script, and prints.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from xml.etree.ElementTree import Element

from fleetfoot.data.dataset import Dataset
from fleetfoot.data.scenes import SceneSet
from fleetfoot.files import write_text
from fleetfoot.machine import environment
from fleetfoot.network import size_text
from fleetfoot.report.kit.markup import markup, node, page
from fleetfoot.report.kit.style import Colour
from fleetfoot.report.kit.table import head, table
from fleetfoot.report.live import duration
from fleetfoot.report.summary import digits, moment
from fleetfoot.report.train_svg import Series, curves
from fleetfoot.report.training import next_commands, test_text
from fleetfoot.train.checkpoint import Epoch
from fleetfoot.train.figures import FIGURES, MEASURED
from fleetfoot.train.loop import Outcome
from fleetfoot.train.settings import Settings, listed

PAGE = "report.html"
HUES = {
    "training": Colour("#59616c", "#a3abb6"),
    "evaluation": Colour("#1d64b4", "#6aaefc"),
    "average": Colour("#c2410c", "#fb8c4a"),
}
FEW = 10_000
"""Pictures below which published weights are advised."""
WORSE = 1.0
"""Percentage points of accuracy, or millimetres, from which a difference is told."""


def write_page(
    outcome: Outcome, dataset: Dataset | SceneSet, settings: Settings, preset: Settings
) -> Path:
    """Writes the page into the run's folder, and returns its path."""
    path = outcome.folder / PAGE
    write_text(path, html(outcome, dataset, settings, preset))
    return path


def html(
    outcome: Outcome, dataset: Dataset | SceneSet, settings: Settings, preset: Settings
) -> str:
    """The page, complete in one text.

    Args:
        preset: the settings that the run began with, to show which were changed.
    """
    return page(
        "train_page",
        ("page.css", "train_page.css"),
        _palette(),
        title=f"{outcome.model} trained on {dataset.name}",
        when=f"fleetfoot train · {settings.recipe.name} · {moment(outcome.ended)}",
        head=markup(*_head(outcome, dataset, settings)),
        figures=markup(*_figures(outcome)),
        epochs=markup(*_epochs(outcome)),
        data=markup(*_data(outcome, dataset)),
        settings=markup(settings_list(settings, preset)),
        how=markup(_how(outcome, settings)),
    )


def _palette() -> str:
    light = "".join(f".{name}{{--hue:{c.light}}}" for name, c in HUES.items())
    dark = "".join(f".{name}{{--hue:{c.dark}}}" for name, c in HUES.items())
    return f"{light}\n@media screen and (prefers-color-scheme:dark){{{dark}}}\n"


def _head(outcome: Outcome, dataset: Dataset | SceneSet, settings: Settings) -> list[Element]:
    said = [node("li", sentence) for sentence in sentences(outcome, dataset, settings)]
    commands = "\n".join(
        next_commands(outcome, "" if dataset.name in ("digits", "hands") else dataset.name)
    )
    return [
        node("section", node("ul", *said, class_="findings"), node("pre", commands, class_="next"))
    ]


def sentences(outcome: Outcome, dataset: Dataset | SceneSet, settings: Settings) -> list[str]:
    """What a reader should know first; what speaks against the result is not left out."""
    said = []
    if outcome.interrupted:
        said.append(
            f"The run was interrupted ({outcome.interrupted}) after {outcome.update:,} of "
            f"{outcome.updates:,} updates; it goes on by --resume."
        )
    best, figure = outcome.best, MEASURED[outcome.task].deciding
    unit = f"{figure.unit} " if figure.unit else ""
    if best is not None:
        chosen = dataset.val or dataset.test
        assert chosen is not None
        said.append(
            f"Best {figure.title}: {figure.number(best.value)} {unit}of {len(chosen):,} "
            f"{chosen.name} pictures, after epoch {best.epoch + 1} of {len(outcome.history)}. The "
            "best epoch was chosen by these pictures, so the figure is a little too good."
        )
    if outcome.test is not None:
        said.append(
            f"On {outcome.test['images']:,} test pictures, which chose nothing: "
            f"{test_text(outcome)}."
        )
    if best is None and outcome.history:
        said.append("Nothing was evaluated: the data set has no pictures for it.")
    last = outcome.history[-1] if outcome.history else None
    final = None if last is None else last.figure(figure.name)
    if best is not None and final is not None and abs(best.value - final) >= WORSE:
        apart = abs(best.value - final)
        points = "points" if figure.unit == "%" else figure.unit
        said.append(
            f"The last epoch is {apart:.1f} {points} {'below' if figure.rises else 'above'} the "
            "best one: the run was too long, or the learning rate too high."
        )
    if outcome.bad_images:
        said.append(
            f"{len(outcome.bad_images):,} pictures could not be used, and others took their place; "
            f"the first is {outcome.bad_images[0][0]}: {outcome.bad_images[0][1]}."
        )
    small = len(dataset.train or ()) < FEW and dataset.name not in ("digits", "hands")
    if small and not settings.recipe.init.weights:
        said.append(
            "The network began with random weights; with so few pictures, published ones "
            "(--weights pretrained) usually end higher."
        )
    return said


def _figures(outcome: Outcome) -> list[Element]:
    if not outcome.history:
        return []
    best = None if outcome.best is None else outcome.best.epoch + 1
    figure = MEASURED[outcome.task].deciding
    drawn = [
        ("Loss", "loss", (("training", "train_loss"), ("evaluation", "eval_loss"),
                          ("average", "ema_loss"))),
        (figure.chart.capitalize(), ", ".join(filter(None, (figure.title, figure.unit))),
         (("evaluation", f"eval_{figure.name}"), ("average", f"ema_{figure.name}"))),
        ("Learning rate", "learning rate", (("training", "lr"),)),
    ]  # fmt: skip
    figures = []
    for title, unit, names in drawn:
        series = [Series(hue, hue, _points(outcome.history, name)) for hue, name in names]
        shown = [one for one in series if one.points]
        if not shown:
            continue
        legend = [
            node("li", node("i", class_=f"dot {one.hue}"), _called(one.name)) for one in shown
        ]
        text = f"{title} by epoch"
        figures.append(
            node(
                "figure",
                node("figcaption", title),
                *(curves(shown, unit, text, narrow=narrow, best=best) for narrow in (False, True)),
                *([node("ul", *legend, class_="legend")] if len(names) > 1 else []),
            )
        )
    return [node("section", node("div", *figures, class_="figures"))]


def _called(name: str) -> str:
    return "evaluation, averaged weights" if name == "average" else name


def _points(history: Sequence[Epoch], name: str) -> list[tuple[int, float]]:
    values = ((row.epoch + 1, row.cell(name)) for row in history)
    return [(epoch, value) for epoch, value in values if value is not None]


def _epochs(outcome: Outcome) -> list[Element]:
    measured = MEASURED[outcome.task]
    names = [(one.heading, f"eval_{one.name}") for one in measured.figures if one.name != "loss"]
    names.append((f"average: {measured.deciding.heading}", f"ema_{measured.deciding.name}"))
    columns: list[tuple[str, Callable[[Epoch], str]]] = [
        ("epoch", lambda row: str(row.epoch + 1)),
        ("loss", lambda row: digits(row.train_loss)),
        ("evaluation loss", lambda row: _number(row.figures.get("eval_loss"))),
        *((title, partial(_figure, name)) for title, name in names),
        ("learning rate", lambda row: f"{row.lr:.3g}"),
        ("pixels", lambda row: size_text(row.size)),
        ("images/s", lambda row: f"{row.images_per_s:,.0f}"),
    ]
    shown = [
        (title, text) for title, text in columns if any(text(row) != "-" for row in outcome.history)
    ]
    if not outcome.history:
        return []
    best = None if outcome.best is None else outcome.best.epoch
    body = [
        node(
            "tr",
            *(node("td", text(row), class_="number") for _, text in shown),
            class_="best" if row.epoch == best else None,
        )
        for row in outcome.history
    ]
    drawn = table("Epochs", [head(title, number=True) for title, _ in shown], body, class_="plain")
    return [
        node(
            "section",
            node("h2", "Epochs"),
            node("div", drawn, class_="scroll", tabindex=0, role="region", aria_label="Epochs"),
        )
    ]


def _number(value: float | None) -> str:
    return "-" if value is None else digits(value)


def _figure(column: str, row: Epoch) -> str:
    value = row.figures.get(column)
    name = column.partition("_")[2]
    return "-" if value is None else FIGURES[name].number(value)


def _data(outcome: Outcome, dataset: Dataset | SceneSet) -> list[Element]:
    classes = ", ".join(dataset.classes[:20])
    if len(dataset.classes) > 20:
        classes += f" and {len(dataset.classes) - 20:,} more"
    named = [
        ("layout", dataset.layout),
        *((split.name, f"{len(split):,} pictures") for split in dataset.splits),
        *([("classes", f"{len(dataset.classes):,}: {classes}")] if dataset.classes else []),
        *(("note", note) for note in dataset.notes),
    ]
    return [node("section", node("h2", "Data"), definitions(named))]


def definitions(named: Sequence[tuple[str, str]]) -> Element:
    """Names and what is said of each."""
    rows = [part for name, text in named for part in (node("dt", name), node("dd", text))]
    return node("dl", *rows)


def settings_list(settings: Settings, preset: Settings) -> Element:
    """Every setting; those that differ from ``preset`` stand out."""
    rows = []
    for line in listed(settings, preset):
        value = node("dd", line.value or "-")
        if line.preset is not None:
            value.append(node("small", f" (recipe: {line.preset or '-'})"))
        kind = None if line.preset is None else "other"
        rows.append(node("div", node("dt", line.name), value, class_=kind))
    return node("dl", *rows, class_="settings")


def _how(outcome: Outcome, settings: Settings) -> Element:
    machine = environment.machine()
    versions = environment.versions()
    rates = [row.images_per_s for row in outcome.history if row.images_per_s]
    named = [
        ("time", f"{duration(outcome.seconds)}, evaluations included"),
        ("updates", f"{outcome.update:,} of {outcome.updates:,}"),
        *(
            [("rate", f"{min(rates):,.0f} to {max(rates):,.0f} images/s, by epoch")]
            if rates
            else []
        ),
        ("device", settings.run.device),
        ("machine", f"{machine['gpu'] or machine['cpu']}"),
        ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("recipe", settings.recipe.about.source),
        ("weights", str(outcome.checkpoint)),
    ]
    return definitions(named)
