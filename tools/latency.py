"""``docs/latency-model.md``: the errors of the latency model, from the record of a check.

    python -m tools.latency docs/latency-model.md benchmarks/latency-model

puts the tables of a record of ``fleetfoot calibrate --check`` into the page, and draws its picture
beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fleetfoot.choose.calibration_check import PREDICTORS, Check, read_check
from fleetfoot.report import update_between_markers
from fleetfoot.report.latency import CHECK_FILE, TARGETS, cells, figures, save_picture, setting
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.report.summary import absences, moment


def markdown(made: Check) -> str:
    """The check as Markdown: the fit, the errors by predictor, the targets, each network."""
    calibration = made.calibration
    found = made.agreement()
    words = (
        f"{setting(calibration)}. Fitted to {len(calibration.samples)} synthetic networks in "
        f"{calibration.seconds:.0f} s, {moment(calibration.started)}; checked on "
        f"{len(made.networks)} networks in {made.seconds:.0f} s."
    )
    head = ("predicted by", *(target.name for target in TARGETS))
    rows = [(name, *figures(made.agreement(name))) for name in PREDICTORS]
    verdicts = [
        f"- {target.name} {target.text}: {text}, {'met' if target.met(found) else 'not met'}"
        for target, text in zip(TARGETS, figures(found), strict=True)
    ]
    titles = ("network", "pixels", "M MACs", "measured ms", "predicted ms", "off by")
    lines = [
        (one.model, str(one.size), f"{one.macs / 1e6:.0f}", *cells(one))
        for one in sorted(made.networks, key=lambda one: one.measured_s)
    ]
    return "\n".join(
        [
            words,
            "",
            *markdown_table(head, rows),
            "",
            *verdicts,
            "",
            *markdown_table(titles, lines),
            *(f"\n{line}" for line in absences(made.failures)),
        ]
    )


def main(document: str, folder: str) -> None:
    """Puts the tables between the markers of ``document`` and draws the picture."""
    made = read_check(Path(folder) / CHECK_FILE)
    changed = update_between_markers(document, markdown(made))
    print(f"{document}: {'updated' if changed else 'already what the record gives'}")
    print(f"wrote {save_picture(made, Path(folder))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
