"""What an update changes: the network, its optimiser, its average, the scaler; and one update.

B batch · C channels · H W space
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from fleetfoot.data.loader import Batch
from fleetfoot.data.order import Order
from fleetfoot.errors import CheckpointError, TrainingError
from fleetfoot.train import optimisers
from fleetfoot.train.averaging import Average, set_momentum_
from fleetfoot.train.building import recompute_
from fleetfoot.train.checkpoint import Checkpoint
from fleetfoot.train.config import Run
from fleetfoot.train.groups import freeze_
from fleetfoot.train.objectives import Objective
from fleetfoot.train.processes import Processes
from fleetfoot.train.schedules import Schedules
from fleetfoot.train.sync_batchnorm import synchronised

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

GROUP = "@group"
"""Start of the name under which what an optimiser keeps for a whole group is saved; no parameter
has it."""


def seed_of(*parts: int | str) -> int:
    """A seed that depends on every part."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Learner:
    """A network and everything that training keeps beside it.

    Its state is in tensors and a few numbers, which ``tensors`` and ``numbers`` give and ``load_``
    takes back. Everything random in an update is drawn from (seed, number of the update, rank).
    """

    def __init__(
        self,
        objective: Objective,
        run: Run,
        order: Order,
        processes: Processes,
    ) -> None:
        built, recipe = objective.built, objective.recipe
        self.objective, self.built, self.recipe, self.run = objective, built, recipe, run
        self.order, self.processes = order, processes
        self.course = Schedules.of(recipe, order.updates_per_epoch)
        self.device = torch.device(run.device)
        self.dtype = torch.float64 if recipe.precision == "float64" else torch.float32
        module = built.module
        if run.sync_bn and processes.world > 1:
            module = synchronised(module, self.device)
        self.frozen = freeze_(module, recipe.init.freeze, all_norms=recipe.init.norms == "keep")
        set_momentum_(module, recipe.bn_momentum)
        module.to(device=self.device, dtype=self.dtype)
        if run.channels_last:
            module.to(memory_format=torch.channels_last)
        objective.to_(self.device, self.dtype)
        self.module: nn.Module = module.train()
        self.average = Average(module) if recipe.ema.decay is not None else None
        if run.checkpointing:
            recompute_(module)
        self.optimiser = optimisers.build(module, recipe)
        self.scaler = torch.amp.GradScaler(self.device.type) if recipe.precision == "fp16" else None
        self._parallel: DistributedDataParallel | None = None
        self._arranged = False
        forward: Any = module
        if processes.world > 1:
            forward = self._parallel = DistributedDataParallel(
                module,
                device_ids=[self.device] if self.device.type == "cuda" else None,
                find_unused_parameters=not objective.uses_all,
            )
        if run.compile:
            forward = torch.compile(forward)
        self.forward = forward
        """The network, through what wraps it for several processes or compiles it."""

    # ---- One update

    def update_(self, number: int, parts: Iterable[Batch], *, skip: bool = False) -> Tensor:
        """Makes one update, and returns its loss.

        Args:
            parts: the accumulated parts of this process's pictures.
            skip: let the pictures pass without changing anything, and return 0.
        """
        seed = seed_of("update", self.recipe.seed, number, self.processes.rank)
        torch.manual_seed(seed)
        optimisers.set_rates_(
            self.optimiser,
            lr=self.course.lr(number),
            weight_decay=self.course.weight_decay(number),
        )
        count = self.recipe.optim.accumulate
        total = torch.zeros((), device=self.device, dtype=self.dtype)
        for place, batch in enumerate(parts):
            if skip:
                continue
            if self._parallel is not None and not self._arranged:
                self._arrange(batch)
                torch.manual_seed(seed)
            with self._synchronising(place == count - 1):
                value = self._loss(batch) / count
                (value if self.scaler is None else self.scaler.scale(value)).backward()
            total += value.detach()
        if not skip:
            self._step_()
            if self.average is not None:
                self.average.update_(self.module, self.course.ema_decay(number))
        return total

    def _arrange(self, batch: Batch) -> None:
        """Lets DDP see in which order gradients come, and changes nothing else. It rearranges its
        buckets after its first backward pass. With three processes or more the last bits of a sum
        depend on the bucket, so an update after a restart would not be what it was before."""
        buffers = [buffer.clone() for buffer in self.module.buffers()]
        self._loss(batch).backward()
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, before in zip(self.module.buffers(), buffers, strict=True):
                buffer.copy_(before)
        self._arranged = True

    def _synchronising(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients are exchanged once an update, in its last part."""
        if self._parallel is None or last:
            return nullcontext()
        return self._parallel.no_sync()

    def _loss(self, batch: Batch) -> Tensor:
        return self.objective.loss(self, batch)

    def share(self, batch: Batch) -> slice:
        """Positions of the batch's pictures in the update."""
        return self.order.share(
            rank=self.processes.rank,
            world=self.processes.world,
            part=batch.part,
            parts=self.recipe.optim.accumulate,
        )

    def normalised(self, pixels: Tensor) -> Tensor:
        """Bytes as the network's input, on its device. (B, C, H, W)"""
        there = pixels.to(self.device, non_blocking=True)
        x = self.built.preprocess.normalise(there).to(self.dtype)
        return x.to(memory_format=torch.channels_last) if self.run.channels_last else x

    def autocast(self) -> AbstractContextManager[Any]:
        kind = DTYPES.get(self.recipe.precision)
        return nullcontext() if kind is None else torch.autocast(self.device.type, kind)

    def _step_(self) -> None:
        limit = self.recipe.optim.clip
        if self.scaler is None:
            if limit is not None:
                nn.utils.clip_grad_norm_(self._trained(), limit)
            self.optimiser.step()
        else:
            if limit is not None:
                self.scaler.unscale_(self.optimiser)
                nn.utils.clip_grad_norm_(self._trained(), limit)
            self.scaler.step(self.optimiser)
            self.scaler.update()
        self.optimiser.zero_grad(set_to_none=True)

    def _trained(self) -> Iterator[nn.Parameter]:
        for group in self.optimiser.param_groups:
            yield from group["params"]

    def is_finite(self) -> bool:
        """Whether all parameters and buffers are finite."""
        return all(
            bool(tensor.isfinite().all())
            for tensor in self.module.state_dict().values()
            if tensor.is_floating_point()
        )

    # ---- State

    def tensors(self) -> dict[str, Mapping[str, Tensor]]:
        """The tensors of a checkpoint: ``weights``, ``average`` and ``optimiser``."""
        kept: dict[str, Tensor] = {}
        for name, state in self._states():
            kept |= {
                f"{name}.{key}": value for key, value in state.items() if isinstance(value, Tensor)
            }
        for index, group in enumerate(self.optimiser.param_groups):
            kept |= {
                f"{GROUP}{index}.{key}": value
                for key, value in group.items()
                if isinstance(value, Tensor) and key not in self._fixed(group)
            }
        return {
            "weights": self.module.state_dict(),
            "average": {} if self.average is None else self.average.module.state_dict(),
            "optimiser": kept,
        }

    def numbers(self) -> dict[str, Any]:
        """The numbers of a checkpoint: ``scaler`` and ``optimiser``."""
        state = {
            name: {key: value for key, value in state.items() if not isinstance(value, Tensor)}
            for name, state in self._states()
        }
        groups = [
            {
                key: value
                for key, value in group.items()
                if key not in self._fixed(group) and not isinstance(value, Tensor)
            }
            for group in self.optimiser.param_groups
        ]
        return {
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "optimiser": {"state": {k: v for k, v in state.items() if v}, "groups": groups},
        }

    def _fixed(self, group: Mapping[str, Any]) -> set[str]:
        """Entries of a group that the recipe decides."""
        return {"params", "names", "lr_scale", "decays", "initial_lr", *self.optimiser.defaults}

    def _states(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        for group in self.optimiser.param_groups:
            for name, parameter in zip(group["names"], group["params"], strict=True):
                yield name, self.optimiser.state.get(parameter, {})

    def load_(self, found: Checkpoint) -> None:
        """Puts the state of a checkpoint in place.

        Raises:
            CheckpointError: it is of another network, optimiser or kind of recipe.
        """
        try:
            self.module.load_state_dict(found.weights)
            if self.average is not None:
                # without averages so far, they begin with the weights
                self.average.module.load_state_dict(found.average or found.weights)
        except RuntimeError as error:
            raise CheckpointError(f"the checkpoint is of another network: {error}") from error
        self._load_optimiser_(found)
        if self.scaler is not None and found.training.scaler is not None:
            state = dict(found.training.scaler)
            for name in ("growth_interval", "_growth_tracker"):
                state[name] = int(state[name])
            self.scaler.load_state_dict(state)

    def _load_optimiser_(self, found: Checkpoint) -> None:
        states: dict[str, dict[str, Any]] = {}
        for key, tensor in found.optimiser.items():
            name, _, entry = key.rpartition(".")
            states.setdefault(name, {})[entry] = tensor
        groups = [states.pop(f"{GROUP}{i}", {}) for i in range(len(self.optimiser.param_groups))]
        for name, numbers in found.training.optimiser.get("state", {}).items():
            states.setdefault(name, {}).update(numbers)
        raw = self.optimiser.state_dict()
        named = [name for group in self.optimiser.param_groups for name in group["names"]]
        if unknown := sorted(set(states) - set(named)):
            raise CheckpointError(
                f"the checkpoint's optimiser trains {', '.join(unknown[:3])}, which "
                f"{'is' if len(unknown) == 1 else 'are'} not trained now (init.freeze?)"
            )
        raw["state"] = {i: states[name] for i, name in enumerate(named) if name in states}
        kept = found.training.optimiser.get("groups", [])
        for group, numbers in zip(groups, kept, strict=False):
            group.update(numbers)
        for group, state in zip(raw["param_groups"], groups, strict=True):
            group.update(state)
        try:
            self.optimiser.load_state_dict(raw)
        except (ValueError, KeyError) as error:
            raise CheckpointError(f"the checkpoint is of another optimiser: {error}") from error
        for parameter, state in self.optimiser.state.items():
            for entry, value in state.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    state[entry] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def check_device(name: str) -> None:
    """Checks that there is such a device.

    Raises:
        TrainingError: there is none.
    """
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        first = str(error).strip().partition("\n")[0]
        raise TrainingError(f"device {name!r} cannot be used: {first}") from error
