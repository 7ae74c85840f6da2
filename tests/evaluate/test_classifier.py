"""Evaluating a classifier: right figures on every path, and clear ends."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from fleetfoot import engines
from fleetfoot.artifact import Facts
from fleetfoot.data.dataset import Split
from fleetfoot.engines.native import save_plan
from fleetfoot.errors import EngineError, ImageError
from fleetfoot.evaluate.classifier import evaluate
from fleetfoot.evaluate.matching import match, read_real_labels
from fleetfoot.evaluate.record import NOT_FINITE
from fleetfoot.evaluate.subject import UNSTATED, is_compiled, of_compiled, of_network
from fleetfoot.network import Workload
from fleetfoot.tasks.classify import Labels
from tests.helpers import trained_
from tests.red_green_blue import CLASSES, FIVE, LABELS, evaluation, network, split


def needs(engine: str) -> None:
    if (reason := engines.available()[engine]) is not None:
        pytest.skip(reason)


def test_five_pictures_by_hand():
    record, answers = evaluation()
    assert (record.top1.right, record.top1.images, record.top1.percent) == (4, 5, 80)
    assert record.top5.right == 5
    assert record.counts.confusion.tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 2]]
    assert answers.right.tolist() == [True, True, True, False, True]
    wrong = answers[3]
    assert (wrong.picture, wrong.truth, wrong.guesses[0], wrong.right) == ("3.png", 2, 0, False)
    # ImageNet's mean and std, by hand: red is (1, 0, 0) before them
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    logits = [((1, 0, 0)[c] - mean[c]) / std[c] for c in range(3)]
    sums = sum(map(math.exp, logits))
    by_size = sorted((math.exp(x) / sums for x in logits), reverse=True)
    assert wrong.probabilities == pytest.approx(by_size, rel=1e-5)  # float32
    assert (record.engine, record.form, record.batch, record.unreadable) == (
        "eager",
        "folded",
        2,
        0,
    )
    assert record.score().value == 80
    assert record.score().evaluation.ci95 == record.top1.ci95


@pytest.mark.parametrize("batch", [1, 3, 5, 8])
def test_the_batch_does_not_matter(batch):
    expected = evaluation()
    with of_network(network(), batch=batch) as subject:
        ((record, answers),) = evaluate(
            subject, "colours", FIVE, match("colours", CLASSES, "net", LABELS)
        )
    assert record.counts == expected.record.counts
    assert np.array_equal(answers.guesses, expected.answers.guesses)


def test_a_picture_that_cannot_be_read_is_left_out_or_stops():
    given = split(("red", 0), (b"broken", 1), ("blue", 2), (b"", 0))
    record, answers = evaluation(given, on_bad="skip")
    assert (record.top1.right, record.top1.images, record.unreadable) == (2, 2, 2)
    assert sorted(answers.errors) == [1, 3]
    assert answers[1].error.startswith("not a picture")
    assert answers.judged.tolist() == [True, False, True, False]
    with pytest.raises(ImageError, match=r"1\.png: not a picture"):
        evaluation(given, on_bad="stop")
    with pytest.raises(ValueError, match="none of the 1 pictures can be used"):
        evaluation(split((b"broken", 0)), on_bad="skip")


def test_an_answer_that_is_not_finite_is_wrong():
    workload = network()
    with torch.no_grad():
        workload.module[2].weight[1, 1] = math.inf
    with of_network(workload, batch=2, form="training") as subject:
        ((record, answers),) = evaluate(
            subject, "colours", split(("red", 0), ("lime", 1)), match("c", CLASSES, "n", LABELS)
        )
    assert (record.top1.right, record.top1.images, record.unreadable) == (0, 2, 0)
    assert answers[0].error == NOT_FINITE
    assert answers.judged.all()


def trained_network() -> Workload:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3, stride=2, bias=False)
    return Workload.of(
        "small",
        trained_(
            nn.Sequential(
                conv, nn.BatchNorm2d(8), nn.ReLU(),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
            )
        ),
        size=32,
    )  # fmt: skip


@pytest.mark.parametrize(
    "engine",
    [
        "native",
        pytest.param("onnxruntime", marks=pytest.mark.slow),
        pytest.param("openvino", marks=pytest.mark.slow),
        pytest.param("ncnn", marks=pytest.mark.slow),
    ],
)
def test_engines_see_the_same_pictures_and_agree(engine):
    needs(engine)
    with of_network(trained_network(), names=["eager", engine], batch=4) as subject:
        eager, other = evaluate(subject, "colours", FIVE, match("c", CLASSES, "n", LABELS))
    assert (eager.record.engine, other.record.engine) == ("eager", engine)
    assert np.array_equal(other.answers.guesses, eager.answers.guesses)
    assert other.record.loss == pytest.approx(eager.record.loss, rel=1e-4)
    assert other.record.weights == eager.record.weights
    assert eager.record.error is None
    assert 0 <= other.record.error < 1e-4


def test_the_precision_is_what_was_asked_for():
    with of_network(trained_network(), precision="bfloat16", batch=5) as subject:
        ((record, _),) = evaluate(subject, "c", FIVE, match("c", CLASSES, "n", LABELS))
    with of_network(trained_network(), batch=5) as subject:
        ((exact, _),) = evaluate(subject, "c", FIVE, match("c", CLASSES, "n", LABELS))
    assert record.precision == "bfloat16"
    assert record.loss != exact.loss
    assert record.loss == pytest.approx(exact.loss, rel=0.05)  # 8 bits


def test_both_forms_of_a_network_are_judged():
    found = {}
    for form in ("training", "folded"):
        with of_network(trained_network(), form=form, batch=5) as subject:
            ((record, _),) = evaluate(subject, "c", FIVE, match("c", CLASSES, "n", LABELS))
        found[form] = record
    assert found["training"].loss == pytest.approx(found["folded"].loss, rel=1e-5)
    assert found["training"].form == "training"
    assert found["training"].params == found["folded"].params  # of the network as it was given


def test_of_several_engines_one_may_fail():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return self.linear(torch.special.bessel_j0(x).mean((2, 3)))

    needs("native")
    workload = Workload.of("odd", Odd(), size=32)
    with of_network(workload, names=["eager", "native"], batch=1) as subject:
        assert [one.info.name for one in subject.runners] == ["eager"]
        ((name, reason),) = subject.failures
    assert (name, "bessel" in reason) == ("native", True)
    with pytest.raises(EngineError, match="bessel"):
        of_network(workload, names=["native"], batch=1)


def test_a_network_that_is_no_classifier_is_refused():
    workload = Workload.of("maps", nn.Conv2d(3, 3, 3), size=32)
    with pytest.raises(EngineError, match=r"\(1, classes\).*\(1, 3, 30, 30\)"):
        of_network(workload, batch=1, labels=LABELS)
    with pytest.raises(EngineError, match=r"output of maps is \(1, 3, 30, 30\)"):
        of_network(workload, batch=1)


def test_a_plan_and_an_artifact_are_judged_as_the_network_is(tmp_path):
    needs("native")
    expected, workload = evaluation(), network()
    matched = match("colours", CLASSES, "net", LABELS)
    example = torch.zeros(2, 3, 32, 32)
    save_plan(workload.module, example[:1], tmp_path / "net.plan")
    assert is_compiled(str(tmp_path / "net.plan"))
    with of_compiled(tmp_path / "net.plan", batch=2) as subject:
        assert subject.notes == (UNSTATED,)
        ((plan, _),) = evaluate(subject, "colours", FIVE, matched)
    preprocessing = {"size": 32, "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    facts = Facts(network="rgb", preprocessing=preprocessing, labels=CLASSES)
    with engines.load("native", workload.module, example=example) as engine:
        engine.save(tmp_path / "net.native", facts=facts)
    assert is_compiled(str(tmp_path / "net.native"))
    with of_compiled(tmp_path / "net.native") as subject:
        assert (subject.name, subject.labels, subject.batch) == ("rgb", Labels(CLASSES), 2)
        ((artifact, _),) = evaluate(subject, "colours", FIVE, matched)
    assert (plan.top1, plan.form, plan.params) == (expected.record.top1, "as compiled", None)
    assert plan.loss == pytest.approx(expected.record.loss, rel=1e-5)
    assert artifact.top1 == expected.record.top1
    assert artifact.preprocessing["mean"] == [0.5, 0.5, 0.5]
    assert artifact.loss != plan.loss
    with pytest.raises(ValueError, match=r"\(3, 64, 64\)"):
        of_compiled(tmp_path / "net.native", overrides={"size": 64})


def test_guesses_may_be_kept_to_the_classes_of_the_data():
    """Red has most of the first channel, "cyan", and of the data's two more of the third."""
    labels, given = Labels(("cyan", "red", "green", "blue")), split(("red", 1))
    found = {}
    with of_network(network(4), batch=1) as subject:
        for among in ("network", "data"):
            matched = match("two", ("red", "green"), "net", labels, among=among)
            ((record, answers),) = evaluate(subject, "two", given, matched)
            found[among] = record.classes[answers[0].guesses[0]], record.top1.right, record.classes
    assert found == {"network": ("cyan", 0, labels.names), "data": ("green", 1, ("red", "green"))}


def test_real_labels_are_right_if_one_of_them_is_guessed(tmp_path):
    real = {
        "0.png": ["red"],
        "1.png": [0, "blue"],  # the network says green
        "2.png": [],
        "3.png": ["blue", "red"],
    }
    (tmp_path / "real.json").write_text(json.dumps(real))
    record, _ = evaluation(real=read_real_labels(tmp_path / "real.json", LABELS))
    assert (record.real.right, record.real.images) == (2, 3)
    (tmp_path / "real.json").write_text('{"other.png": ["red"]}')
    with pytest.raises(ValueError, match="mentions none of them: 5 pictures"):
        evaluation(real=read_real_labels(tmp_path / "real.json", LABELS))


def test_the_rows_are_the_only_thing_that_grows():
    """Decoded pictures are held for a few batches only."""
    held = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(3, 3)

        def forward(self, x):
            return self.linear(x.mean((2, 3)))

    with of_network(Workload.of("n", Counting(), size=32), batch=2) as subject:
        many = split(*[("red", 0)] * 60)
        opened = []

        class Watched:
            def __len__(self):
                return 60

            def __getitem__(self, index):
                opened.append(index)
                return many.pictures[index]

            def name(self, index):
                return many.pictures.name(index)

            def sizes(self):
                return many.pictures.sizes()

        watched = Split("test", Watched(), many.labels)

        def progress(done):
            held.append(len(set(opened)) - done)

        evaluate(subject, "c", watched, match("c", CLASSES, "n", LABELS), workers=2,
                 on_progress=progress)  # fmt: skip
    assert len(held) == 30
    assert max(held) <= 2 * 2 + 2
