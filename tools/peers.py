"""The native engine beside its peers: the table of ``README.md`` and the one of ``docs/engine.md``.

    python -m tools.peers

makes both again from the records in ``benchmarks``. Whether one engine is faster than another is
said by the rule of ``fleetfoot compare``, not by two medians.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean

from fleetfoot.measure.compare import Verdict, change
from fleetfoot.measure.protocols import OWN, PEERS
from fleetfoot.measure.record import Measurement, read
from fleetfoot.report import update_between_markers
from fleetfoot.report.summary import digits, findings, grouped, versus
from fleetfoot.report.tables import markdown_table

ROOT = Path(__file__).resolve().parents[1]
README, ENGINE_PAGE = ROOT / "README.md", ROOT / "docs" / "engine.md"
RECORDS = ("xeon", "peers")
"""Folders of ``benchmarks``; README's table is of the first, of which most cells are stable."""
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
"""About a dozen: one or two of each family, and the peers that everybody knows."""
WORDS: dict[Verdict, str] = {
    "faster": "beyond noise",
    "noise": "within noise",
    "slower": "slower beyond noise",
}


@dataclass(frozen=True)
class Pair:
    """One network on the native engine and on the peer with the least median."""

    own: Measurement
    peer: Measurement

    @property
    def gain(self) -> float:
        """Median of the peer / median of the native engine."""
        return self.peer.median_s / self.own.median_s

    @property
    def verdict(self) -> Verdict:
        """By the rule of ``fleetfoot compare``: the native engine against the peer."""
        return change(self.peer, self.own).verdict


def pairs(rows: Sequence[Measurement]) -> list[Pair]:
    """The networks of one setting that the native engine and a peer ran, the soonest first."""
    found = []
    for line in versus(rows)[1]:
        peers = [m for engine, m in line.cells.items() if engine in PEERS]
        if OWN in line.cells and peers:
            found.append(Pair(line.cells[OWN], min(peers, key=lambda m: m.median_s)))
    return found


def readme_table(measurements: Sequence[Measurement]) -> str:
    """The dozen networks in the record's first setting, what they show, and where they ran."""
    setting, rows = next(iter(grouped(measurements).items()))
    found = pairs(rows)
    shown = [pair for pair in found if pair.own.model in SHOWN]
    counts = Counter(pair.verdict for pair in found)
    titles = ["network", "top-1 %", "MACs M", "native ms", "GFLOPS", "best peer ms", "best peer"]
    titles += ["best peer / native", "difference"]
    lines = [
        [
            p.own.model,
            "-" if p.own.top1 is None else f"{p.own.top1:.1f}",
            digits(p.own.macs / 1e6),
            digits(p.own.median_s * 1e3),
            digits(p.own.achieved_gflops),
            digits(p.peer.median_s * 1e3),
            p.peer.engine,
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
            f"Of all {len(found)} networks in this setting, native is faster than the best peer "
            f"beyond noise on {counts['faster']}, within noise on {counts['noise']}, and slower "
            f"beyond noise on {counts['slower']}.",
            "",
            f"Setting: {setting}, each network folded, on {rows[0].machine['cpu']}; {stable} of "
            f"{len(rows)} cells are stable; top-1 as published, not measured here.",
        ]
    )


def settings_table(records: Sequence[tuple[str, Sequence[Measurement]]]) -> str:
    """A row a record and setting: on how many networks the native engine is faster than the best
    peer beyond noise, and by how much in the mean."""
    titles = ["record", "setting", "networks", "faster beyond noise", "within noise"]
    titles += ["slower beyond noise", "best peer / native, geometric mean", "stable cells"]
    lines = []
    for name, measurements in records:
        for setting, rows in grouped(measurements).items():
            found = pairs(rows)
            counts = Counter(p.verdict for p in found)
            stable = sum(m.stable for m in rows)
            lines.append(
                [
                    f"[`benchmarks/{name}`](../benchmarks/{name})",
                    str(setting),
                    str(len(found)),
                    *(str(counts[word]) for word in ("faster", "noise", "slower")),
                    f"{geometric_mean(p.gain for p in found):.2f}",
                    f"{stable} of {len(rows)}",
                ]
            )
    return "\n".join(markdown_table(titles, lines, left=(0, 1)))


def main() -> None:
    """Puts both tables between the markers of their documents."""
    records = [(name, read(ROOT / "benchmarks" / name)) for name in RECORDS]
    for document, text in (
        (README, readme_table(records[0][1])),
        (ENGINE_PAGE, settings_table(records)),
    ):
        changed = update_between_markers(document, text)
        state = "updated" if changed else "already what the records give"
        print(f"{document.relative_to(ROOT)}: {state}")


if __name__ == "__main__":
    main()
