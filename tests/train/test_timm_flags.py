"""timm's flags are read as its train.py reads them."""

from __future__ import annotations

import pytest
import torch
from timm.scheduler import create_scheduler_v2
from torch import nn

from fleetfoot.errors import UnknownNameError
from fleetfoot.train.recipes import RECIPES
from fleetfoot.train.schedules import Schedules
from fleetfoot.train.settings import Settings, names
from fleetfoot.train.timm_flags import FLAGS, OTHERS, SHORT, WITHOUT, from_timm_flags, taken

TIMM = """
--aa --amp --amp-dtype --aug-repeats --aug-splits --batch-size --bce-loss --bce-pos-weight
--bce-sum --bce-target-thresh --bn-eps --bn-momentum --channels-last --checkpoint-hist --class-map
--clip-grad --clip-mode --color-jitter --color-jitter-prob --config --cooldown-epochs --crop-pct
--cutmix --cutmix-minmax --data-dir --dataset --dataset-download --dataset-trust-remote-code
--decay-epochs --decay-milestones --decay-rate --device --device-modules --dist-bn
--distill-loss-weight --dr --drop --drop-block --drop-connect --drop-path --epoch-repeats --epochs
--eval-metric --experiment --fast-norm --fuser --gaussian-blur-prob --gp --grad-accum-steps
--grad-checkpointing --grayscale-prob --head-init-bias --head-init-scale --hflip --img-size
--in-chans --initial-checkpoint --input-img-mode --input-key --input-size --interpolation
--jsd-loss --kd-distill-type --kd-loss-type --kd-model-name --kd-student-feature-dim
--kd-teacher-feature-dim --kd-temperature --kd-token-distill-type --layer-decay
--layer-decay-min-scale --layer-decay-no-opt-scale --local_rank --log-interval --log-wandb --lr
--lr-base --lr-base-scale --lr-base-size --lr-cycle-decay --lr-cycle-limit --lr-cycle-mul
--lr-k-decay --lr-noise --lr-noise-pct --lr-noise-std --mean --min-lr --mixup --mixup-mode
--mixup-off-epoch --mixup-prob --mixup-switch-prob --model --model-dtype --model-ema
--model-ema-decay --model-ema-force-cpu --model-ema-warmup --model-kwargs --momentum
--naflex-loader --naflex-loss-scale --naflex-max-seq-len --naflex-patch-size-probs
--naflex-patch-sizes --naflex-patchify-channels-first --naflex-train-seq-lens --no-aug --no-ddp-bb
--no-prefetcher --no-resume-opt --num-classes --opt --opt-betas --opt-eps --opt-kwargs --output
--patience-epochs --pin-mem --pretrained --pretrained-path --ratio --recount --recovery-interval
--remode --reprob --resplit --resume --save-images --scale --sched --sched-on-updates --seed
--smoothing --split-bn --start-epoch --std --sync-bn --synchronize-step --target-key
--task-loss-weight --torchcompile --torchcompile-mode --torchscript --train-batch-sizes
--train-batches-per-epoch --train-crop-mode --train-img-sizes --train-interpolation
--train-num-samples --train-size-probs --train-size-random-mix --train-size-schedule
--train-size-schedule-spread --train-split --train-steps-per-epoch --tta --use-multi-epochs-loader
--val-interval --val-num-samples --val-split --validation-batch-size --variable-batch-loss-scale
--vflip --wandb-project --wandb-resume-id --wandb-tags --warmup-epochs --warmup-lr --warmup-prefix
--weight-decay --worker-seeding --workers -b -c -j -vb
"""
"""Every flag of timm 1.0.31's train.py."""


def read(text, **arguments):
    return from_timm_flags(text.split(), Settings(), **arguments)


def test_every_flag_of_timms_is_known():
    assert {*FLAGS, *OTHERS, *SHORT, *WITHOUT} == set(TIMM.split())
    assert not set(FLAGS) & set(WITHOUT)


def test_every_flag_leads_to_a_setting():
    known = names()
    assert {flag.to for flag in FLAGS.values() if isinstance(flag.to, str)} <= {"", *known}


def test_a_command_of_timms():
    """FastViT's, with the defaults that Apple changed in its copy of train.py."""
    got = read(
        "--model fastvit_t8 -b 128 --lr 1e-3 --amp --mixup 0.2 --cutmix 1.0 --output runs "
        "--input-size 3 256 256 --opt adamw --weight-decay 0.05 --sched cosine --epochs 300 "
        "--warmup-epochs 5 --warmup-lr 1e-6 --min-lr 1e-5 --cooldown-epochs 10 --smoothing 0.1 "
        "--aa rand-m9-mstd0.5-inc1 --color-jitter 0.4 --reprob 0.25 --remode pixel "
        "--train-interpolation bicubic --drop-path 0.0 --model-ema --model-ema-decay 0.9995 -j 8",
        processes=8,
    )
    ours = Settings(RECIPES["fastvit_t8"]).values()
    theirs = got.settings.values()
    differing = {name for name in ours if ours[name] != theirs[name]}
    # timm's average now begins with the weights after the first update; Apple's timm was older
    assert differing == {"ema.warmup", "optim.lr_batch", "run.workers"}
    assert got.others == {"model": "fastvit_t8", "output": "runs"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--opt sgd --momentum 0.8", {"optim.name": "sgd", "optim.nesterov": True}),
        ("--opt momentum", {"optim.name": "sgd", "optim.nesterov": False}),
        ("--opt rmsproptf --opt-eps .001", {"optim.name": "rmsprop_tf", "optim.eps": 1e-3}),
        ("--opt-betas 0.9 0.95", {"optim.betas": (0.9, 0.95)}),
        ("--opt lamb --lr-base 0.1", {"optim.lr_batch": 256, "optim.lr_rule": "sqrt"}),
        ("--lr-base 0.1 --lr-base-size 512", {"optim.lr_batch": 512, "optim.lr_rule": "linear"}),
        ("--lr-base 0.1 --lr 0.5", {"optim.lr": 0.5, "optim.lr_batch": None}),
        ("--batch-size 32 --grad-accum-steps 4", {"batch": 128, "optim.accumulate": 4}),
        ("--grad-accum-steps 4 -b 32", {"batch": 128, "optim.accumulate": 4}),
        ("--sched step --decay-epochs 2.4 --decay-rate .97", {"schedule.gamma": 0.97}),
        ("--sched step", {"schedule.per": "epoch"}),
        ("--sched cosine --sched-on-updates", {"schedule.per": "update"}),
        ("--sched poly --dr 1", {"schedule.curve": "linear", "schedule.gamma": 0.1}),
        ("--epochs 10 --warmup-epochs 2 --warmup-prefix", {"epochs": 12, "schedule.warmup": 2}),
        ("--scale 0.2 1.0 --hflip 0", {"augment.scale": (0.2, 1.0), "augment.flip": 0.0}),
        ("--no-aug", {"augment.crop": "none", "augment.flip": 0.0}),
        ("--aug-repeats 3 --recount 1 --vflip 0.", {"augment.repeats": 3}),
        ("--aug-repeats 0", {"augment.repeats": 1}),
        ("--crop-pct 0.95", {"crop_pct": 0.95}),
        ("--bce-loss --bce-target-thresh 0.2", {"loss.kind": "bce", "loss.threshold": 0.2}),
        ("--mixup 0.2 --mixup-off-epoch 5", {"mix.until": 5}),
        ("--mixup 0.2 --mixup-off-epoch 0", {"mix.until": None}),
        ("--model-ema", {"ema.decay": 0.9998, "ema.warmup": "copy"}),
        ("--model-ema --model-ema-warmup", {"ema.warmup": "timm"}),
        ("--amp", {"precision": "fp16"}),
        ("--amp --amp-dtype bfloat16", {"precision": "bf16"}),
        ("--amp-dtype bfloat16", {"precision": "float32"}),
        ("--clip-grad 1.0 --clip-mode norm", {"optim.clip": 1.0}),
        ("--channels-last --grad-checkpointing", {"run.checkpointing": True}),
        ("--torchcompile --seed 3", {"run.compile": True, "seed": 3}),
        ("--torchcompile inductor", {"run.compile": True}),
        ("--pretrained --layer-decay=0.7", {"init.weights": "pretrained"}),
        ("--kd-model-name timm:resnet18 --kd-loss-type kl", {"distil.kind": "soft"}),
    ],
)
def test_flags_mean_settings(text, expected):
    values = read(text).settings.values()
    assert {name: values[name] for name in expected} == expected


def test_a_prefixed_warm_up_gives_timms_rates():
    text = "--lr 0.4 --sched cosine --epochs 8 --warmup-epochs 2 --warmup-lr 1e-4 --warmup-prefix"
    course = Schedules.of(read(text).settings.recipe, 1)
    optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler, total = create_scheduler_v2(
        optimiser, num_epochs=8, warmup_epochs=2, warmup_lr=1e-4, warmup_prefix=True
    )
    assert course.total_epochs == total
    for epoch in range(total):
        scheduler.step(epoch)
        assert course.lr(epoch) == optimiser.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("--lr-noise 0.4", "timm's --lr-noise has no equivalent here: curves are constant"),
        ("--jsd-loss", "timm's --jsd-loss has no equivalent here$"),
        ("--drop-connect 0.1", "calls it deprecated; use --drop-path"),
        ("--vflip 0.5", r"timm's --vflip 0\.5 has no equivalent here: --vflip is always 0"),
        ("--lrr 1", "unknown option or flag of timm's '--lrr'; did you mean '--lr'"),
        ("--opt adam", "unknown value of --opt 'adam'; did you mean 'adamw'"),
        ("--sched tanh", "unknown value of --sched 'tanh'"),
        ("--sched poly", "poly is known with --decay-rate 1, which is linear"),
        ("--clip-mode agc", "unknown value of --clip-mode 'agc'"),
        ("--lr", "--lr needs a value"),
        ("--lr --amp", "--lr needs a value"),
        ("--input-size 3 224", "--input-size needs 3 values"),
        ("--input-size 3 224 192", "training takes square pictures, not 224 × 192"),
        ("--scale 0.2", "--scale needs 2 values"),
        ("--momentum 2", r"optim.momentum must be in \[0, 1\), not 2"),
        ("stray", "unknown option or flag of timm's 'stray'"),
    ],
)
def test_what_has_no_equivalent_says_so(text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


def test_an_unknown_flag_has_its_own_error():
    with pytest.raises(UnknownNameError):
        read("--lrr 1")


def test_all_values_of_a_flag_without_an_equivalent_are_its_own():
    assert taken("--mean", ["0.5", "0.5", "0.5", "--lr", "1"]) == 3
    assert taken("--lr", ["0.5", "data"]) == 1
