"""One HTML page of a sweep: the best settings to copy, accuracy against each setting, all
trials."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from xml.etree.ElementTree import Element

from fleetfoot.data.dataset import Dataset
from fleetfoot.files import write_text
from fleetfoot.machine import environment
from fleetfoot.report.kit.labels import Box
from fleetfoot.report.kit.markup import markup, node, page
from fleetfoot.report.kit.style import Colour
from fleetfoot.report.kit.svg import Scale, axes
from fleetfoot.report.kit.table import head, table
from fleetfoot.report.live import duration
from fleetfoot.report.summary import moment
from fleetfoot.report.sweeps import ended_text, ranked, sentences, set_line, values_text
from fleetfoot.report.train_page import definitions, settings_list
from fleetfoot.report.train_svg import FineScale
from fleetfoot.train.settings import Settings
from fleetfoot.train.space import Axis
from fleetfoot.train.sweep import SweepOutcome, Tried

PAGE = "report.html"
HUES = {
    "complete": Colour("#1d64b4", "#6aaefc"),
    "pruned": Colour("#59616c", "#a3abb6"),
}


def write_page(
    outcome: SweepOutcome,
    dataset: Dataset,
    settings: Settings,
    varied: Sequence[Axis],
    command: str,
) -> Path:
    """Writes the page into the sweep's folder, and returns its path."""
    path = outcome.folder / PAGE
    write_text(path, html(outcome, dataset, settings, varied, command))
    return path


def html(
    outcome: SweepOutcome,
    dataset: Dataset,
    settings: Settings,
    varied: Sequence[Axis],
    command: str,
) -> str:
    """The page, complete in one text.

    Args:
        settings: what all trials share.
        command: the command of one run, to which the best settings are added.
    """
    light = "".join(f".{name}{{--hue:{c.light}}}" for name, c in HUES.items())
    dark = "".join(f".{name}{{--hue:{c.dark}}}" for name, c in HUES.items())
    now = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S+00:00}"
    return page(
        "train_page",
        ("page.css", "train_page.css"),
        f"{light}\n@media screen and (prefers-color-scheme:dark){{{dark}}}\n",
        title=f"Settings for {outcome.model} on {dataset.name}",
        when=f"fleetfoot sweep · {settings.recipe.name} · {moment(now)}",
        head=markup(_head(outcome, dataset, command)),
        figures=markup(*_figures(outcome, varied)),
        epochs=markup(*_trials(outcome)),
        data=markup(node("section", node("h2", "Searched"), _searched(outcome, varied))),
        settings=markup(settings_list(settings, settings)),
        how=markup(_how(outcome)),
    )


def _head(outcome: SweepOutcome, dataset: Dataset, command: str) -> Element:
    said = [node("li", one) for one in sentences(outcome, len(dataset.val or ()))]
    parts = [node("ul", *said, class_="findings")]
    if outcome.best is not None:
        parts.append(node("pre", f"{command} {set_line(outcome.best)}", class_="next"))
    return node("section", *parts)


def _figures(outcome: SweepOutcome, varied: Sequence[Axis]) -> list[Element]:
    shown = [one for one in outcome.trials if one.top1 is not None]
    figures = [
        node(
            "figure",
            node("figcaption", f"Accuracy against {axis.name}"),
            *(_scatter(axis, shown, narrow=narrow) for narrow in (False, True)),
        )
        for axis in varied
        if not axis.choices and len(shown) > 1
    ]
    if not figures:
        return []
    legend = node(
        "ul",
        node("li", node("i", class_="dot complete"), "to the end"),
        node("li", node("i", class_="dot pruned"), "ended early"),
        class_="legend",
    )
    return [node("section", node("div", *figures, class_="figures"), legend)]


def _scatter(axis: Axis, trials: Sequence[Tried], *, narrow: bool) -> Element:
    width, height = (350, 300) if narrow else (460, 320)
    area = Box(52, 26, width - 14, height - 42)
    top1 = [one.top1 for one in trials if one.top1 is not None]
    margin = 0.06 * (max(top1) - min(top1)) or 0.5
    log = axis.kind == "log"
    side = 0.0 if log else 0.03 * (axis.high - axis.low)
    x: Scale = (Scale if log else FineScale)(
        axis.low - side, axis.high + side, area.x0, area.x1, log
    )
    y = FineScale(min(top1) - margin, max(top1) + margin, area.y1, area.y0, False)
    text = f"Accuracy of each trial against {axis.name}"
    dots = [
        node(
            "circle",
            cx=x(float(one.values[axis.name])),
            cy=y(one.top1 or 0.0),
            r=3.2,
            class_=f"dot {one.state}",
            data_tip=f"trial {one.number + 1}: {one.top1:.2f} %",
            data_value=values_text(one.values),
        )
        for one in trials
    ]
    return node(
        "svg",
        node("title", text),
        *axes(x, y, area, axis.name, "top-1, %"),
        *dots,
        viewBox=f"0 0 {width} {height}",
        class_=f"chart {'narrow' if narrow else 'wide'}",
        role="img",
        aria_label=text,
    )


def _trials(outcome: SweepOutcome) -> list[Element]:
    if not outcome.trials:
        return []
    names = list(outcome.trials[0].values)
    best = None if outcome.best is None else outcome.best.number
    body = [
        node(
            "tr",
            node("td", str(one.number + 1), class_="number"),
            node("td", "-" if one.top1 is None else f"{one.top1:.2f}", class_="number"),
            node("td", str(one.epochs), class_="number"),
            *(node("td", one.values[name], class_="number") for name in names),
            node("td", ended_text(one)),
            class_="best" if one.number == best else None,
        )
        for one in ranked(outcome.trials)
    ]
    heads = [head(title, number=True) for title in ("trial", "top-1 %", "epochs", *names)]
    drawn = table(
        "Trials, the best first", [*heads, head("end", number=False)], body, class_="plain"
    )
    return [
        node(
            "section",
            node("h2", "Trials"),
            node("div", drawn, class_="scroll", tabindex=0, role="region", aria_label="Trials"),
        )
    ]


def _searched(outcome: SweepOutcome, varied: Sequence[Axis]) -> Element:
    return definitions([(axis.name, str(axis).partition("=")[2]) for axis in varied])


def _how(outcome: SweepOutcome) -> Element:
    machine, versions = environment.machine(), environment.versions()
    return definitions(
        [
            (
                "time",
                f"{duration(sum(one.seconds for one in outcome.trials))}, all trials together",
            ),
            ("machine", f"{machine['gpu'] or machine['cpu']}"),
            ("versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ]
    )
