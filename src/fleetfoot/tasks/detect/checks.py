"""What detectors refuse: options outside their range, and targets that allow no training."""

from __future__ import annotations

from torch import Tensor

from fleetfoot.tasks.network import Targets


def check_options(
    num_classes: int, score_threshold: float, nms_threshold: float, max_detections: int
) -> None:
    """Refuses options of any detector that are outside their range.

    Raises:
        ValueError: one is.
    """
    for name, value in (("num_classes", num_classes), ("max_detections", max_detections)):
        if value < 1:
            raise ValueError(f"{name} must be 1 or more, not {value}")
    for name, share in (("score_threshold", score_threshold), ("nms_threshold", nms_threshold)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} must be from 0 to 1, not {share}")


def check_targets(x: Tensor, targets: Targets, num_classes: int) -> None:
    """Refuses targets on which no loss can be computed.

    Raises:
        ValueError: there is not one target a picture; boxes are not (n, 4), or a box has no area;
            or a label is not the number of a class.
    """
    if len(targets) != len(x):
        raise ValueError(f"a batch of {len(x)} pictures has {len(targets)} targets")
    for number, target in enumerate(targets):
        boxes, labels = target["boxes"], target["labels"]
        whose = f"picture {number} of the batch"
        if boxes.shape != (len(labels), 4):
            raise ValueError(
                f"{whose}: boxes of shape {tuple(boxes.shape)} for {len(labels)} labels; "
                "they must be (n, 4): left, top, right and bottom edge"
            )
        empty = (boxes[:, 2:] <= boxes[:, :2]).any(1)
        if empty.any():
            box = boxes[empty][0].tolist()
            raise ValueError(
                f"{whose}: the box {box} has no area; its edges must be left, top, right, bottom"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
            low, high = int(labels.min()), int(labels.max())
            raise ValueError(
                f"{whose}: its labels go from {low} to {high}, and this network has {num_classes} "
                f"classes, 0 to {num_classes - 1}; give num_classes the number of the data's"
            )
