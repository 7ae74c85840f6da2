"""One HTML page for an evaluation: figures with intervals, engines side by side, the classes and
what they are taken for, calibration, and the worst mistakes as pictures. It fetches nothing from
the internet, works without its script, and prints.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

import numpy as np

from fleetfoot.data.dataset import Split
from fleetfoot.errors import counted, visible
from fleetfoot.evaluate.compare import compare
from fleetfoot.evaluate.record import NOT_FINITE, Evaluation, EvaluationRecord
from fleetfoot.evaluate.tally import BINS
from fleetfoot.report.eval_svg import (
    MOST_NARROW,
    MOST_WIDE,
    matrix,
    reliability,
    short,
    shown_classes,
    whisker,
)
from fleetfoot.report.evaluations import (
    confusions,
    disagreeing,
    percent,
    preprocessing,
    scope,
    setting,
    title,
    verdict_words,
    weakest,
)
from fleetfoot.report.kit.markup import markup, node, page
from fleetfoot.report.kit.svg import bar
from fleetfoot.report.kit.table import head, scrolling, sorting_head, table
from fleetfoot.report.kit.thumbnail import thumbnail
from fleetfoot.report.summary import moment

MISTAKES = 24
"""Wrong answers on the contact sheet."""
PAIRS = 15
"""Pairs of classes in the list of the most confused."""
DISAGREEMENTS = 50
"""Pictures in the list of those that the engines disagree on."""


def html(
    evaluations: Sequence[Evaluation],
    split: Split | None = None,
    failures: Sequence[tuple[str, str]] = (),
) -> str:
    """The page, complete in one text.

    Args:
        evaluations: of one network on one engine or several; details are those of the first.
        split: the pictures, for the contact sheet. Default: none is shown.
        failures: engines that did not run, with the reason.
    """
    first = evaluations[0]
    record = first.record
    return page(
        "eval_page",
        ("page.css", "eval_page.css"),
        "",
        title=title(record),
        when=f"fleetfoot eval · {record.form} · {moment(record.started)}",
        pictures=True,
        script="classes",
        head=markup(*_head(evaluations)),
        engines=markup(*_engines(evaluations)),
        charts=markup(*_charts(record)),
        worst_title="The worst mistakes",
        worst=markup(*_mistakes(first, split)),
        table_title="Class by class",
        noun="class",
        rows=markup(_classes(record)),
        how=markup(*_how(evaluations, failures)),
    )


def _head(evaluations: Sequence[Evaluation]) -> list[Element]:
    record = evaluations[0].record
    figures = [
        ("top-1", f"{percent(record.top1.percent)} %", interval_words(record.top1.ci95)),
        ("top-5", f"{percent(record.top5.percent)} %", interval_words(record.top5.ci95)),
    ]
    if record.real is not None:
        words = f"{interval_words(record.real.ci95)}, of {counted(record.real.images, 'picture')}"
        figures.append(("real labels", f"{percent(record.real.percent)} %", words))
    if record.calibration_error is not None:
        error = f"{percent(record.calibration_error)} %"
        figures.append(("calibration error", error, f"{BINS} ranges of confidence"))
    if record.loss is not None:
        figures.append(("loss", f"{record.loss:.4f}", "mean cross entropy, nats"))
    words = f"{counted(record.unreadable, 'picture')} could not be read" * bool(record.unreadable)
    figures.append(("pictures", f"{record.top1.images:,}", words))
    of = f" Figures of {record.engine}." if len(evaluations) > 1 else ""
    said = f"{capital(scope(record))}; {setting(record)}.{of}"
    found = [node("p", said, class_="setting-of")]
    found += [node("p", capital(note), class_="note") for note in record.notes]
    return [*found, facts(figures)]


def facts(figures: Sequence[tuple[str, str, str]]) -> Element:
    """The figures at the head of a page: name, value and remark of each."""
    rows = [
        node("div", node("dt", name), node("dd", value), node("dd", remark, class_="small"))
        for name, value, remark in figures
    ]
    return node("dl", *rows, class_="facts")


def interval_words(ends: tuple[float, float]) -> str:
    """An interval of a share in percent."""
    return f"95 % interval {ends[0]:.2f} to {ends[1]:.2f}"


def capital(text: str) -> str:
    """A text as a sentence begins."""
    return text[:1].upper() + text[1:]


def _engines(evaluations: Sequence[Evaluation]) -> list[Element]:
    """The engines side by side, and the pictures that they disagree on."""
    if len(evaluations) < 2:
        return []
    first = evaluations[0]
    ends = [end for one in evaluations for end in one.record.top1.ci95]
    axis = (min(ends), max(ends))
    body = []
    for one in evaluations:
        record = one.record
        low, high = record.top1.ci95
        words = "" if one is first else verdict_words(compare(first, one).paired)
        differs = "" if one is first else f"{len(disagreeing([first, one])):,}"
        error = "" if record.error is None else f"{record.error:.1e}"
        body.append(
            node(
                "tr",
                node("th", record.engine, node("small", f" {record.engine_version}"), scope="row"),
                node("td", percent(record.top1.percent), class_="number"),
                node("td", whisker(low, high, record.top1.percent, axis)),
                node("td", percent(record.top5.percent), class_="number"),
                node("td", "-" if record.loss is None else f"{record.loss:.4f}", class_="number"),
                node("td", differs, class_="number"),
                node("td", error, class_="number"),
                node("td", words),
            )
        )
    titles = (
        ("engine", False), ("top-1, %", True), ("95 % interval", False), ("top-5, %", True),
        ("loss", True), ("other guess", True), ("error of logits", True),
        (f"against {first.record.engine}", False),
    )  # fmt: skip
    heads = [head(text, number=number) for text, number in titles]
    name = "Engines side by side"
    parts = [node("h2", name), scrolling(name, table(name, heads, body, class_="plain"))]
    numbers = disagreeing(evaluations)
    if not numbers:
        words = "The engines name the same class for every picture."
        return [node("section", *parts, node("p", words, class_="small"))]
    words = f"The engines disagree on {counted(len(numbers), 'picture')}"
    rows = []
    for number in numbers[:DISAGREEMENTS]:
        truth = int(first.answers.truth[number])
        cells = [node("td", visible(first.record.classes[truth]))]
        for record, answers in evaluations:
            said = answers[number]
            text = _guess(record, said.guesses, said.probabilities)
            cells.append(node("td", text, class_="right" if said.right else None))
        picture = visible(first.answers.pictures[number])
        rows.append(node("tr", node("th", picture, scope="row"), *cells))
    heads = [
        head(text, number=False)
        for text in ("picture", "true class", *(one.record.engine for one in evaluations))
    ]
    if len(numbers) > DISAGREEMENTS:
        words += f"; the first {DISAGREEMENTS}"
    parts += [node("h3", words), scrolling(words, table(words, heads, rows, class_="plain"))]
    return [node("section", *parts)]


def _guess(record: EvaluationRecord, guesses: Sequence[int], probabilities: Sequence[float]) -> str:
    if not guesses:
        return "no answer"
    return f"{short(visible(record.classes[guesses[0]]), 28)} {100 * probabilities[0]:.1f} %"


def _charts(record: EvaluationRecord) -> list[Element]:
    counts = record.counts
    confused_remarks = [
        node("p", _matrix_remark(record, most), class_=f"small {kind}")
        for most, kind in ((MOST_WIDE, "wide-only"), (MOST_NARROW, "narrow-only"))
    ]
    confused = node(
        "figure",
        node("figcaption", "What is taken for what"),
        *(matrix(record, narrow=narrow) for narrow in (False, True)),
        *confused_remarks,
    )
    error = record.calibration_error
    believed = node(
        "figure",
        node("figcaption", "Can the probabilities be believed?"),
        *(reliability(counts, narrow=narrow) for narrow in (False, True)),
        node(
            "p",
            "Bars: the share that is right; lines across them: the mean probability. Bars below "
            "their lines are too sure of themselves. Expected calibration error "
            f"{percent(error)} %.",
            class_="small",
        ),
    )
    return [node("div", confused, believed, class_="figures evaluation"), *_pairs(record)]


def _matrix_remark(record: EvaluationRecord, most: int) -> str:
    shown = len(shown_classes(record.counts, most))
    present = len(shown_classes(record.counts, len(record.classes)))
    what = (
        "" if shown == present else f"The {shown} of {present:,} classes that are confused most. "
    )
    return f"{what}The shade is the share of the true class."


def _pairs(record: EvaluationRecord) -> list[Element]:
    """The most confused pairs, if the classes are too many for one matrix."""
    found = [row for row in confusions(record.counts) if row[2] > 1]
    if not found or len(shown_classes(record.counts, len(record.classes))) <= MOST_NARROW:
        return []
    images = {one.number: one.images for one in record.counts.per_class}
    rows = [
        node(
            "tr",
            node("th", visible(record.classes[truth]), scope="row"),
            node("td", visible(record.classes[guess])),
            node("td", f"{n:,}", class_="number"),
            node("td", percent(100 * n / images[truth]), bar(n / images[truth]), class_="number"),
        )
        for truth, guess, n in found[:PAIRS]
    ]
    name = "The most confused pairs"
    heads = [
        head(text, number=i > 1)
        for i, text in enumerate(("true class", "taken for", "pictures", "% of the class"))
    ]
    return [node("h3", name), scrolling(name, table(name, heads, rows, class_="plain"))]


def worst(evaluation: Evaluation, most: int = MISTAKES) -> list[int]:
    """Numbers of the wrong answers with the highest probabilities, the surest first."""
    answers = evaluation.answers
    wrong = np.flatnonzero((answers.guesses[:, 0] >= 0) & ~answers.right)
    order = np.argsort(-answers.probabilities[wrong, 0], kind="stable")
    return [int(n) for n in wrong[order[:most]]]


def _mistakes(evaluation: Evaluation, split: Split | None) -> list[Element]:
    record, answers = evaluation
    numbers = worst(evaluation)
    if not numbers:
        return [node("p", "No picture is named wrongly.", class_="small")]
    cards = []
    for number in numbers:
        one = answers[number]
        name = visible(one.picture)
        shown = None if split is None else thumbnail(split.pictures[number])
        frame = (
            node("div", node("span", "no picture"), class_="frame")
            if shown is None
            else node("div", node("img", src=shown, alt=name), class_="frame")
        )
        guesses = [
            node(
                "li",
                node("span", visible(record.classes[guess])),
                node("span", f"{100 * probability:.1f} %"),
                class_="right" if guess == one.truth else None,
            )
            for guess, probability in zip(one.guesses[:3], one.probabilities, strict=False)
        ]
        cards.append(
            node(
                "li",
                frame,
                node("p", visible(record.classes[one.truth]), class_="truth"),
                node("ol", *guesses),
                node("p", visible(one.picture.rpartition("/")[2]), class_="file", title=name),
            )
        )
    wrong = record.top1.images - record.top1.right
    if len(numbers) < wrong:
        said = f"The {len(numbers)} surest of {wrong:,} wrong answers."
    elif wrong == 1:
        said = "The only wrong answer."
    else:
        said = f"All {wrong:,} wrong answers, the surest first."
    said += " In bold the true class, then the guesses with their probabilities."
    return [node("p", said, class_="noise"), node("ul", *cards, class_="sheet")]


def _classes(record: EvaluationRecord) -> Element:
    """A row for each class that has pictures or was guessed, the weakest first."""
    counts = record.counts
    most: dict[int, tuple[int, int]] = {}
    for truth, guess, n in reversed(confusions(counts)):
        most[truth] = (guess, n)
    known = weakest(counts)
    others = [one for one in counts.per_class if one.guessed and not one.images]
    rows = []
    for one in (*known, *others):
        name = visible(record.classes[one.number])
        taken = ""
        if one.number in most:
            guess, n = most[one.number]
            taken = f"{visible(record.classes[guess])} {n}×"
        recall, precision = one.recall, one.precision
        rows.append(
            node(
                "tr",
                node("th", name, scope="row", data_v=name),
                node("td", f"{one.images:,}", class_="number", data_v=one.images),
                share_cell(recall, with_bar=True),
                share_cell(precision),
                node("td", f"{one.guessed:,}", class_="number", data_v=one.guessed),
                node("td", taken, data_v=taken),
            )
        )
    heads = [
        sorting_head("class", "", "", number=False, ascending=False),
        sorting_head("pictures", "", "pictures of this class", number=True, ascending=False),
        sorting_head("recall", "%", "share of the class's pictures that is named correctly",
                     number=True, ascending=True),
        sorting_head("precision", "%", "share of the pictures taken for this class that is of it",
                     number=True, ascending=False),
        sorting_head("guessed", "", "pictures that are taken for this class", number=True,
                     ascending=False),
        sorting_head("most often taken for", "", "", number=False, ascending=False),
    ]  # fmt: skip
    return table("Every class", heads, rows, id="classes")


def share_cell(value: float | None, *, with_bar: bool = False) -> Element:
    """A cell with a share in percent."""
    made = node("td", percent(value), class_="number", data_v="" if value is None else repr(value))
    if with_bar and value is not None:
        made.append(bar(value / 100))
    return made


def _how(evaluations: Sequence[Evaluation], failures: Sequence[tuple[str, str]]) -> list[Element]:
    record, answers = evaluations[0]
    named = {
        "data": f"{record.data}, {record.split}; fingerprint {record.fingerprint}",
        "classes": scope(record),
        "input": preprocessing(record),
        "form": record.form,
        "engine": ", ".join(f"{r.engine} {r.engine_version}" for r, _ in evaluations),
        "threads, batch": f"{record.threads}, {record.batch}",
        "parameters": "unknown" if record.params is None else f"{record.params:,}",
        "weights": record.weights,
        "machine": f"{record.machine['cpu']}, {record.machine['os']}",
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "commit": record.commit or "unknown",
        "time": f"{record.seconds:.1f} s with decoding, all engines; not a measurement of speed",
        "intervals": "Wilson's, 95 %: what another draw of as many pictures would give; between "
        "engines, McNemar's test on the same pictures",
    }
    rows = [part for name, text in named.items() for part in (node("dt", name), node("dd", text))]
    bad = [
        f"{answers.pictures[n]}: {error}"
        for n, error in sorted(answers.errors.items())
        if error != NOT_FINITE
    ]
    if bad:
        rows += [node("dt", "not read"), *(node("dd", visible(text)) for text in bad[:MISTAKES])]
        if len(bad) > MISTAKES:
            rows.append(node("dd", f"and {len(bad) - MISTAKES:,} more, in pictures.csv"))
    if failures:
        rows.append(node("dt", "did not run"))
        rows += [node("dd", visible(f"{name}: {reason}")) for name, reason in failures]
    return [node("dl", *rows)]
