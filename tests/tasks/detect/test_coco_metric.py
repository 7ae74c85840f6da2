"""Average precision: by hand, against pycocotools, and the same however the pictures are shared."""

from __future__ import annotations

import contextlib
import io
import json

import numpy as np
import pytest
import torch

from fleetfoot.data.scenes import Objects
from fleetfoot.errors import MissingExtraError, RecordError
from fleetfoot.tasks.detect import metric
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.tasks.detect.metric import AREAS, LIMITS, THRESHOLDS, Meter
from tests.random_detections import CLASSES, Scene, scenes

pytest.importorskip("faster_coco_eval")


def metered(*given: Scene, masks: bool = False) -> Meter:
    meter = Meter(CLASSES, with_masks=masks)
    for one in given:
        meter.update(one.number, one.found, one.truth, size=one.size)
    return meter


def objects(*boxes: tuple[float, ...], classes: list[int] | None = None, crowd=None) -> Objects:
    given = np.array(boxes, float).reshape(-1, 4)
    return Objects(
        boxes=given,
        classes=np.array(classes if classes is not None else [0] * len(boxes), np.int64),
        crowd=np.array(crowd if crowd is not None else [False] * len(boxes), bool),
        areas=(given[:, 2] - given[:, 0]) * (given[:, 3] - given[:, 1]),
    )


def detections(*rows: tuple[float, ...]) -> Detections:
    """Rows of left, top, right, bottom, score and class."""
    given = torch.tensor(rows, dtype=torch.float64).reshape(-1, 6)
    return Detections(boxes=given[:, :4], scores=given[:, 4], classes=given[:, 5].long())


def pycocotools(given: list[Scene], kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall by the reference code, which gets boxes and masks in its own form."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    coding = pytest.importorskip("pycocotools.mask")
    images, truth, found = [], [], []
    for one in given:
        height, width = one.size
        images.append({"id": one.number, "height": height, "width": width})
        for n in range(len(one.truth)):
            left, top, right, bottom = one.truth.boxes[n].tolist()
            truth.append({
                "id": len(truth) + 1, "image_id": one.number, "iscrowd": int(one.truth.crowd[n]),
                "category_id": int(one.truth.classes[n]), "area": float(one.truth.areas[n]),
                "bbox": [left, top, right - left, bottom - top],
            })  # fmt: skip
            if kind == "segm":
                drawn = one.truth.masks[n].drawn(height, width)
                truth[-1]["segmentation"] = coding.encode(np.asfortranarray(drawn, np.uint8))
        for n in range(len(one.found)):
            left, top, right, bottom = one.found.boxes[n].tolist()
            row = {
                "image_id": one.number, "category_id": int(one.found.classes[n]),
                "score": one.found.scores[n].item(),
            }  # fmt: skip
            if kind == "segm":
                drawn = one.found.masks[n].numpy()
                row["segmentation"] = coding.encode(np.asfortranarray(drawn, np.uint8))
            else:
                row["bbox"] = [left, top, right - left, bottom - top]
            found.append(row)
    with contextlib.redirect_stdout(io.StringIO()):
        said = coco.COCO()
        said.dataset = {
            "info": {}, "images": images, "annotations": truth,
            "categories": [{"id": n, "name": str(n)} for n in range(CLASSES)],
        }  # fmt: skip
        said.createIndex()
        judge = evaluation.COCOeval(said, said.loadRes(found), kind)
        judge.evaluate()
        judge.accumulate()
    return judge.eval["precision"], judge.eval["recall"]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("masks", [False, True])
def test_every_precision_and_recall_is_that_of_pycocotools(seed, masks):
    given = list(scenes(seed, masks=masks, count=10))
    kind, name = ("segm", "masks") if masks else ("bbox", "boxes")
    expected = pycocotools(given, kind)
    found = metered(*given, masks=masks).precision(name)
    assert found.precision.shape == (len(THRESHOLDS), 101, CLASSES, len(AREAS), len(LIMITS))
    # the same sums of the same whole numbers, divided once: no more than the last bits differ
    np.testing.assert_allclose(found.precision, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.recall, expected[1], rtol=0, atol=1e-12)
    assert 0 < found.ap() < 100
    assert (found.precision == -1).any(), "a class without objects is among them"


def test_more_than_a_hundred_detections_of_a_picture():
    (one,) = scenes(1, 1)
    rng = np.random.default_rng(0)
    boxes = np.repeat(one.truth.boxes, 60, axis=0) + rng.uniform(-4, 4, (60 * len(one.truth), 4))
    many = Detections(
        boxes=torch.from_numpy(boxes),
        scores=torch.from_numpy(np.sort(rng.random(len(boxes)))[::-1].copy()),
        classes=torch.from_numpy(np.repeat(one.truth.classes, 60)),
    )
    given = Scene(one.number, one.size, one.truth, many)
    expected = pycocotools([given], "bbox")
    found = metered(given).precision()
    np.testing.assert_allclose(found.precision, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.recall, expected[1], rtol=0, atol=1e-12)


def test_two_objects_by_hand():
    """The surest detection is right, the second is of nothing, the third finds the other object.
    Precision is 1 up to a recall of 1/2 and 2/3 from there: 51 levels and 50 of 101."""
    meter = Meter(1)
    meter.update(
        0,
        detections(
            (10, 10, 50, 50, 0.9, 0), (70, 70, 90, 90, 0.8, 0), (100, 100, 140, 140, 0.7, 0)
        ),
        objects((10, 10, 50, 50), (100, 100, 140, 140)),
        size=(200, 200),
    )
    figures = meter.figures()
    assert figures["ap50"] == pytest.approx(100 * (51 * 1 + 50 * 2 / 3) / 101)
    for same in ("ap", "ap75"):  # boxes fit exactly, or not at all
        assert figures[same] == pytest.approx(figures["ap50"])
    assert (figures["ar1"], figures["ar10"], figures["ar100"]) == (50, 100, 100)
    assert figures["ap_small"] is None  # both are 40 by 40
    assert figures["ap_medium"] == 100  # what is found of nothing is small
    assert (figures["images"], figures["objects"], figures["found"]) == (1, 2, 3)


def test_a_crowd_is_neither_found_nor_missed():
    meter = Meter(1)
    truth = objects((0, 0, 20, 20), (100, 0, 200, 100), crowd=[False, True])
    found = detections((0, 0, 20, 20, 0.5, 0), (110, 10, 150, 60, 0.9, 0))  # surer, in the crowd
    meter.update(0, found, truth, size=(200, 200))
    assert meter.figures()["ap"] == 100
    assert meter.figures()["objects"] == 1


def test_a_class_is_judged_by_its_own_objects():
    meter = Meter(3)
    truth = objects((0, 0, 20, 20), (50, 50, 90, 90), classes=[0, 2])
    meter.update(
        0,
        detections((0, 0, 20, 20, 0.9, 0), (50, 50, 90, 90, 0.8, 0), (1, 1, 9, 9, 0.7, 1)),
        truth,
        size=(100, 100),
    )
    precision = meter.precision()
    first, second, third = meter.per_class(precision)
    assert (first.objects, first.ap, first.ap50) == (1, 100, 100)
    assert (second.objects, second.ap, second.recall) == (0, None, None)
    assert (third.objects, third.ap, third.recall) == (1, 0, 0)
    assert precision.ap() == 50
    assert precision.curve(0).tolist() == [1.0] * 101
    assert precision.curve(1) is None


def test_pictures_without_objects_or_detections():
    meter = Meter(2)
    meter.update(0, detections(), objects(), size=(10, 10))
    assert meter.figures()["ap"] is None
    meter.update(1, detections(), objects((1, 1, 5, 5)), size=(10, 10))
    assert meter.figures()["ap"] == 0
    meter.update(2, detections((1, 1, 5, 5, 0.5, 0)), objects(), size=(10, 10))
    assert (meter.figures()["ap"], meter.figures()["found"]) == (0, 1)
    with pytest.raises(ValueError, match="no picture was counted"):
        Meter(2).figures()


@pytest.mark.parametrize("masks", [False, True])
def test_parts_add_up_to_the_whole_through_json(masks):
    given = list(scenes(7, masks=masks, count=9))
    whole = metered(*given, masks=masks)
    parts = [metered(*given[rank::3], masks=masks) for rank in range(3)]
    back = [Meter.from_json(json.loads(json.dumps(part.as_json()))) for part in parts]
    added = back[2] + back[0] + back[1]
    assert added.as_json() == whole.as_json()
    assert added.figures() == whole.figures()
    assert np.array_equal(added.precision().precision, whole.precision().precision)
    assert Meter.from_json(whole.as_json()).as_json() == whole.as_json()


def test_a_picture_that_two_processes_counted_counts_once():
    given = list(scenes(3, 4))
    both = metered(*given[:3]) + metered(*given[2:])
    assert both.figures() == metered(*given).figures()


def test_what_is_not_finite_is_left_out_and_counted():
    meter = Meter(1)
    found = detections((10, 10, 50, 50, 0.9, 0), (0, 0, float("nan"), 5, 0.8, 0),
                       (0, 0, 5, 5, float("inf"), 0))  # fmt: skip
    meter.update(0, found, objects((10, 10, 50, 50)), size=(64, 64))
    assert meter.figures()["ap"] == 100
    assert meter.figures()["not_finite"] == 2


def test_an_object_without_a_mask_is_judged_by_its_box():
    truth = objects((4, 6, 20, 30))
    drawn = torch.zeros(1, 40, 50, dtype=torch.bool)
    drawn[0, 6:30, 4:20] = True
    found = Detections(boxes=torch.tensor([[4.0, 6, 20, 30]]), scores=torch.ones(1),
                       classes=torch.zeros(1, dtype=torch.int64), masks=drawn)  # fmt: skip
    meter = Meter(1, with_masks=True)
    meter.update(0, found, truth, size=(40, 50))
    assert meter.figures()["mask_ap"] == 100


def test_what_does_not_fit_is_refused():
    meter = Meter(2)
    good = objects((1, 1, 5, 5))
    with pytest.raises(ValueError, match="class 2 was found; numbers of classes are 0 to 1"):
        meter.update(0, detections((1, 1, 5, 5, 0.5, 2)), good, size=(9, 9))
    with pytest.raises(ValueError, match="class 7 was on the picture"):
        meter.update(0, detections(), objects((1, 1, 5, 5), classes=[7]), size=(9, 9))
    meter.update(0, detections(), good, size=(9, 9))
    with pytest.raises(ValueError, match="masks were not judged"):
        meter.precision("masks")
    with pytest.raises(ValueError, match="picture 0 was counted before"):
        meter.update(0, detections(), good, size=(9, 9))
    with pytest.raises(ValueError, match="do not add up"):
        meter + Meter(3)
    masked = Meter(2, with_masks=True)
    with pytest.raises(ValueError, match="the detections have none"):
        masked.update(0, detections((1, 1, 5, 5, 0.5, 1)), good, size=(9, 9))
    short = Detections(boxes=torch.zeros(1, 4), scores=torch.ones(1),
                       classes=torch.zeros(1, dtype=torch.int64),
                       masks=torch.zeros(1, 9, 8, dtype=torch.bool))  # fmt: skip
    with pytest.raises(ValueError, match=r"\(1, 9, 8\) are not \(1, 9, 9\)"):
        masked.update(0, short, good, size=(9, 9))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 1}, r"pictures\[0\] has numbers of no class"),
        ({"more": 1}, "unknown field meter.more"),
        ({"pictures": [{}]}, r"missing fields meter\.pictures\[0\]\.number"),
    ],
)
def test_json_of_something_else_is_refused(change, message):
    raw = metered(*scenes(0, 2)).as_json()
    with pytest.raises(RecordError, match=message):
        Meter.from_json(json.loads(json.dumps(raw | change)))
    for name, value in (
        ("scores", "high"), ("scores", [["a"]]), ("boxes", [[1, 2, 3]]), ("boxes", [1, [2]]),
        ("classes", [0.5]), ("areas", [float("inf")]), ("crowd", [1]),
    ):  # fmt: skip
        odd = json.loads(json.dumps(raw))
        odd["pictures"][0][name] = value
        with pytest.raises(RecordError, match=r"pictures\[0\]: .*"):
            Meter.from_json(odd)
    raw["pictures"][0]["scores"] = raw["pictures"][0]["scores"][1:]
    with pytest.raises(RecordError, match=r"pictures\[0\]: its lists have"):
        Meter.from_json(json.loads(json.dumps(raw)))


def test_the_package_that_is_missing_is_named_at_once(monkeypatch):
    monkeypatch.setattr(metric, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"faster-coco-eval.*\.\[coco\]"):
        Meter(3)
