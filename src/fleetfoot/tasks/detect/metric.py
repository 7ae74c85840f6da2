"""COCO's metric of detectors: average precision of boxes and of masks, and average recall.

The figures are those of the reference code, pycocotools, as faster-coco-eval computes them: a found
object is right if it overlaps an object of its class that no surer one took, by intersection over
union of at least a threshold. Thresholds are 0.50, 0.55, ... 0.95; precision is read at 101 levels
of recall, and of each picture and class the 100 surest detections count.

n objects of a picture · T thresholds · R levels of recall · K classes · A ranges of area ·
M limits of detections
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, NamedTuple, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fleetfoot.errors import MissingExtraError, RecordError
from fleetfoot.files import fields
from fleetfoot.tasks.detect.detections import Detections

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
AREAS = ("all", "small", "medium", "large")
"""Ranges of an object's area: all, below 32², up to 96² and above, in pixels of the picture."""
LIMITS = (1, 10, 100)
"""Numbers of detections in a picture, the surest of each class, for which recall is stated."""

Kind = Literal["boxes", "masks"]
Numbers = NDArray[np.float64]


class Drawn(Protocol):
    """The pixels of an object; ``data.scenes.Mask`` is one."""

    def drawn(self, height: int, width: int) -> NDArray[np.bool_]: ...


class Truth(Protocol):
    """The objects that are on a picture; ``data.scenes.Objects`` is one."""

    @property
    def boxes(self) -> Numbers: ...

    @property
    def classes(self) -> NDArray[np.int64]: ...

    @property
    def crowd(self) -> NDArray[np.bool_]: ...

    @property
    def areas(self) -> Numbers: ...

    @property
    def masks(self) -> Sequence[Drawn | None] | None: ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Seen:
    """One picture: what is on it and what was found. Masks are run lengths in COCO's compressed
    form."""

    height: int
    width: int
    boxes: Numbers
    """Left, top, right and bottom edge of each object, (n, 4)."""
    classes: NDArray[np.int64]
    crowd: NDArray[np.bool_]
    areas: Numbers
    masks: tuple[str, ...]
    """Mask of each object; empty if masks are not judged."""
    found_boxes: Numbers
    found_classes: NDArray[np.int64]
    scores: Numbers
    found_masks: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }


class _SeenJson(TypedDict):
    number: int
    height: int
    width: int
    boxes: Any  # lists of numbers, which ``_seen`` checks faster
    classes: Any
    crowd: Any
    areas: Any
    masks: tuple[str, ...]
    found_boxes: Any
    found_classes: Any
    scores: Any
    found_masks: tuple[str, ...]


class _Json(TypedDict):
    classes: int
    with_masks: bool
    not_finite: int
    pictures: tuple[dict[str, Any], ...]


class ClassFigures(NamedTuple):
    """One class. Figures are in percent; None if no object of the class is on a picture."""

    number: int
    objects: int
    """Number of objects of this class on the pictures, without crowds."""
    ap: float | None
    ap50: float | None
    recall: float | None
    """Average recall with at most 100 detections."""


@dataclass(frozen=True, eq=False)
class Precision:
    """Precision and recall of one kind of answer, as shares; -1 if there is no object."""

    precision: Numbers
    """By threshold, level of recall, class, range of area and limit, (T, R, K, A, M)."""
    recall: Numbers
    """The highest recall, (T, K, A, M)."""

    def ap(self, area: str = "all", threshold: float | None = None) -> float | None:
        """Average precision in percent, over all thresholds or at one; None if there is no such
        object."""
        chosen = self.precision[_at(threshold), :, :, AREAS.index(area), -1]
        return _mean(chosen)

    def ar(self, area: str = "all", limit: int = LIMITS[-1]) -> float | None:
        """Average recall in percent, over all thresholds."""
        return _mean(self.recall[:, :, AREAS.index(area), LIMITS.index(limit)])

    def ap_of(self, number: int, threshold: float | None = None) -> float | None:
        """Average precision of one class, in percent."""
        return _mean(self.precision[_at(threshold), :, number, 0, -1])

    def curve(self, number: int, threshold: float = 0.5) -> Numbers | None:
        """Precision of one class at recall 0, 0.01, ... 1, as shares, (R,); None if it has no
        object."""
        (curve,) = self.precision[_at(threshold), :, number, 0, -1]
        return None if curve[0] < 0 else curve

    def figures(self, prefix: str = "") -> dict[str, float | None]:
        """COCO's twelve figures in percent."""
        return {
            f"{prefix}ap": self.ap(),
            f"{prefix}ap50": self.ap(threshold=0.5),
            f"{prefix}ap75": self.ap(threshold=0.75),
            **{f"{prefix}ap_{area}": self.ap(area) for area in AREAS[1:]},
            **{f"{prefix}ar{limit}": self.ar(limit=limit) for limit in LIMITS},
            **{f"{prefix}ar_{area}": self.ar(area) for area in AREAS[1:]},
        }


def _at(threshold: float | None) -> slice:
    if threshold is None:
        return slice(None)
    at = THRESHOLDS.index(threshold)
    return slice(at, at + 1)


def _mean(values: Numbers) -> float | None:
    known = values[values > -1]
    return 100 * float(known.mean()) if known.size else None


def missing() -> MissingExtraError | None:
    """The error that says that faster-coco-eval is not installed; None if it is."""
    if find_spec("faster_coco_eval") is None:
        return MissingExtraError.of("COCO's average precision", "faster-coco-eval", "coco")
    return None


def _coco() -> Any:
    """The package, which is imported when it is first used."""
    return import_module("faster_coco_eval")


@dataclass
class Meter:
    """What a detector found on some pictures beside what is on them. Meters of parts add up to that
    of the whole, exactly: a picture is known by its number, and counts once.

    >>> from types import SimpleNamespace
    >>> import torch
    >>> box = [[10.0, 10.0, 50.0, 50.0]]
    >>> truth = SimpleNamespace(boxes=np.array(box), classes=np.array([1]),
    ...     crowd=np.array([False]), areas=np.array([1600.0]), masks=None)
    >>> found = Detections(boxes=torch.tensor(box), scores=torch.tensor([0.9]),
    ...     classes=torch.tensor([1]))
    >>> meter = Meter(3)
    >>> meter.update(0, found, truth, size=(64, 64))
    >>> meter.figures()["ap"]
    100.0

    Raises:
        MissingExtraError: faster-coco-eval is not installed.
    """

    classes: int
    with_masks: bool = False
    """Whether masks are judged as well as boxes."""
    pictures: dict[int, Seen] = field(default_factory=dict)
    not_finite: int = 0
    """Detections that are left out because their box or score is not finite."""

    def __post_init__(self) -> None:
        if (error := missing()) is not None:
            raise error

    @property
    def images(self) -> int:
        return len(self.pictures)

    def update(
        self, number: int, found: Detections, truth: Truth, *, size: tuple[int, int]
    ) -> None:
        """Counts one picture.

        Args:
            number: number of the picture in its part of the data.
            found: what was found, in the picture's pixels; the order of equal scores matters.
            truth: what is on the picture. An object without a mask is judged by its box, drawn.
            size: height and width of the picture, in pixels.

        Raises:
            ValueError: the shapes do not fit, a number is not that of a class, the picture was
                counted before, or masks are judged and none were found.
        """
        if number in self.pictures:
            raise ValueError(f"picture {number} was counted before")
        boxes, scores = _numbers(found.boxes).reshape(-1, 4), _numbers(found.scores)
        classes = found.classes.detach().cpu().numpy().astype(np.int64)
        if not len(boxes) == len(scores) == len(classes):
            raise ValueError(
                f"{len(boxes)} boxes, {len(scores)} scores and {len(classes)} classes were found"
            )
        finite = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
        for said, given in (("found", classes), ("on the picture", truth.classes)):
            if len(given) and not (0 <= given.min() and given.max() < self.classes):
                odd = given[(given < 0) | (given >= self.classes)][0]
                raise ValueError(
                    f"class {odd} was {said}; numbers of classes are 0 to {self.classes - 1}"
                )
        self.pictures[number] = Seen(
            height=size[0],
            width=size[1],
            boxes=truth.boxes.astype(np.float64).reshape(-1, 4),
            classes=truth.classes.astype(np.int64),
            crowd=truth.crowd.astype(np.bool_),
            areas=truth.areas.astype(np.float64),
            masks=_encoded(_drawn(truth, size)) if self.with_masks else (),
            found_boxes=boxes[finite],
            found_classes=classes[finite],
            scores=scores[finite],
            found_masks=self._masks(found, finite, size) if self.with_masks else (),
        )
        self.not_finite += int((~finite).sum())

    def _masks(
        self, found: Detections, finite: NDArray[np.bool_], size: tuple[int, int]
    ) -> tuple[str, ...]:
        if found.masks is None:
            if len(found):
                raise ValueError("masks are judged, and the detections have none")
            return ()
        masks = found.masks.detach().cpu().numpy()
        if masks.shape != (len(finite), *size):
            raise ValueError(
                f"masks of shape {masks.shape} are not ({len(finite)}, {size[0]}, {size[1]})"
            )
        return _encoded(masks[finite])

    def __add__(self, other: Meter) -> Meter:
        if (self.classes, self.with_masks) != (other.classes, other.with_masks):
            raise ValueError(
                f"meters of {self.classes} and {other.classes} classes, masks {self.with_masks} "
                f"and {other.with_masks}, do not add up"
            )
        return Meter(
            self.classes,
            self.with_masks,
            self.pictures | other.pictures,
            self.not_finite + other.not_finite,
        )

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return ("boxes", "masks") if self.with_masks else ("boxes",)

    def precision(self, kind: Kind = "boxes") -> Precision:
        """Precision and recall of the boxes or of the masks.

        Raises:
            ValueError: no picture was counted, or masks were not judged.
        """
        if not self.pictures:
            raise ValueError("no picture was counted, so there is no average precision")
        if kind not in self.kinds:
            raise ValueError("masks were not judged; make the meter with with_masks=True")
        return _evaluated(self, kind)

    def figures(self) -> dict[str, float | int | None]:
        """COCO's figures in percent: those of boxes by plain names, those of masks with ``mask_``
        before; None if there is no object that they are about.

        Raises:
            ValueError: no picture was counted.
        """
        made: dict[str, float | int | None] = {**self.precision().figures()}
        if self.with_masks:
            made |= self.precision("masks").figures("mask_")
        seen = self.pictures.values()
        return made | {
            "images": self.images,
            "objects": sum(int((~one.crowd).sum()) for one in seen),
            "found": sum(len(one.scores) for one in seen),
            "not_finite": self.not_finite,
        }

    def per_class(self, precision: Precision) -> tuple[ClassFigures, ...]:
        """Each class by number, with what ``precision`` says of it."""
        objects = np.zeros(self.classes, np.int64)
        for one in self.pictures.values():
            objects += np.bincount(one.classes[~one.crowd], minlength=self.classes)
        return tuple(
            ClassFigures(
                number,
                int(objects[number]),
                precision.ap_of(number),
                precision.ap_of(number, 0.5),
                _mean(precision.recall[:, number, 0, -1]),
            )
            for number in range(self.classes)
        )

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "classes": self.classes,
            "with_masks": self.with_masks,
            "not_finite": self.not_finite,
            "pictures": [
                {"number": number, **one.as_json()} for number, one in sorted(self.pictures.items())
            ],
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Meter:
        """The meter whose ``as_json`` this is.

        Raises:
            RecordError: it is not; the message says where.
        """
        held = fields(_listed(dict(raw)), _Json, "meter.")
        made = cls(held["classes"], held["with_masks"], not_finite=held["not_finite"])
        for place, picture in enumerate(held["pictures"]):
            where = f"meter.pictures[{place}]"
            one = fields(_listed(picture), _SeenJson, f"{where}.")
            number = one.pop("number")
            try:
                made.pictures[number] = seen = _seen(one)
            except ValueError as error:
                raise RecordError(f"{where}: {error}") from None
            classes = np.concatenate((seen.classes, seen.found_classes))
            if len(classes) and not (0 <= classes.min() and classes.max() < made.classes):
                raise RecordError(f"{where} has numbers of no class")
        if len(made.pictures) != len(held["pictures"]):
            raise RecordError("meter.pictures has one number twice")
        return made


def _listed(raw: dict[str, Any]) -> dict[str, Any]:
    """Plain values as JSON brings them back: tuples as lists."""
    return {name: list(v) if isinstance(v, tuple) else v for name, v in raw.items()}


def _seen(one: dict[str, Any]) -> Seen:
    made = {name: _array(name, one[name]) for name in _KINDS}
    counts = [len(made[name]) for name in ("boxes", "classes", "crowd", "areas")]
    found = [len(made[name]) for name in ("found_boxes", "found_classes", "scores")]
    if len({*counts}) != 1 or len({*found}) != 1:
        raise ValueError(f"its lists have {counts} objects and {found} detections")
    if len(one["masks"]) not in (0, counts[0]) or len(one["found_masks"]) not in (0, found[0]):
        raise ValueError("its masks are not one an object and one a detection")
    return Seen(
        height=one["height"],
        width=one["width"],
        masks=one["masks"],
        found_masks=one["found_masks"],
        **made,
    )


_KINDS: dict[str, tuple[Any, str]] = {
    "boxes": (np.float64, "if"), "classes": (np.int64, "i"), "crowd": (np.bool_, "b"),
    "areas": (np.float64, "if"), "found_boxes": (np.float64, "if"),
    "found_classes": (np.int64, "i"), "scores": (np.float64, "if"),
}  # fmt: skip
"""Type of each list, and numpy's kinds of what JSON may hold for it."""


def _array(name: str, value: Any) -> NDArray[Any]:
    """A list of numbers, or of lists of four, as an array."""
    kind, known = _KINDS[name]
    shape = (-1, 4) if name.endswith("boxes") else (-1,)
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list")
    if not value:
        return np.zeros((0, *shape[1:]), kind)
    found = np.array(value)
    if found.dtype.kind not in known or found.ndim != len(shape) or found.shape[1:] != shape[1:]:
        what = "lists of four numbers" if len(shape) == 2 else "numbers"
        raise ValueError(f"{name} must hold {what}, not {found.dtype} {found.shape}")
    made: NDArray[Any] = found.astype(kind)
    if not np.isfinite(made).all():
        raise ValueError(f"{name} must be finite")
    return made


def _numbers(tensor: Tensor) -> Numbers:
    return tensor.detach().cpu().double().numpy()


def _drawn(truth: Truth, size: tuple[int, int]) -> NDArray[np.bool_]:
    made = np.zeros((len(truth.classes), *size), np.bool_)
    for number, drawing in enumerate(made):
        mask = None if truth.masks is None else truth.masks[number]
        if mask is None:
            left, top, right, bottom = np.rint(truth.boxes[number]).astype(int).tolist()
            drawing[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = True
        else:
            drawing[:] = mask.drawn(*size)
    return made


def _encoded(masks: NDArray[np.bool_]) -> tuple[str, ...]:
    """Masks (n, H, W) as COCO's compressed run lengths."""
    if not len(masks):
        return ()
    columns = np.asfortranarray(masks.transpose(1, 2, 0), np.uint8)
    return tuple(_text(one["counts"]) for one in _coco().mask.encode(columns))


def _text(counts: str | bytes) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


def _evaluated(meter: Meter, kind: Kind) -> Precision:
    coco = _coco()
    seen = sorted(meter.pictures.items())
    masks = kind == "masks"

    def objects() -> Iterator[dict[str, Any]]:
        for number, one in seen:
            for n in range(len(one.classes)):
                yield {
                    "image_id": number,
                    "category_id": int(one.classes[n]),
                    "bbox": _sides(one.boxes[n]),
                    "area": float(one.areas[n]),
                    "iscrowd": int(one.crowd[n]),
                    **({"segmentation": _rle(one, one.masks[n])} if masks else {}),
                }

    def detections() -> Iterator[dict[str, Any]]:
        for number, one in seen:
            for n in range(len(one.scores)):
                box = _sides(one.found_boxes[n])
                found = {
                    "image_id": number,
                    "category_id": int(one.found_classes[n]),
                    "bbox": box,
                    "score": float(one.scores[n]),
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
                if masks:  # a mask is small or large by its own pixels
                    found["segmentation"] = rle = _rle(one, one.found_masks[n])
                    found["area"] = float(coco.mask.area(rle))
                yield found

    made: list[Any] = []
    for said in (objects(), detections()):
        made.append(
            coco.COCO(
                {
                    "info": {},
                    "images": [
                        {"id": number, "height": one.height, "width": one.width}
                        for number, one in seen
                    ],
                    "categories": [{"id": n, "name": str(n)} for n in range(meter.classes)],
                    # 0 would mean that nothing was matched
                    "annotations": [{"id": n, **one} for n, one in enumerate(said, 1)],
                }
            )
        )
    judge = coco.COCOeval_faster(*made, "segm" if masks else "bbox")
    judge.params.maxDets = list(LIMITS)
    judge.evaluate()
    judge.accumulate()
    return Precision(np.array(judge.eval["precision"]), np.array(judge.eval["recall"]))


def overlaps(seen: Seen, kind: Kind, rows: NDArray[np.int64], own: NDArray[np.int64]) -> Numbers:
    """Intersection over union of detections (n,) and objects (G,) of a picture; for a crowd, the
    share of the detection that lies in it. (n, G)"""
    if not len(rows) or not len(own):
        return np.zeros((len(rows), len(own)))
    if kind == "masks":
        found: list[Any] = [_rle(seen, seen.found_masks[n]) for n in rows]
        truth: list[Any] = [_rle(seen, seen.masks[n]) for n in own]
    else:
        found = [_sides(seen.found_boxes[n]) for n in rows]
        truth = [_sides(seen.boxes[n]) for n in own]
    shares = _coco().mask.iou(found, truth, seen.crowd[own].astype(int).tolist())
    return np.asarray(shares, np.float64).reshape(len(rows), len(own))


def pixels(seen: Seen, counts: str) -> NDArray[np.bool_]:
    """A mask of a picture from its run lengths, (H, W)."""
    drawn: NDArray[np.uint8] = _coco().mask.decode(_rle(seen, counts))
    return drawn.astype(np.bool_)


def _sides(box: Numbers) -> list[float]:
    """Left and top edge, width and height."""
    left, top, right, bottom = box.tolist()
    return [left, top, right - left, bottom - top]


def _rle(one: Seen, counts: str) -> dict[str, Any]:
    return {"size": [one.height, one.width], "counts": counts}
