"""What would not fit into memory is refused before anything is allocated, in one line."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fleetfoot import cgroups, memory
from fleetfoot.network import resolve
from fleetfoot.network.workload import Workload


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**30)


def network():
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2))


def test_the_memory_of_a_run_is_stated_before_it(small):
    # the activation reads 8 maps of 10^10 float32 and writes as many
    with pytest.raises(
        ValueError,
        match=r"a run of net on 1 x 3 x 100000 x 100000 needs 596 GiB of memory or more, and "
        r"1 GiB is free; give a smaller --size or --batch",
    ):
        Workload.of("net", network(), size=100_000)


def test_the_limit_is_that_of_the_run_and_not_of_its_input(small):
    Workload.of("net", network(), size=1700)  # 33 MiB of input
    with pytest.raises(ValueError, match=r"8192 x 8192 needs 4 GiB"):  # 768 MiB of input
        Workload.of("net", network(), size=8192)


def test_batches_stated_inputs_and_other_networks_count_too(small):
    with pytest.raises(ValueError, match="a run of net on 100000 x 3 x 224 x 224 needs"):
        Workload.of("net", network(), batch=100_000)
    with pytest.raises(ValueError, match=r"the input x \(1x3x100000x100000\) needs 112 GiB"):
        Workload.of("net", network(), inputs="x=1x3x100000x100000")
    with pytest.raises(ValueError, match="mobilenetv2_010 on 1 x 3 x 50000 x 50000 needs"):
        resolve("mobilenetv2_010", size=50_000)


class OnValues(nn.Module):
    """A network that does not run without values."""

    def forward(self, x):
        return x if x.sum().item() > 0 else 2 * x


def test_a_network_that_needs_values_is_refused_for_its_input(small):
    with pytest.raises(ValueError, match=r"on 1 x 3 x 20000 x 20000 needs 4\.47 GiB"):
        Workload.of("net", OnValues(), size=20_000)


def test_large_inputs_that_fit_are_as_small_ones(monkeypatch):
    monkeypatch.setattr("fleetfoot.network.room.LARGE_BYTES", 1)
    for module, shape in (
        (network(), (1, 3, 32, 32)),
        (nn.Conv2d(1, 8, 3), (1, 1, 32, 32)),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4)), (1, 3, 32, 32)),
    ):
        assert Workload.of("net", module, size=32).inputs["input"].shape == torch.Size(shape)


def test_what_is_free_is_the_least_of_system_and_container(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(cgroups, "limits", lambda: cgroups.Limits(memory_bytes=3_000_000))
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    5000 kB\n")
    assert memory.free_bytes() == 3_000_000
    monkeypatch.setattr(cgroups, "limits", cgroups.Limits)
    assert memory.free_bytes() == 5_120_000
    (tmp_path / "meminfo").write_text("MemAvailable: lots\n")
    assert memory.free_bytes() > 0  # all that the machine has
