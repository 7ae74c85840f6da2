"""One HTML page that holds a whole record: pictures, table, circumstances. It fetches nothing from
the internet, works without its script, and prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from fleetfoot.measure.record import Failure, Start
from fleetfoot.report.busy import TITLE as BUSY_TITLE
from fleetfoot.report.busy import busy_rows, busy_sentences
from fleetfoot.report.joined import Joined
from fleetfoot.report.kit.markup import markup, node, page
from fleetfoot.report.kit.style import Look
from fleetfoot.report.kit.svg import (
    bar,
    histogram,
    latency_against_macs,
    swatch,
    top1_against_latency,
)
from fleetfoot.report.kit.table import head, sorting_head, table
from fleetfoot.report.record_tables import COLUMNS
from fleetfoot.report.summary import (
    GAIN_TITLE,
    VERSUS_TITLE,
    Group,
    absences,
    circumstances,
    digits,
    family,
    findings,
    gain_text,
    grouped,
    mark,
    moment,
    start_rows,
    steadiness,
    versus,
    versus_text,
)

_HINTS = {
    "top-1": "ImageNet-1k validation top-1 as published, not measured here",
    "MACs": "multiply-accumulates for one image, of the network as it ran (folded unless marked "
    "not folded); an operation count is twice this",
    "memory": "memory access: input maps, output maps and weights of every layer, for one image",
    "latency": "median time of one batch",
    "±": "the larger half of the 95 % confidence interval of the median",
    "p90": "nine batches in ten were at least this fast",
    "GFLOPS": "2 x MACs x batch / latency",
    "peak": "share of the matrix-product rate measured on this machine",
}


def html(
    measurements: Sequence[Joined],
    failures: Sequence[Failure] = (),
    starts: Sequence[Start] = (),
) -> str:
    """The page, complete in one text."""
    groups, look = grouped(measurements), Look.of(measurements)
    first = measurements[0]
    networks = len({m.model for m in measurements})
    what = f"{networks} network{'s' if networks > 1 else ''}"
    cpus = dict.fromkeys(m.machine["gpu"] or m.machine["cpu"] for m in measurements)
    return page(
        "record_page",
        ("page.css",),
        _palette(look),
        title=f"{what} on {', '.join(cpus)}",
        when=f"fleetfoot bench · {first.protocol} protocol · {moment(first.started)}",
        groups=markup(*_group_choice(list(groups))),
        legend=markup(*_legend(look)),
        figures=markup(*(_figures(*item, i, look) for i, item in enumerate(groups.items()))),
        table=markup(_table(groups, look)),
        starts=markup(*_busy(measurements), *_starts(starts)),
        circumstances=markup(*_circumstances(measurements, failures)),
    )


def _palette(look: Look) -> str:
    """CSS classes of the families, for the light and the dark theme."""
    hues = list(look.colours.values())
    light = "".join(f".f{i}{{--hue:{c.light}}}" for i, c in enumerate(hues))
    dark = "".join(f".f{i}{{--hue:{c.dark}}}" for i, c in enumerate(hues))
    return f"{light}\n@media screen and (prefers-color-scheme:dark){{{dark}}}\n"


def _group_choice(groups: Sequence[Group]) -> list[Element]:
    if len(groups) < 2:
        return []
    options = [node("option", str(group), value=i) for i, group in enumerate(groups)]
    return [node("label", "Setting ", node("select", *options, id="group"))]


def _legend(look: Look) -> list[Element]:
    """Buttons that show and hide a family or an engine."""
    families = [
        node(
            "button",
            node("i", class_=f"dot f{i}"),
            name,
            type="button",
            data_family=name,
            aria_pressed="true",
        )
        for i, name in enumerate(look.colours)
    ]
    engines = [
        node("button", swatch(shape), name, type="button", data_engine=name, aria_pressed="true")
        for name, shape in look.shapes.items()
    ]
    return [
        node("div", *families, class_="chips", role="group", aria_label="Families"),
        node("div", *engines, class_="chips", role="group", aria_label="Engines"),
    ]


def _ids(rows: Sequence[Joined], group: int) -> list[str]:
    return [f"r{group}-{i}" for i in range(len(rows))]


def _figures(group: Group, rows: Sequence[Joined], index: int, look: Look) -> Element:
    ids = _ids(rows, index)
    drawn = [("Latency against work", latency_against_macs)]
    if any(m.top1 is not None for m in rows):
        drawn.append(("Accuracy against latency", top1_against_latency))
    figures = [
        node(
            "figure",
            node("figcaption", title),
            *(draw(rows, ids, look, narrow=narrow) for narrow in (False, True)),
        )
        for title, draw in drawn
    ]
    said = [node("li", sentence) for sentence in findings(rows)]
    heading = node("h2", str(group).capitalize())
    return node(
        "section",
        heading,
        node("p", f"{steadiness(rows).capitalize()}.", class_="noise"),
        *([node("ul", *said, class_="findings")] if said else []),
        node("div", *figures, class_="figures"),
        *_versus(rows),
        class_="group",
        data_group=index,
    )


def _versus(rows: Sequence[Joined]) -> list[Element]:
    """Each network on each engine, if fleetfoot's own engine is among them."""
    engines, lines = versus(rows)
    if not lines:
        return []
    body = []
    for line in lines:
        winner = line.winner
        body.append(
            [
                node("th", line.model, scope="row"),
                *(
                    node("td", versus_text(line, e), class_=f"number{' win' * (e == winner)}")
                    for e in engines
                ),
                node("td", gain_text(line), class_="number"),
            ]
        )
    return _plain_table(VERSUS_TITLE.capitalize(), ["network", *engines, GAIN_TITLE], body, 1)


def _busy(measurements: Sequence[Joined]) -> list[Element]:
    """The cells that ran beside busy cores, each beside its time without them."""
    titles, rows = busy_rows(measurements)
    if not rows:
        return []
    body = [
        [node("th", row[0], scope="row"), node("td", row[1])]
        + [node("td", cell, class_="number") for cell in row[2:]]
        for row in rows
    ]
    said = [node("li", sentence) for sentence in busy_sentences(measurements)]
    return [
        node(
            "section",
            *_plain_table(BUSY_TITLE, titles, body, 2),
            *([node("ul", *said, class_="findings")] if said else []),
        )
    ]


def _starts(starts: Sequence[Start]) -> list[Element]:
    """Time and memory that a new process needs, starting from an engine's own file."""
    if not starts:
        return []
    titles, rows = start_rows(starts)
    body = [
        [node("th", row[0], scope="row"), node("td", row[1])]
        + [node("td", cell, class_="number") for cell in row[2:]]
        for row in rows
    ]
    return [node("section", *_plain_table("From a file, in a new process", titles, body, 2))]


def _plain_table(
    title: str, titles: Sequence[str], body: Sequence[Sequence[Element]], words: int
) -> list[Element]:
    """A table that the script does not touch; its first ``words`` columns are not numbers."""
    heads = [head(text, number=i >= words) for i, text in enumerate(titles)]
    drawn = table(title, heads, (node("tr", *row) for row in body), class_="plain")
    return [
        node("h3", title),
        node("div", drawn, class_="scroll", tabindex=0, role="region", aria_label=title),
    ]


def _table(groups: dict[Group, list[Joined]], look: Look) -> Element:
    titles = [("network", "", ""), *((c.title, c.unit, _HINTS.get(c.title, "")) for c in COLUMNS)]
    titles += [("engine", "", "")]
    heads = [
        sorting_head(title, unit, hint, number=0 < i <= len(COLUMNS), ascending=title == "latency")
        for i, (title, unit, hint) in enumerate(titles)
    ]
    heads.append(head("samples", number=False))
    rows = [
        _row(m, row, index, look.hue(m.model), str(group) if len(groups) > 1 else "")
        for index, (group, cells) in enumerate(groups.items())
        for m, row in zip(cells, _ids(cells, index), strict=True)
    ]
    return table("Every cell of the record", heads, rows)


def _row(m: Joined, row: str, group: int, hue: str, setting: str) -> Element:
    name = node("th", node("i", class_=f"dot {hue}"), m.model, scope="row", data_v=m.model)
    if setting:
        name.append(node("span", setting, class_="setting"))
    if not m.stable:
        name.append(node("span", mark(m), class_="note"))
    cells = []
    for column in COLUMNS:
        value = column.figure(m)
        cells.append(
            node("td", column.text(m), class_="number", data_v="" if value is None else repr(value))
        )
    cells[-1].append(bar(min(1.0, m.peak_share)))
    return node(
        "tr",
        name,
        *cells,
        node("td", m.engine, data_v=m.engine),
        node("td", histogram(m)),
        id=row,
        data_group=group,
        data_model=m.model,
        data_engine=m.engine,
        data_family=family(m.model),
        data_latency=repr(m.median_s),
        data_tip=f"{m.model} on {m.engine}",
        data_interval=f"{digits(m.ci95_s[0] * 1e3, 4)} to {digits(m.ci95_s[1] * 1e3, 4)} ms",
    )


def _circumstances(measurements: Sequence[Joined], failures: Sequence[Failure]) -> list[Element]:
    rows = []
    for name, text in circumstances(measurements, failures):
        texts = absences(failures) if name == "did not run" else [text]
        rows += [node("dt", name), *(node("dd", one) for one in texts)]
    return [node("dl", *rows)]
