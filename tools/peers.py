"""The native engine beside its peers: the table of ``README.md`` and the one of ``docs/engine.md``.

    python -m tools.peers

makes both again from the records in ``benchmarks``. The rule of ``fleetfoot compare`` decides
whether one engine is faster than another, not a comparison of two medians.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import geometric_mean

from fleetfoot.measure.compare import Tally, Verdict, contests
from fleetfoot.report import Joined, read_joined, update_between_markers
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.report.summary import OWN, PEERS, digits, findings, grouped

ROOT = Path(__file__).resolve().parents[1]
README, ENGINE_PAGE = ROOT / "README.md", ROOT / "docs" / "engine.md"
RECORDS = ("xeon", "peers")
"""Folders of ``benchmarks``. README's table uses the first, in which most cells are stable."""
SHOWN = (
    "mobilenetv3_small_100",
    "shufflenet_v2_x1_0",
    "shufflenet_v1_g3_x1_0",
    "timm:ghostnet_100",
    "mobileone_s0",
    "mobilenetv3_large_100",
    "mobilenetv2_100",
    "fasternet_t0",
    "mobilenetv1_100",
    "timm:mobilevit_xxs",
    "fasternet_t2",
    "fastvit_sa12",
    "timm:resnet50",
)
"""Networks of README's table: one or two of each family, and well-known peers."""
WORDS: dict[Verdict, str] = {
    "faster": "beyond noise",
    "noise": "within noise",
    "slower": "slower beyond noise",
}


def readme_table(measurements: Sequence[Joined]) -> str:
    """The table of ``NETWORKS`` in the record's first setting, its result, and the machine."""
    setting, rows = next(iter(grouped(measurements).items()))
    found = contests(rows, OWN, PEERS)
    shown = [contest for contest in found if contest.own.model in SHOWN]
    titles = ["network", "top-1 %", "MACs M", "native ms", "GFLOPS", "best peer ms", "best peer"]
    titles += ["best peer / native", "difference"]
    lines = [
        [
            p.own.model,
            "-" if p.own.top1 is None else f"{p.own.top1:.1f}",
            digits(p.own.macs / 1e6),
            digits(p.own.median_s * 1e3),
            digits(p.own.achieved_gflops),
            digits(p.rival.median_s * 1e3),
            p.rival.engine,
            f"{p.gain:.2f}",
            WORDS[p.verdict],
        ]
        for p in shown
    ]
    stable = sum(m.stable for m in rows)
    return "\n".join(
        [
            *markdown_table(titles, lines, left=(0, 6, 8)),
            "",
            *(f"{sentence}\n" for sentence in findings([p.own for p in shown])),
            f"In this setting, {Tally.of(found).sentence(OWN, 'the best peer')}.",
            "",
            f"Setting: {setting}, each network folded, on {rows[0].machine['cpu']}; {stable} of "
            f"{len(rows)} cells are stable; top-1 as published, not measured here.",
        ]
    )


def settings_table(records: Sequence[tuple[str, Sequence[Joined]]]) -> str:
    """A table with one row for each record and setting: on how many networks the native engine is
    faster than the best peer beyond noise, and the mean ratio of their times."""
    titles = ["record", "setting", "networks", "faster beyond noise", "within noise"]
    titles += ["slower beyond noise", "best peer / native, geometric mean", "stable cells"]
    lines = []
    for name, measurements in records:
        for setting, rows in grouped(measurements).items():
            found = contests(rows, OWN, PEERS)
            stable = sum(m.stable for m in rows)
            lines.append(
                [
                    f"[`benchmarks/{name}`](../benchmarks/{name})",
                    str(setting),
                    str(len(found)),
                    *map(str, Tally.of(found)),
                    f"{geometric_mean(p.gain for p in found):.2f}",
                    f"{stable} of {len(rows)}",
                ]
            )
    return "\n".join(markdown_table(titles, lines, left=(0, 1)))


def main() -> None:
    """Puts both tables between the markers of their documents."""
    records = [(name, read_joined(ROOT / "benchmarks" / name)) for name in RECORDS]
    for document, text in (
        (README, readme_table(records[0][1])),
        (ENGINE_PAGE, settings_table(records)),
    ):
        changed = update_between_markers(document, text)
        state = "updated" if changed else "already what the records give"
        print(f"{document.relative_to(ROOT)}: {state}")


if __name__ == "__main__":
    main()
