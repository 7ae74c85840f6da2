"""Recipes for detection, segmentation and hands: as published, and a few for smaller sets.

No run on COCO or ADE20K has been made here. Where the published set-up has something that is not
offered here, the recipe's source says so.
"""

from __future__ import annotations

from dataclasses import replace

from fleetfoot.data.settings import Scene
from fleetfoot.train.config import About, Ema, Init, Optim, Recipe, Schedule

COCO = 117_266
"""Pictures of COCO's train2017 that have an object which is no crowd."""
ADE20K = 20_210
"""Pictures of ADE20K's training part."""
NOT_TIMED = "not timed here"


# ---- Instances: Mask R-CNN, 12 epochs

_ONCE = Schedule(
    curve="milestones", milestones=(8.0, 11.0), gamma=0.1,
    warmup=500 / (COCO // 16), per="update",
)  # fmt: skip


def _maskrcnn(
    backbone: str, boxes: str, *, lr: float, drop_path: float | None, source: str
) -> Recipe:
    return Recipe(
        name=f"maskrcnn_{backbone}",
        task="detect",
        about=About(
            source=f"{source}; mmdetection's schedule 1x. Pictures are padded to one size of 800 x "
            "1280 pixels, not to the size of the largest of a batch within 800 x 1333",
            expected=f"{boxes} AP of boxes and masks on COCO val2017",
            time=NOT_TIMED,
        ),
        epochs=12,
        batch=16,
        drop_path=drop_path,
        optim=Optim(name="adamw", lr=lr, lr_batch=16, weight_decay=1e-4, decay="all"),
        schedule=replace(_ONCE, warmup_lr=1e-3 * lr),
        init=Init(weights="pretrained"),
    )


_FASTERNET = "JierunChen/FasterNet, detection/configs"
_POOLFORMER = (
    "sail-sg/poolformer's Mask R-CNN, which apple/ml-fastvit says it follows; its own values "
)
_MASKRCNNS = (
    _maskrcnn("fasternet_s", "39.9 and 36.9", lr=2e-4, drop_path=0.15, source=_FASTERNET),
    _maskrcnn("fasternet_m", "43.0 and 39.1", lr=1e-4, drop_path=0.2, source=_FASTERNET),
    _maskrcnn("fasternet_l", "44.0 and 39.9", lr=1e-4, drop_path=0.3, source=_FASTERNET),
    *(
        _maskrcnn(
            f"fastvit_{variant}",
            f"{boxes} and {masks}",
            lr=2e-4,
            drop_path=None,
            source=_POOLFORMER + "are not published",
        )
        for variant, boxes, masks in (
            ("sa12", 38.9, 35.9),
            ("sa24", 42.0, 38.0),
            ("ma36", 45.1, 40.5),
        )
    ),
)

# ---- Boxes: SSDLite

_SSDLITE = Recipe(
    name="ssdlite",
    task="detect",
    about=About(
        source="torchvision's reference for ssdlite320_mobilenet_v3_large; the rate falls after "
        "each update instead of each epoch",
        expected="21.3 AP on COCO val2017, with MobileNetV3-Large (torchvision)",
        time=NOT_TIMED,
    ),
    epochs=660,
    batch=192,
    scene=Scene(iou_crop=6 / 7, flip=0.5, visible=0.0),
    optim=Optim(name="sgd", lr=0.15, lr_batch=192, weight_decay=4e-5, decay="all"),
    schedule=Schedule(curve="cosine", warmup=1, warmup_lr=1.5e-4),
)

# ---- Segmentation

_SEMANTIC_FPN = Recipe(
    name="semantic_fpn",
    task="segment",
    about=About(
        source="sail-sg/poolformer's Semantic FPN on ADE20K, which apple/ml-fastvit follows",
        expected="38.0, 41.0, 42.9 and 44.6 mIoU on ADE20K, FastViT-SA12, SA24, SA36, MA36 (paper)",
        time=NOT_TIMED,
    ),
    updates=40_000,
    epochs=40_000 // (ADE20K // 32),
    batch=32,
    size=512,
    scene=Scene(scale=(0.5, 2.0), flip=0.5, photometric=0.5, largest_share=0.75),
    optim=Optim(name="adamw", lr=2e-4, lr_batch=32, weight_decay=1e-4, decay="all"),
    schedule=Schedule(curve="poly", power=0.9),
    init=Init(weights="pretrained"),
)


def _torchvision(head: str, network: str, miou: float, accuracy: float) -> Recipe:
    return Recipe(
        name=head,
        task="segment",
        about=About(
            source=f"torchvision's reference for {network}; parts are 480 pixels of pictures that "
            "are 0.5 to 2 times 520",
            expected=f"{miou} mIoU and {accuracy} % of the pixels on the pictures of COCO val2017 "
            "with VOC's classes (torchvision)",
            time=NOT_TIMED,
        ),
        epochs=30,
        batch=32,
        size=480,
        scene=Scene(scale=(0.5 * 520 / 480, 2.0 * 520 / 480), flip=0.5),
        optim=Optim(name="sgd", lr=0.01, lr_batch=32, weight_decay=1e-6, decay="all"),
        schedule=Schedule(curve="poly", power=0.9),
        init=Init(weights="pretrained"),
    )


_SEGMENTERS = (
    _SEMANTIC_FPN,
    _torchvision("lraspp", "lraspp_mobilenet_v3_large", 57.9, 91.2),
    _torchvision("deeplabv3", "deeplabv3_mobilenet_v3_large", 60.3, 91.2),
)

# ---- Smaller sets

_USUAL = "usual values, not tuned on a set"
_ADAMW = Optim(name="adamw", lr=1e-3, weight_decay=0.05, layer_decay=0.8, clip=10.0)

_SMALLER = (
    Recipe(
        name="finetune-detect",
        task="detect",
        about=About(
            source="fleetfoot: AdamW from a backbone's published weights, lower rates for earlier "
            f"stages, mosaics up to the last epochs, an average that follows quickly; {_USUAL}",
            expected="depends on the data",
            time="50 passes over the pictures",
        ),
        epochs=50,
        batch=8,
        scene=Scene(scale=(0.6, 1.4), flip=0.5, photometric=0.5, mosaic=0.5, until=40),
        optim=_ADAMW,
        schedule=Schedule(curve="cosine", warmup=2, warmup_lr=1e-6),
        ema=Ema(decay=0.998, warmup="timm"),
        init=Init(weights="pretrained"),
    ),
    Recipe(
        name="finetune-segment",
        task="segment",
        about=About(
            source="fleetfoot: AdamW from a backbone's published weights, lower rates for earlier "
            f"stages, pictures of half to twice their size, an average; {_USUAL}",
            expected="depends on the data",
            time="60 passes over the pictures",
        ),
        epochs=60,
        batch=8,
        scene=Scene(scale=(0.5, 2.0), flip=0.5, photometric=0.5),
        optim=_ADAMW,
        schedule=Schedule(curve="poly", power=0.9, warmup=1, warmup_lr=1e-6),
        ema=Ema(decay=0.998, warmup="timm"),
        init=Init(weights="pretrained"),
    ),
    Recipe(
        name="finetune-hand",
        task="hand",
        about=About(
            source="fleetfoot: AdamW from a backbone's published weights, turned, shifted and "
            f"scaled hands, an average; {_USUAL}",
            expected="depends on the data",
            time="50 passes over the pictures",
        ),
        epochs=50,
        batch=32,
        scene=Scene(scale=(0.9, 1.1), rotate=30.0, shift=0.05, photometric=0.5),
        optim=replace(_ADAMW, layer_decay=1.0, lr=5e-4),
        schedule=Schedule(curve="cosine", warmup=2, warmup_lr=1e-6),
        ema=Ema(decay=0.998, warmup="timm"),
        init=Init(weights="pretrained"),
    ),
)

SCENE_RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (*_MASKRCNNS, _SSDLITE, *_SEGMENTERS, *_SMALLER)
}
"""Every recipe for a task beside classification, by its name."""


def scene_recipe_of(head: str, backbone: str) -> Recipe | None:
    """The recipe by which a network of a task was published; None if there is none."""
    return SCENE_RECIPES.get(f"{head}_{backbone}") or SCENE_RECIPES.get(head)
