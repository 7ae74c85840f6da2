"""The network learns: a few drawn hands to a fraction of what a mean hand is off."""

from __future__ import annotations

import pytest
import torch

from fleetfoot.data.hands.scenes import Drawing
from fleetfoot.tasks.catalogue import create_model
from fleetfoot.tasks.hand.metric import Meter

SIZE, COUNT, STEPS = 64, 16, 300


@pytest.mark.slow
def test_a_few_hands_are_learned_to_two_millimetres():
    drawing = Drawing("train", COUNT, 0, SIZE)
    hands = [drawing.hand(index) for index in range(COUNT)]
    x = torch.stack([torch.from_numpy(drawing.pixels(i)).permute(2, 0, 1) for i in range(COUNT)])
    x = (x.float() / 255 - 0.5) * 4
    targets = [
        {
            "points": torch.from_numpy(hand.points).float(),
            "joints": torch.from_numpy(hand.joints - hand.joints[0]).float(),
            "vertices": torch.from_numpy(hand.vertices - hand.joints[0]).float(),
        }
        for hand in hands
    ]
    model = create_model("handmesh:fasternet_t0", input_size=SIZE, dims=(64, 64, 32), depth=1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=STEPS)
    for _ in range(STEPS):
        loss = sum(model(x, targets).values())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    meter = Meter()
    model.eval()
    with torch.no_grad():
        found = model.decode(model(x), (SIZE, SIZE))
    for number, (one, hand) in enumerate(zip(found, hands, strict=True)):
        meter.update(number, one, hand)
    figures = meter.figures()
    assert figures["pa_mpjpe"] < 2  # a mean hand is 13 mm off
    assert figures["pa_mpvpe"] < 2
    assert figures["f_5"] > 0.95
    assert figures["points"] < 1
