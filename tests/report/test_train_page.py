"""The page of a training run: what it says, and that it is safe, complete markup."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from fleetfoot.data.dataset import Dataset, Split
from fleetfoot.data.pictures import InMemory, Texts
from fleetfoot.report.train_page import html, sentences
from fleetfoot.report.training import card, epoch_text, next_commands
from fleetfoot.train.checkpoint import Best, Epoch
from fleetfoot.train.config import Recipe, Run
from fleetfoot.train.loop import Outcome
from fleetfoot.train.settings import Settings
from pages import HOSTILE, Tags, assert_loads_nothing, assert_runs_no


def epochs(*top1: float | None, ema: bool = False) -> tuple[Epoch, ...]:
    return tuple(
        Epoch(
            epoch=n,
            update=10 * (n + 1),
            train_loss=2.0 / (n + 1),
            figures={}
            if value is None
            else {"eval_loss": 1.0, "eval_top1": value, "eval_top5": 99.0}
            | ({"ema_top1": value} if ema else {}),
            lr=1e-3 / (n + 1),
            size=32,
            images_per_s=100.0 + n,
            seconds=10.0 * (n + 1),
        )
        for n, value in enumerate(top1)
    )


def outcome(*top1: float | None, **changes) -> Outcome:
    known = [value for value in top1 if value is not None]
    best = max(range(len(top1)), key=lambda n: top1[n] or 0.0)
    whole = Outcome(
        folder=Path("runs/x"),
        model="fasternet_t0",
        update=10 * len(top1),
        updates=10 * len(top1),
        interrupted="",
        history=epochs(*top1),
        best=Best(update=10 * (best + 1), epoch=best, figure="top1", value=max(known), loss=1.0)
        if known
        else None,
        test=None,
        seconds=60.0,
        ended="2026-11-28T04:00:00+00:00",
        bad_images=(),
        checkpoint=Path("runs/x/best.safetensors"),
    )
    return replace(whole, **changes)


def dataset(name: str = "signs", classes: tuple[str, ...] = ("a", "b")) -> Dataset:
    def split(part: str) -> Split:
        return Split(
            part, InMemory(Texts(["1.png", "2.png"]), (b"", b"")), np.array([0, 1], np.int64)
        )

    return Dataset(
        name=name, layout="folders", classes=classes, train=split("train"), val=split("val")
    )


SETTINGS = Settings(Recipe(name="quick"), Run())


def page(made: Outcome, data: Dataset | None = None) -> str:
    changed = Settings(replace(SETTINGS.recipe, epochs=7), SETTINGS.run)
    return html(made, data or dataset(), changed, SETTINGS)


def test_the_page_shows_the_epochs_the_curves_and_what_was_changed():
    text = page(outcome(50.0, 70.0, 69.8))
    assert Tags(text).open == []
    assert_loads_nothing(text)
    assert "Best top-1: 70.00 % of 2 val pictures, after epoch 2 of 3." in text
    assert text.count('class="curve') == 2 * 4  # loss twice, accuracy, rate; wide and narrow
    assert "(recipe: 10)" in text  # epochs is 7
    assert "fleetfoot eval runs/x/best.safetensors signs" in text


def test_names_cannot_become_markup():
    bad = ((HOSTILE, HOSTILE),)
    made = outcome(50.0, model=HOSTILE, bad_images=bad, interrupted="SIGINT")
    assert_runs_no(page(made, dataset(HOSTILE, (HOSTILE, "b"))))


@pytest.mark.parametrize("top1", [(), (None,), (None, None), (50.0,), (50.0, 50.0)])
def test_a_page_of_few_or_unmeasured_epochs(top1):
    made = replace(outcome(*(top1 or (None,))), history=epochs(*top1))
    assert Tags(page(made)).open == []


def test_what_speaks_against_the_result_is_said():
    said = sentences(outcome(50.0, 80.0, 60.0), dataset(), SETTINGS)
    assert any("last epoch is 20.0 points below the best" in one for one in said)
    assert any("chosen by these pictures" in one for one in said)
    assert any("--weights pretrained" in one for one in said)
    tested = outcome(50.0, test={"images": 9, "top1": 44.4})
    assert any("9 test pictures, which chose nothing: top-1 44.40" in one
               for one in sentences(tested, dataset(), SETTINGS))  # fmt: skip
    unknown = sentences(outcome(None), dataset(), SETTINGS)
    assert any("Nothing was evaluated" in one for one in unknown)
    steady = sentences(outcome(50.0, 50.5), dataset(), SETTINGS)
    assert not any("below the best" in one for one in steady)


def test_the_card_says_how_to_go_on():
    stopped = outcome(50.0, interrupted="SIGTERM", update=5)
    assert next_commands(stopped, "signs") == ["fleetfoot train --resume runs/x"]
    own = outcome(50.0, model="net.py:build")
    assert next_commands(own, "signs")[0].startswith("fleetfoot predict 'net.py:build' --weights")
    shown = io.StringIO()
    Console(width=80, file=shown).print(card(stopped, data="signs"))
    assert "Interrupted" in shown.getvalue()


def test_an_epoch_in_a_line():
    row = epochs(50.0, ema=True)[0]
    assert epoch_text(row, 30, is_best=True) == (
        "epoch  1 of 30: loss 2.00, 100 images/s, top-1 50.00 %, average 50.00 % (best)"
    )
