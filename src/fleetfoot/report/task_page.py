"""One HTML page for an evaluation of a detector, a segmenter or a hand's network: figures with
intervals, engines side by side, curves, confusion, classes, and the worst answers beside what is
true. It fetches nothing from the internet, works without its script, and prints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

from fleetfoot.data.scenes import Scenes
from fleetfoot.errors import counted, visible
from fleetfoot.evaluate.bootstrap import METHOD
from fleetfoot.evaluate.judges.base import Metric
from fleetfoot.evaluate.judges.detect import DetectJudge
from fleetfoot.evaluate.judges.hand import HandJudge
from fleetfoot.evaluate.task_compare import compare
from fleetfoot.evaluate.task_record import TaskEvaluation, TaskRecord
from fleetfoot.report import task_sheet
from fleetfoot.report.eval_page import capital, facts, share_cell
from fleetfoot.report.eval_svg import MOST_NARROW, MOST_WIDE, whisker
from fleetfoot.report.evaluations import percent, preprocessing, setting, title
from fleetfoot.report.kit.hues import class_rules
from fleetfoot.report.kit.markup import markup, node, page
from fleetfoot.report.kit.table import head, scrolling, sorting_head, table
from fleetfoot.report.summary import moment
from fleetfoot.report.task_evaluations import (
    COLUMNS,
    DECIDING,
    scope,
    times,
    verdict_words,
    weakest,
)
from fleetfoot.report.task_svg import (
    COLOURED,
    confusion,
    curves,
    shares_within,
    shown_classes,
    spent,
)
from fleetfoot.tasks.detect import matching

ROWS = 400
"""Pictures in the table of pictures, the worst of them."""
ERRORS = 24
"""Pictures that could not be used, in the list."""
WORST: dict[str, str] = {
    "detect": "The pictures with the lowest F1, from the score of {score:.2f} on, at which F1 is "
    "highest over all pictures. Blue: right. Orange: missed, or found where nothing is. Violet: "
    "found as another class. Dashed: not judged.",
    "hand": "The hands whose joints are farthest off after alignment. Blue: as it is. Orange: as "
    "found.",
    "segment": "The pictures with the fewest right pixels. Where they differ: the colour of the "
    "class that was found; pale where it is right, grey where no class is stated.",
}

Answers = Callable[[Sequence[int]], Mapping[int, Any]]


def html(
    evaluations: Sequence[TaskEvaluation],
    part: Scenes | None = None,
    answers: Answers = lambda numbers: {},
    failures: Sequence[tuple[str, str]] = (),
) -> str:
    """The page, complete in one text.

    Args:
        evaluations: of one network on one engine or several; details are those of the first.
        part: the pictures, for the sheet of the worst. Default: their places are empty.
        answers: the network's answers for pictures by their numbers, for what the record does not
            hold (label maps).
        failures: engines that did not run, with the reason.
    """
    first = evaluations[0]
    record = first.record
    return page(
        "eval_page",
        ("page.css", "eval_page.css", "task_page.css"),
        class_rules(range(len(record.classes))),
        title=title(record),
        when=f"fleetfoot eval · {record.task} · {record.form} · {moment(record.started)}",
        pictures=True,
        script="classes",
        head=markup(*_head(evaluations)),
        engines=markup(*_engines(evaluations)),
        charts=markup(*_charts(first)),
        worst_title="The worst pictures",
        worst=markup(*_worst(first, part, answers)),
        table_title="Class by class" if record.classes else "Picture by picture",
        noun="class" if record.classes else "picture",
        rows=markup(_classes(record) if record.classes else _pictures(first)),
        how=markup(*_how(evaluations, failures)),
    )


def _head(evaluations: Sequence[TaskEvaluation]) -> list[Element]:
    record, answers = evaluations[0]
    figures = [
        (one.title, one.text(record.figures[one.name]), _remark(record, one))
        for one in answers.judge.shown()
    ]
    words = f"{counted(record.unreadable, 'picture')} could not be used" * bool(record.unreadable)
    figures.append(("pictures", f"{record.images:,}", words))
    of = f" Figures of {record.engine}." if len(evaluations) > 1 else ""
    said = f"{capital(scope(record))}; {setting(record)}.{of}"
    notes = [node("p", capital(note), class_="note") for note in record.notes]
    return [node("p", said, class_="setting-of"), *notes, facts(figures)]


def _remark(record: TaskRecord, metric: Metric) -> str:
    ends = record.intervals.get(metric.name)
    if ends is None:
        return metric.says
    return f"95 % interval {' to '.join(map(metric.number, ends))}"


def _engines(evaluations: Sequence[TaskEvaluation]) -> list[Element]:
    """The engines side by side."""
    if len(evaluations) < 2:
        return []
    first = evaluations[0]
    metrics = first.answers.judge.shown()[:3]
    main = metrics[0].name
    ends = [e for one in evaluations for e in one.record.intervals.get(main, ())]
    axis = (min(ends), max(ends)) if ends else (0.0, 1.0)
    body = []
    for one in evaluations:
        record = one.record
        own = record.intervals.get(main)
        value = record.figures[main]
        drawn = whisker(*own, value, axis) if own and value is not None else ""
        words = "" if one is first else verdict_words(compare(first, one))
        error = "" if record.error is None else f"{record.error:.1e}"
        body.append(
            node(
                "tr",
                node("th", record.engine, node("small", f" {record.engine_version}"), scope="row"),
                *(
                    node("td", percent(record.figures.get(metric.name)), class_="number")
                    for metric in metrics
                ),
                node("td", drawn),
                *(
                    node("td", f"{1000 * record.times[name]:.1f}", class_="number")
                    for name in ("fixed", "decode")
                ),
                node("td", error, class_="number"),
                node("td", words),
            )
        )
    heads = [
        head("engine", number=False),
        *(head(f"{metric.title}, {metric.unit}", number=True) for metric in metrics),
        head(f"95 % interval of {metrics[0].title}", number=False),
        head("fixed part, ms", number=True),
        head("decoding, ms", number=True),
        head("error of outputs", number=True),
        head(f"against {first.record.engine}", number=False),
    ]
    name = "Engines side by side"
    made = scrolling(name, table(name, heads, body, class_="plain"))
    return [node("section", node("h2", name), made)]


def _charts(evaluation: TaskEvaluation) -> list[Element]:
    record, answers = evaluation
    judge = answers.judge
    figures = []
    names = [visible(name) for name in record.classes]
    if isinstance(judge, DetectJudge):
        precision = judge.precision()
        known = [(n, name, precision.curve(n)) for n, name in enumerate(names)]
        drawn = [(n, name, curve) for n, name, curve in known if curve is not None]
        if drawn:
            figures.append(
                node(
                    "figure",
                    node("figcaption", "Precision by recall, at an overlap of a half"),
                    *(curves(drawn, narrow=narrow) for narrow in (False, True)),
                    _legend([(n, name) for n, name, _ in drawn], with_mean=len(drawn) > 1)
                    if len(drawn) <= COLOURED
                    else node("p", "Grey: one class each. Black: their mean.", class_="small"),
                )
            )
        counts = matching.confusion(judge.meter, judge.verdicts)
        remark = (
            f"Detections from a score of {judge.score:.2f} on. The last column holds objects that "
            "nothing found, the last row detections where nothing is."
        )
        figures.insert(0, _confused(counts, names, remark, objects=True))
    elif isinstance(judge, HandJudge):
        errors = sorted(row["pa_mpjpe"] or 0.0 for row in judge.rows().values())
        caption = "How many hands are within so many millimetres"
        figures.append(_within(caption, errors, "PA-MPJPE, mm"))
    elif record.task == "segment":
        remark = "Percent of the pixels of the true class."
        figures.append(_confused(judge.meter.matrix, names, remark, objects=False))
        rows = [row["accuracy"] for row in judge.rows().values()]
        wrong = sorted(100 - accuracy for accuracy in rows if accuracy is not None)
        if wrong:
            figures.append(
                _within("How many pictures have at most so many wrong pixels", wrong,
                        "wrong pixels, %")
            )  # fmt: skip
    if record.parts:
        figures.append(
            node(
                "figure",
                node("figcaption", "Where the time of a picture goes"),
                spent(record.parts),
                node(
                    "p",
                    f"{capital(record.engine)}; the median picture, shared out by one run in "
                    "which each operator is timed by itself. Not a measurement of speed.",
                    class_="small",
                ),
            )
        )
    if not figures:
        return []
    rest = [node("div", *figures[1:], class_="column")] if figures[1:] else []
    return [node("div", figures[0], *rest, class_="figures evaluation")]


def _within(caption: str, errors: Sequence[float], axis: str) -> Element:
    return node(
        "figure",
        node("figcaption", caption),
        *(shares_within(errors, title=axis, narrow=narrow) for narrow in (False, True)),
    )


def _confused(counts: Any, names: Sequence[str], remark: str, *, objects: bool) -> Element:
    present = len(shown_classes(counts, len(counts), objects=objects)) - objects
    remarks = []
    for most, kind in ((MOST_WIDE, "wide-only"), (MOST_NARROW, "narrow-only")):
        shown = len(shown_classes(counts, most, objects=objects)) - objects
        some = f"The {shown} of {present} classes that are confused most. " * (shown < present)
        remarks.append(node("p", some + remark, class_=f"small {kind}"))
    return node(
        "figure",
        node("figcaption", "What is taken for what"),
        *(confusion(counts, names, objects=objects, narrow=narrow) for narrow in (False, True)),
        *remarks,
    )


def _legend(classes: Sequence[tuple[int, str]], *, with_mean: bool = False) -> Element:
    items = [node("li", node("span", class_=f"swatch c{number}"), name) for number, name in classes]
    if with_mean:
        items.append(node("li", node("span", class_="swatch mean"), "mean"))
    return node("ul", *items, class_="legend")


def _worst(evaluation: TaskEvaluation, part: Scenes | None, answers: Answers) -> list[Element]:
    record, held = evaluation
    judge = held.judge
    numbers = judge.worst(task_sheet.PICTURES)
    if not numbers:
        return [node("p", "There is no mistake on any picture.")]
    legend: list[Element] = []
    if isinstance(judge, DetectJudge):
        cards = task_sheet.detections(evaluation, part)
    elif isinstance(judge, HandJudge):
        cards = task_sheet.hands(evaluation, part, answers(numbers))
    else:
        cards = task_sheet.label_maps(evaluation, part, answers(numbers))
        legend = [_legend(list(enumerate(map(visible, record.classes))))]
    if not cards:
        return [node("p", "The pictures are not at hand.")]
    said = WORST[record.task].format(score=record.score or 0.0)
    return [node("p", said, class_="noise"), *legend, node("ul", *cards, class_="scenes")]


def _classes(record: TaskRecord) -> Element:
    """A row for each class that occurs, the weakest first, then the others."""
    deciding = DECIDING[record.task]
    names = [name for name in COLUMNS if any(name in row for row in record.per_class)]
    first = weakest(record)
    others = [n for n in range(len(record.classes)) if n not in set(first)]
    rows = []
    for number in (*first, *others):
        row, name = record.per_class[number], visible(record.classes[number])
        cells = []
        for column in names:
            value = row.get(column)
            if column in ("objects", "pixels"):
                text = f"{value or 0:,.0f}"
                cells.append(node("td", text, class_="number", data_v=value or 0))
            else:
                cells.append(share_cell(value, with_bar=column == deciding))
        swatch = node("span", class_=f"swatch c{number}")
        rows.append(node("tr", node("th", swatch, name, scope="row", data_v=name), *cells))
    heads = [sorting_head("class", "", "", number=False, ascending=False)]
    for column in names:
        text, _, unit = COLUMNS[column].partition(", ")
        heads.append(sorting_head(text, unit, "", number=True, ascending=column == deciding))
    return table("Every class", heads, rows, id="classes")


def _pictures(evaluation: TaskEvaluation) -> Element:
    """A row for each picture, the worst first."""
    judge, names = evaluation.answers.judge, evaluation.answers.names
    metrics = [metric for metric in judge.metrics if metric.name in judge.columns]
    held = judge.rows()
    rows = []
    for number in judge.worst(ROWS):
        name, row = visible(names[number]), held[number]
        cells = [
            node("td", metric.number(value), class_="number", data_v=repr(value))
            for metric in metrics
            if (value := row[metric.name]) is not None
        ]
        rows.append(node("tr", node("th", name, scope="row", data_v=name), *cells))
    heads = [sorting_head("picture", "", "", number=False, ascending=False)]
    heads += [
        sorting_head(metric.title, metric.unit, metric.says, number=True, ascending=False)
        for metric in metrics
    ]
    return table("The pictures", heads, rows, id="classes", data_noun="pictures")


def _how(
    evaluations: Sequence[TaskEvaluation], failures: Sequence[tuple[str, str]]
) -> list[Element]:
    record, answers = evaluations[0]
    named = {
        "data": f"{record.data}, {record.split}; fingerprint {record.fingerprint}",
        "classes": scope(record),
        "input": preprocessing(record),
        "form": record.form,
        "engine": ", ".join(f"{r.engine} {r.engine_version}" for r, _ in evaluations)
        + " for the fixed part; decoding by torch",
        "threads, batch": f"{record.threads}, {record.batch}",
        "parameters": f"{record.params:,}",
        "weights": record.weights,
        "time": times(record),
        "machine": f"{record.machine['cpu']}, {record.machine['os']}",
        "versions": ", ".join(f"{name} {version}" for name, version in record.versions.items()),
        "commit": record.commit or "unknown",
        "figures": FIGURES[record.task],
        "intervals": f"95 %, {METHOD}",
    }
    rows = [part for name, text in named.items() for part in (node("dt", name), node("dd", text))]
    if answers.errors:
        bad = [f"{answers.names[n]}: {error}" for n, error in sorted(answers.errors.items())]
        rows += [node("dt", "not used"), *(node("dd", visible(text)) for text in bad[:ERRORS])]
        if len(bad) > ERRORS:
            rows.append(node("dd", f"and {len(bad) - ERRORS:,} more, in pictures.csv"))
    if failures:
        rows.append(node("dt", "did not run"))
        rows += [node("dd", visible(f"{name}: {reason}")) for name, reason in failures]
    return [node("dl", *rows)]


FIGURES: dict[str, str] = {
    "detect": "COCO's, by faster-coco-eval: overlaps of 0.50, 0.55, ... 0.95, 101 levels of "
    "recall, 100 detections of a picture and class",
    "hand": "each hand is aligned by the best similarity (Procrustes), joints and vertices for "
    "themselves; F-scores count vertices within 5 and 15 mm of one on the other side",
    "segment": "from one matrix of true and given classes over all pixels that have a class",
}
