"""Evaluating hands: distances by the meter, points in the picture, records, comparison, page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fleetfoot.data.hands import open_hands
from fleetfoot.data.scenes import Hand, Scenes, SceneSet
from fleetfoot.evaluate.task_compare import compare
from fleetfoot.evaluate.task_record import TaskEvaluation, read, save
from fleetfoot.evaluate.task_run import answers, evaluate
from fleetfoot.evaluate.task_subject import TaskSubject, classes_of, of_task
from fleetfoot.network import Workload
from fleetfoot.report.task_evaluations import figure
from fleetfoot.report.task_page import html
from fleetfoot.tasks.hand.metric import compared
from fleetfoot.tasks.hand.reconstruction import Reconstruction
from fleetfoot.tasks.network import TaskNetwork
from fleetfoot.weights.pretrained import PretrainedConfig
from tests.pages import Tags, assert_loads_nothing

COUNT, SIDE, DRAWN = 4, 112, 224


class First:
    """The first pictures of a part, or what is known of them."""

    def __init__(self, whole: object) -> None:
        self._whole = whole

    def __len__(self) -> int:
        return COUNT

    def __getattr__(self, name: str) -> object:
        return getattr(self._whole, name)

    def __getitem__(self, index: int) -> object:
        return self._whole[index]

    def sizes(self) -> np.ndarray:
        return np.full(COUNT, -1)


class Still(TaskNetwork):
    """Answers with the same hand whatever it sees."""

    task = "hand"

    def __init__(self, hand: Hand, *, noise: float = 0.0) -> None:
        super().__init__()
        rng = np.random.default_rng(0)
        self.backbone = nn.Conv2d(3, 1, 1)
        for name in ("points", "joints", "vertices"):
            value = getattr(hand, name)
            scale = SIDE / DRAWN if name == "points" else 1.0
            moved = scale * value + noise * rng.normal(size=value.shape)
            setattr(self, name, nn.Parameter(torch.from_numpy(moved).float()))
        self.num_classes = 0
        self.pretrained_cfg = PretrainedConfig(
            tag="", source="none", input_size=SIDE, crop_pct=1.0, resize_mode="squash"
        )

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        none = 0 * self.backbone(x).mean((1, 2, 3))[:, None, None]
        return {name: none + getattr(self, name) for name in ("points", "joints", "vertices")}

    def decode(self, outputs: Mapping[str, Tensor], size: tuple[int, int]) -> list[Reconstruction]:
        count = len(outputs["points"])
        return [Reconstruction(**{k: v[n] for k, v in outputs.items()}) for n in range(count)]

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {"backbone": ("backbone",), "neck": (), "head": ()}


@cache
def hands() -> SceneSet:
    whole = open_hands(size=DRAWN)
    part = whole.test
    return replace(whole, test=Scenes("test", First(part.pictures), First(part.targets)))


@cache
def evaluated(noise: float = 0.0) -> TaskEvaluation:
    with subject_of(noise) as subject:
        classes = classes_of(subject.network, hands().name, hands().classes, subject.name)
        (made,) = evaluate(subject, hands(), hands().test, classes)
    return made


def subject_of(noise: float) -> TaskSubject:
    network = Still(hands().test.targets[0], noise=noise).eval()
    return of_task(Workload.of("still", network, size=SIDE), batch=3, form="training")


def test_the_hand_that_is_answered_is_right_and_others_are_as_far_as_the_metric_says():
    record, made = evaluated()
    rows = made.judge.rows()
    assert rows[0]["pa_mpjpe"] == pytest.approx(0, abs=1e-3)  # millimetres; float32 in metres
    assert rows[0]["points"] == pytest.approx(0, abs=1e-3)  # pixels of the picture, not the input
    first = hands().test.targets[0]
    still = Reconstruction(**{n: torch.from_numpy(getattr(first, n))
                              for n in ("points", "joints", "vertices")})  # fmt: skip
    for number in range(1, COUNT):
        expected = compared(still, hands().test.targets[number])
        assert rows[number] == pytest.approx(expected._asdict(), rel=1e-3)
    mean = np.mean([rows[n]["pa_mpjpe"] for n in range(COUNT)])
    assert record.figures["pa_mpjpe"] == pytest.approx(mean)
    low, high = record.intervals["pa_mpjpe"]
    assert low < mean < high
    assert made.judge.worst(9)[-1] == 0
    assert record.classes == record.per_class == ()
    assert figure(record, made.judge.metrics[0]) == f"{mean:.2f} mm ({low:.2f} to {high:.2f})"


def test_the_page_draws_the_joints_over_the_pictures():
    made, part = evaluated(), hands().test
    with subject_of(0.0) as subject:
        judge = made.answers.judge
        page = html([made], part, lambda n: answers(subject, part, judge, n))
    assert_loads_nothing(page)
    assert Tags(page).open == []
    assert page.count("<img") == 2 * COUNT
    assert page.count('class="bone miss"') == COUNT
    assert "Picture by picture" in page


def test_lower_is_better(tmp_path):
    good, bad = evaluated(), evaluated(noise=0.02)
    found = compare(good, bad)
    assert found.found["pa_mpjpe"].value > 0
    assert found.verdict == "worse"
    assert compare(bad, good).verdict == "better"
    save(bad, tmp_path)
    assert read(tmp_path).record == bad.record
