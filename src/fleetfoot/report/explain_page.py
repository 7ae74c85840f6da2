"""One HTML page that explains a network's latency: its layers under the roofs of the machine, the
time by nested modules, what to change, and a row for each layer. Like a record's page, it fetches
nothing from the internet, works without its script, and prints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from fleetfoot.explain.explanation import Explanation
from fleetfoot.explain.findings import Finding
from fleetfoot.explain.rules import RULES, Rule
from fleetfoot.machine.roofline import Layer
from fleetfoot.report.counts import scaled
from fleetfoot.report.explain import remarks, what
from fleetfoot.report.explain_svg import fastest, icicle, ms, percent, roofline, stack
from fleetfoot.report.kit.markup import markup, node, page
from fleetfoot.report.kit.svg import bar
from fleetfoot.report.kit.table import head, sorting_head, table
from fleetfoot.report.layers import (
    KINDS,
    STEPS,
    Branch,
    by_kind,
    intensity,
    kind,
    rate,
    step_text,
    tree,
)
from fleetfoot.report.summary import digits, moment


def html(explanation: Explanation) -> str:
    """The page, complete in one text."""
    root = tree(explanation.layers, explanation.model)
    rows = _rows(root)
    engine = explanation.engine
    return page(
        "explain_page",
        ("page.css", "explain_page.css"),
        _palette(),
        title=f"Why {explanation.model} takes {ms(explanation.latency_s)} ms",
        when=f"fleetfoot explain · {engine.name} {engine.version} · {moment(explanation.started)}",
        head=markup(*_head(explanation)),
        roofline=markup(*_roofline(explanation)),
        kinds=markup(_kinds(explanation)),
        icicle=markup(_scale(), icicle(root, {id(row.branch): row.id for row in rows})),
        findings=markup(*_findings(explanation, rows)),
        table=markup(_table(explanation, rows)),
        how=markup(_how(explanation)),
    )


def _palette() -> str:
    """CSS classes of the kinds of layer, for the light and the dark theme."""
    light = "".join(f".k{i}{{--hue:{c.light}}}" for i, c in enumerate(KINDS.values()))
    dark = "".join(f".k{i}{{--hue:{c.dark}}}" for i, c in enumerate(KINDS.values()))
    return f"{light}\n@media screen and (prefers-color-scheme:dark){{{dark}}}\n"


def _dot(name: str) -> Element:
    return node("i", class_=f"dot k{list(KINDS).index(name)}")


class BranchRow(NamedTuple):
    """A row of the page's table."""

    id: str
    parent: str
    """Id of the parent's row; "" for the network itself."""
    depth: int
    order: int
    branch: Branch


def _rows(root: Branch) -> list[BranchRow]:
    """The branches, each after its parent. A layer's id is ``l`` and its number, a module's ``m``
    and its own number."""
    rows: list[BranchRow] = []
    above: list[str] = []
    for order, (depth, branch) in enumerate(root.walk()):
        name = f"m{order}" if branch.index is None else f"l{branch.index}"
        del above[depth:]
        rows.append(BranchRow(name, above[-1] if above else "", depth, order, branch))
        above.append(name)
    return rows


def _row_of(module: str, rows: Sequence[BranchRow]) -> str:
    """Id of the row that shows ``module``, or of the nearest one below or above if it has no row of
    its own."""
    for row in rows:
        if row.branch.module == module:
            return row.id
    below = (row.id for row in rows if row.branch.module.startswith(f"{module}."))
    parent, dot, _ = module.rpartition(".")
    return next(below, None) or (_row_of(parent, rows) if dot else rows[0].id)


_BOUNDS = {
    "compute": "bound by arithmetic",
    "memory": "bound by memory",
    "start": "bound by starting the work",
}


def _head(e: Explanation) -> list[Element]:
    """Name, setting, and the main figures."""
    batch = f"batch {e.batch}, " if e.batch > 1 else ""
    threads = f"{e.engine.threads} thread{'s' if e.engine.threads > 1 else ''}"
    size = "×".join(map(str, e.input_shape[1:]))
    where = e.machine.cpu if e.machine.device == "cpu" else e.machine.device
    fold = "folded" if e.folded else e.fold_note or "not folded"
    setting = f"{fold}, {batch}input {size}, {e.engine.precision}, on {threads} of {where}"
    peak = e.peak_flops_per_s
    facts = [
        ("latency", f"{ms(e.latency_s)} ms", f"median of {len(e.samples_s)}; p90 {ms(e.p90_s)} ms"),
        (
            "achieved",
            f"{digits(e.flops_per_s / 1e9)} GFLOP/s",
            f"{percent(e.flops_per_s / peak)} of the measured peak, {digits(peak / 1e9)}",
        ),
        (
            "floor",
            f"{ms(e.floor_s)} ms",
            f"the latency is {digits(e.latency_s / e.floor_s, 2)} times that" if e.floor_s else "",
        ),
        (
            "work",
            f"{scaled(2 * e.macs, 'FLOP')}",
            f"{scaled(sum(layer.held_bytes for layer in e.layers), 'B')} moved",
        ),
    ]
    shares: dict[str, float] = {name: share for name, share in e.bound_shares.items() if share}
    bounds = [
        node("li", node("i", class_=f"dot b-{name}"), f"{percent(share)} {_BOUNDS[name]}")
        for name, share in shares.items()
    ]
    found = [node("p", f"{setting[0].upper()}{setting[1:]}", class_="setting-of")]
    if not e.steady:
        note = "The times had not settled when the budget was spent: read them with care."
        found.append(node("p", note, class_="note"))
    found.append(node("dl", *(_fact(*fact) for fact in facts), class_="facts"))
    if bounds:
        title = "Share of the time in layers whose floor is"
        found += [
            node("p", title, class_="small"),
            stack(shares),
            node("ul", *bounds, class_="key"),
        ]
    return found


def _fact(name: str, value: str, remark: str) -> Element:
    return node("div", node("dt", name), node("dd", value), node("dd", remark, class_="small"))


def _roofline(e: Explanation) -> list[Element]:
    pictures = [
        roofline(e.layers, e.machine, e.engine.precision, narrow=narrow) for narrow in (False, True)
    ]
    drawn = [picture for picture in pictures if picture is not None]
    absent = [
        layer for layer in e.layers if layer.time_s and not (intensity(layer) and rate(layer))
    ]
    remark = "Area of a dot: its share of the time. A click leads to its row."
    if absent:
        took = sum(layer.time_s for layer in absent)
        layers = f"{len(absent)} layer{'s' if len(absent) > 1 else ''}"
        remark += f" Not drawn, because no arithmetic is known of them: {layers}, {ms(took)} ms."
    if any(rate(layer) > e.peak_flops_per_s for layer in e.layers):
        remark += (
            " A dot above the roofs asks for more multiplications than the engine does (Winograd's "
            "convolutions do fewer), or the roofs were measured in a slower minute."
        )
    return [
        node(
            "figure",
            node("figcaption", "Layers under the roofs of this machine"),
            *drawn,
            node("p", remark, class_="small"),
        )
    ]


def _kinds(e: Explanation) -> Element:
    """A row for each kind; its button shows and hides its dots."""
    heads = ("kind", "layers", "ms", "share", "× floor", "GFLOP/s")
    body = []
    for name, layers in by_kind(e.layers).items():
        together = Branch(name, "", children=[Branch("", "", layer) for layer in layers])
        button = node(
            "button", _dot(name), name, type="button", data_kind=name, aria_pressed="true"
        )
        cells = [
            str(len(layers)),
            ms(together.time_s),
            percent(together.time_s / e.nodes_s) if e.nodes_s else "-",
            _times(together),
            digits(together.rate / 1e9) if together.rate else "-",
        ]
        body.append(
            node(
                "tr",
                node("th", button, scope="row"),
                *(node("td", cell, class_="number") for cell in cells),
            )
        )
    return table(
        "Time by kind of layer; the buttons show and hide the dots of a kind",
        (head(text, number=i > 0) for i, text in enumerate(heads)),
        body,
        class_="plain kinds",
    )


def _scale() -> Element:
    steps = [node("li", node("i", class_=f"dot h{i}"), step_text(i)) for i in range(len(STEPS) + 1)]
    return node("ul", node("li", "time / floor"), *steps, class_="key")


SHOWN = 8
"""Number of findings that are not folded away."""


def _findings(e: Explanation, rows: Sequence[BranchRow]) -> list[Element]:
    """The findings, the highest price first, and after them the rules that found them."""
    if not e.findings:
        return [node("p", "No rule found anything worth reporting here.", class_="small")]
    ordered = sorted(e.findings, key=lambda finding: -finding.price_s)
    note = "Prices are estimates; those of two rules on one layer overlap: do not add them."
    rules = [RULES[code] for code in sorted({one.rule for one in ordered} & RULES.keys())]
    first, rest = ordered[:SHOWN], ordered[SHOWN:]
    found = [_priced(first, e, rows)]
    if rest:
        more = f"{len(rest)} more, of {ms(rest[0].price_s)} ms or less"
        found.append(node("details", node("summary", more), _priced(rest, e, rows), class_="rest"))
    found.append(node("p", note, class_="small"))
    if rules:
        found += [node("h3", "The rules"), *map(_rule, rules)]
    return found


def _priced(findings: Sequence[Finding], e: Explanation, rows: Sequence[BranchRow]) -> Element:
    return node("ol", *(_finding(one, e, rows) for one in findings), class_="priced")


def _finding(finding: Finding, e: Explanation, rows: Sequence[BranchRow]) -> Element:
    row = _row_of(finding.module, rows)
    module = node("a", finding.module or e.model, href=f"#{row}", class_="to-row", data_row=row)
    price = node("b", f"{ms(finding.price_s)} ms")
    share = f" {percent(finding.price_s / e.latency_s)}"
    if finding.basis != "measured":
        share += f", {finding.basis}"
    known = finding.rule in RULES
    code = node("a", finding.rule, href=f"#rule-{finding.rule}") if known else finding.rule
    name = finding.name.replace("-", " ")
    return node(
        "li",
        node("p", price, share, class_="price"),
        node(
            "div",
            node("p", node("b", code), f" {name} · ", module, class_="title"),
            node("p", finding.text),
            node("p", node("b", "Change: "), finding.change),
        ),
    )


def _rule(rule: Rule) -> Element:
    parts = {
        "": rule.what,
        "Why: ": rule.why,
        "Price: ": rule.price,
        "Known problems: ": rule.known_problems,
        "Instead: ": rule.instead,
        "Reference: ": rule.reference,
    }
    return node(
        "details",
        node("summary", node("b", rule.code), f" {rule.name.replace('-', ' ')}"),
        *(
            node("p", *([node("b", title)] if title else []), *_inline(text))
            for title, text in parts.items()
        ),
        id=f"rule-{rule.code}",
        class_="rule",
    )


_LINK = re.compile(r"\[([^\]]*)\]\((?:https://)?([^)]*)\)")


def _inline(markdown: str) -> list[Element | str]:
    """A paragraph of Markdown: code between backticks; links as their text and address, because the
    page has no links to the outside."""
    text = _LINK.sub(lambda m: m[1] if m[1] == m[2] else f"{m[1]} ({m[2]})", markdown)
    pieces = " ".join(text.split()).split("`")
    return [node("code", piece) if i % 2 else piece for i, piece in enumerate(pieces)]


class BranchColumn(NamedTuple):
    """A column of the page's table."""

    title: str
    unit: str
    hint: str
    value: Callable[[Branch, Explanation], float | str | None]
    """Value to sort by; None if unknown."""
    text: Callable[[Branch, Explanation], str]
    words: bool = False


def _times(branch: Branch) -> str:
    return "-" if branch.times_floor is None else digits(branch.times_floor, 2)


def _what(branch: Branch, e: Explanation) -> str:
    if branch.layer:
        return what(branch.layer, e.layers)
    count = sum(1 for _ in branch.layers())
    return f"{count} layer{'s' if count > 1 else ''}"


def _bound(branch: Branch, _: Explanation) -> str:
    return branch.bound or ""


def _ms_or_not(seconds: float) -> str:
    return ms(seconds) if seconds else "-"


def _nodes(branch: Branch, _: Explanation) -> str:
    """Names of a layer's nodes without its module, which is in the same row; for a module, the
    number of nodes."""
    if branch.layer is None:
        names = {name for layer in branch.layers() for name in layer.nodes}
        return f"{len(names)} node{'' if len(names) == 1 else 's'}"
    if branch.layer.nodes:
        own = branch.module or "\n"  # the network's own path is in every name, and in none
        return ", ".join(name.replace(own, "").strip() or name for name in branch.layer.nodes)
    return f"within {', '.join(branch.layer.within)}" if branch.layer.within else "none"


COLUMNS = (
    BranchColumn(
        "time",
        "ms",
        "median time of the engine's nodes for it",
        lambda b, _: b.time_s or None,
        lambda b, _: _ms_or_not(b.time_s),
    ),
    BranchColumn(
        "share",
        "%",
        "share of the time of all layers",
        lambda b, _: b.time_s or None,
        lambda b, e: digits(100 * b.time_s / e.nodes_s, 2) if b.time_s else "-",
    ),
    BranchColumn(
        "floor",
        "ms",
        "least time for the same operations and bytes at this machine's measured rates",
        lambda b, _: b.floor_s or None,
        lambda b, _: _ms_or_not(b.floor_s),
    ),
    BranchColumn("× floor", "", "time / floor", lambda b, _: b.times_floor, lambda b, _: _times(b)),
    BranchColumn(
        "above",
        "ms",
        "time above the floor: what a perfect engine would save",
        lambda b, _: b.above_floor_s or None,
        lambda b, _: _ms_or_not(b.above_floor_s),
    ),
    BranchColumn(
        "rate",
        "GFLOP/s",
        "achieved rate; two operations for each multiply-accumulate",
        lambda b, _: b.rate or None,
        lambda b, _: digits(b.rate / 1e9) if b.rate else "-",
    ),
    BranchColumn(
        "intensity",
        "FLOP/byte",
        "operations for each byte that goes into or out of its nodes",
        lambda b, _: b.intensity or None,
        lambda b, _: digits(b.intensity, 2) if b.intensity else "-",
    ),
    BranchColumn("bound", "", "what sets most of the floor", _bound, _bound, words=True),
    BranchColumn("what", "", "what its nodes do, the costliest first", _what, _what, words=True),
    BranchColumn(
        "nodes", "of the engine", "what the engine ran for it", _nodes, _nodes, words=True
    ),
)


def _table(e: Explanation, rows: Sequence[BranchRow]) -> Element:
    titles = [("module", "", "in the order in which they run", False)]
    titles += [(c.title, c.unit, c.hint, not c.words) for c in COLUMNS]
    heads = [
        sorting_head(title, unit, hint, number=number or not i, ascending=not i)
        for i, (title, unit, hint, number) in enumerate(titles)
    ]
    most_s = max((layer.time_s for layer in e.layers), default=0.0)
    return table(
        "Every layer, and the modules that hold them with their sums",
        heads,
        (_row(row, e, most_s) for row in rows),
        id="layers",
    )


def _row(row: BranchRow, e: Explanation, most_s: float) -> Element:
    branch, layer = row.branch, row.branch.layer
    if layer is None:
        parts: list[Element | str] = [
            node("button", branch.name, type="button", aria_expanded="true", class_="fold")
        ]
    else:
        parts = [
            _dot(kind(layer)),
            node("span", branch.name, class_="short"),
            node("span", branch.module or e.model, class_="path"),
        ]
    name = node("th", *parts, scope="row", data_v=row.order, class_=f"d{min(row.depth, 9)}")
    cells = []
    for column in COLUMNS:
        value = column.value(branch, e)
        shown = "" if value is None else value if isinstance(value, str) else repr(value)
        cell = node(
            "td",
            column.text(branch, e),
            class_=column.title if column.words else "number",
            data_v=shown,
        )
        if column.title == "share" and layer and layer.time_s:
            cell.append(bar(layer.time_s / most_s))
        cells.append(cell)
    return node(
        "tr",
        name,
        *cells,
        id=row.id,
        class_="sum" if layer is None else "leaf" if layer.time_s else "leaf without",
        data_parent=row.parent,
        data_depth=row.depth,
        data_tip=branch.module or e.model,
        data_kind=kind(layer) if layer else None,
        data_type=layer.module_type if layer else None,
        data_quartiles=_quartiles(layer) if layer and layer.time_s else None,
    )


def _quartiles(layer: Layer) -> str:
    return f"{ms(layer.time_low_s)} to {ms(layer.time_high_s)} ms"


def _how(e: Explanation) -> Element:
    """How it was measured, and what the roofs are."""
    compute = e.machine.compute[e.engine.precision]
    roofs = []
    if compute.fma_flops_per_s:
        roofs.append(
            f"{digits(compute.fma_flops_per_s.value / 1e9)} GFLOP/s of multiply-adds in registers"
        )
    roofs.append(f"{digits(compute.matmul_flops_per_s.value / 1e9)} GFLOP/s in a matrix product")
    levels = [
        f"{level.name} {scaled(fastest(level), 'B/s')}"
        + (f" ({scaled(level.capacity_bytes, 'B')})" if level.capacity_bytes else "")
        for level in e.machine.levels
    ]
    low, high = e.ci95_s
    facts = {
        "machine": [f"{e.machine.cpu}, measured {moment(e.machine.measured_at)}"],
        "arithmetic": [", ".join(roofs)],
        "bandwidth": [", ".join(levels)],
        "latency": [
            f"median of {len(e.samples_s)} runs without timing of the nodes; 95 % interval "
            f"{ms(low)} to {ms(high)} ms"
        ],
        "layers": remarks(e, ()),
        "engine": [e.engine.note],
        "versions": [
            ", ".join(f"{name} {version}" for name, version in e.versions.items())
            + (f"; commit {e.commit}" if e.commit else "")
        ],
    }
    if e.machine.threads > 1:
        start_us = digits(e.machine.region_s.value * 1e6)
        facts["machine"].append(f"{start_us} µs to start work on all threads")
    return node(
        "dl",
        *(
            part
            for name, texts in facts.items()
            if any(texts)
            for part in (node("dt", name), *(node("dd", text) for text in texts))
        ),
    )
