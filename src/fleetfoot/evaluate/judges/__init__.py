"""What each task's answers are judged by."""

from __future__ import annotations

from fleetfoot.evaluate.judges.base import Judge
from fleetfoot.evaluate.judges.detect import DetectJudge
from fleetfoot.evaluate.judges.hand import HandJudge
from fleetfoot.evaluate.judges.segment import SegmentJudge

JUDGES: dict[str, type[Judge]] = {
    kind.task: kind for kind in (DetectJudge, SegmentJudge, HandJudge)
}
"""The judge of each task."""
