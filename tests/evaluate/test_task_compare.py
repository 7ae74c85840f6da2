"""Two evaluations of a task: compared on the same pictures and draws; others are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from fleetfoot.errors import RecordError
from fleetfoot.evaluate.judges.detect import DetectJudge
from fleetfoot.evaluate.task_compare import compare
from fleetfoot.evaluate.task_record import TaskAnswers, TaskEvaluation
from tests import spots
from tests.evaluate.test_task_run import evaluated
from tests.random_detections import scenes
from tests.tasks.detect.test_coco_metric import metered

pytest.importorskip("faster_coco_eval")


def judged(evaluation: TaskEvaluation, judge: DetectJudge) -> TaskEvaluation:
    """That evaluation, as if these had been its answers."""
    record = replace(
        evaluation.record, figures=judge.figures(), images=len(judge.numbers), unreadable=0
    )
    names = [f"{n}.png" for n in range(max(judge.numbers) + 1)]
    return TaskEvaluation(record, TaskAnswers(judge=judge, names=names, errors={}))


def random(seed: int, kept: float = 1.0, count: int = 16) -> DetectJudge:
    """Answers for the same pictures; without a share of the detections."""
    rng = np.random.default_rng(1)
    given = []
    for one in scenes(seed, count, digits=6):
        mask = torch.from_numpy(rng.random(len(one.found)) < kept)
        found = replace(one.found, boxes=one.found.boxes[mask], scores=one.found.scores[mask],
                        classes=one.found.classes[mask])  # fmt: skip
        given.append(replace(one, found=found))
    return DetectJudge(metered(*given))


def test_a_network_that_misses_half_is_worse_beyond_noise():
    (base,) = evaluated()
    found = compare(judged(base, random(0)), judged(base, random(0, kept=0.4)))
    assert found.verdict == "worse"
    assert [metric.name for metric in found.metrics] == ["ap", "ap50", "ap75"]
    difference = found.found["ap"]
    assert difference.value == pytest.approx(found.values[1]["ap"] - found.values[0]["ap"])
    assert difference.ci95[0] <= difference.value <= difference.ci95[1] < 0
    back = compare(judged(base, random(0, kept=0.4)), judged(base, random(0)))
    assert back.verdict == "better"
    raw = back.as_json()
    assert (raw["verdict"], raw["images"], raw["task"]) == ("better", 16, "detect")
    assert raw["figures"][0]["difference"] == pytest.approx(-difference.value)


def test_a_network_beside_itself_is_within_noise():
    (base,) = evaluated()
    found = compare(base, base)
    assert found.verdict == "noise"
    assert found.found["ap"].value == 0
    assert found.differences == ()


def test_pictures_that_one_could_not_use_are_left_out():
    (base,) = evaluated()
    judge = base.answers.judge
    fewer = DetectJudge(type(judge.meter).from_json(judge.meter.as_json()))
    del fewer.meter.pictures[2]
    other = TaskEvaluation(
        replace(base.record, images=4, unreadable=1, engine="native"),
        replace(base.answers, judge=fewer, errors={2: "cannot be read"}),
    )
    found = compare(base, other)
    assert (found.images, found.left_out) == (4, 1)
    assert found.found["ap"].value == 0  # on the others they are equal
    assert [name for name, _, _ in found.differences] == ["engine"]


def test_other_pictures_and_tasks_are_refused():
    (base,) = evaluated()
    (other,) = evaluated(spots.scenes(spots.FIVE[0]))
    with pytest.raises(RecordError, match="different pictures") as error:
        compare(base, other)
    assert "before: spots, test, 5 pictures" in str(error.value)
    with pytest.raises(RecordError, match="before is of detect, after of segment"):
        compare(base, base._replace(record=replace(base.record, task="segment")))


def test_without_objects_there_is_nothing_to_compare():
    (base,) = evaluated(spots.scenes(((), ())))
    with pytest.raises(RecordError, match="nothing on their pictures has a figure"):
        compare(base, base)
