"""What is evaluated: a network or a compiled file, ready to run in one engine or several.

B batch · C channels · H W space · N classes
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import safetensors
import torch
from torch import Tensor, nn

import fleetfoot
from fleetfoot import engines, runtime
from fleetfoot.artifact import MANIFEST, Artifact
from fleetfoot.copying import copied, evaluated_
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.engines import Engine, EngineInfo
from fleetfoot.engines.agreement import Agreement
from fleetfoot.errors import EngineError, FleetfootError, RecordError, first_line
from fleetfoot.files import parsed, plain, read_object
from fleetfoot.network import Workload
from fleetfoot.tasks.classify import Labels
from fleetfoot.transform import fuse

log = logging.getLogger("fleetfoot")

Form = Literal["folded", "training"]
UNSTATED = (
    "the file states no preprocessing, so ImageNet's usual one is used; --mean, --std, --crop-pct "
    "and --interpolation set another"
)


class Runner(Protocol):
    """An engine, as far as an evaluation needs it."""

    @property
    def info(self) -> EngineInfo: ...

    @property
    def agreement(self) -> Agreement | None: ...

    def run(self, inputs: Tensor, /) -> Any: ...

    def close(self) -> None: ...


class HoldsEngines:
    """What ``close``, or the end of a ``with`` block, ends: the engines in ``runners``."""

    runners: tuple[Runner, ...]

    def close(self) -> None:
        for runner in self.runners:
            runner.close()

    def __enter__(self: Held) -> Held:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


Held = TypeVar("Held", bound=HoldsEngines)


@dataclass(frozen=True, kw_only=True)
class Subject(HoldsEngines):
    """A classifier in engines. ``close`` or a ``with`` block ends them."""

    name: str
    form: str
    """"folded", "training", or "as compiled"."""
    weights: str
    """Digest of the parameters, or of the compiled files."""
    params: int | None
    preprocess: Preprocess
    labels: Labels
    batch: int
    """Pictures in a run."""
    runners: tuple[Runner, ...]
    failures: tuple[tuple[str, str], ...] = ()
    """Engines that could not be built, each with the reason."""
    notes: tuple[str, ...] = field(default=())


def all_engines() -> tuple[str, ...]:
    """The engines that can be used here and compute something."""
    return tuple(
        name for name, reason in engines.available().items() if reason is None and name != "nothing"
    )


def of_network(
    workload: Workload,
    *,
    form: Form = "folded",
    names: Sequence[str] = ("eager",),
    threads: int = 1,
    precision: str = "float32",
    device: str = "cpu",
    batch: int = 8,
    labels: Labels | None = None,
    overrides: Mapping[str, Any] | None = None,
    on_build: Callable[[str], None] = lambda engine: None,
) -> Subject:
    """A network in the engines ``names``.

    Args:
        form: whether batch norms and linear branches are folded first.
        threads, precision, device: options of ``engines.load``.
        labels: names of the outputs. Default: ``labels_of(workload)``.
        on_build: called with the name of each engine before it is built.
        overrides: fields of the preprocessing that differ from the network's own.

    Raises:
        ValueError: the network is no classifier of pictures, or the labels do not fit it.
        FoldError: the fold cannot be proved.
        EngineError: the one engine of ``names``, or every one of several, cannot run the network;
            of several, the others are in ``failures``.
    """
    labels = labels or labels_of(workload)
    preprocess = workload.preprocess(**(overrides or {}))
    example = torch.zeros(batch, preprocess.channels, preprocess.height, preprocess.width)
    given = workload.module
    ready = fuse(given, example[:1]).model if form == "folded" else evaluated_(copied(given))
    with ExitStack() as opened:
        built, failures = built_engines(
            workload.name,
            ready,
            example,
            names,
            threads=threads,
            precision=precision,
            device=device,
            on_build=on_build,
        )
        for runner in built:
            opened.callback(runner.close)
        found = _classes(built[0], example)
        if found != len(labels.names):
            raise ValueError(f"{workload.name} has {found} outputs, and {len(labels.names)} labels")
        made = Subject(
            name=workload.name,
            form=form,
            weights=digest(given),
            params=sum(one.numel() for one in given.parameters()),
            preprocess=preprocess,
            labels=labels,
            batch=batch,
            runners=built,
            failures=failures,
        )
        opened.pop_all()
        return made


def built_engines(
    name: str,
    module: nn.Module,
    example: Tensor,
    names: Sequence[str],
    *,
    threads: int = 1,
    precision: str = "float32",
    device: str = "cpu",
    on_build: Callable[[str], None] = lambda engine: None,
) -> tuple[tuple[Engine, ...], tuple[tuple[str, str], ...]]:
    """The engines ``names`` of a network, and those that could not be built with the reason.

    Args:
        name: that of the network, for messages.
        module: the network in eval mode, as it is to run.
        threads, precision, device: options of ``engines.load``.
        on_build: called with the name of each engine before it is built.

    Raises:
        EngineError: the one engine of ``names``, or every one of several, cannot run the network.
    """
    built: list[Engine] = []
    failures = []
    with ExitStack() as opened:
        for engine in names:
            on_build(engine)
            try:
                runner = engines.load(
                    engine,
                    module,
                    example=example,
                    threads=threads,
                    precision=precision,
                    device=device,
                )
            except FleetfootError as error:
                if len(names) == 1:
                    raise
                failures.append((engine, first_line(error)))
                continue
            opened.callback(runner.close)
            built.append(runner)
        if not built:
            reasons = "".join(f"\n  {engine}: {reason}" for engine, reason in failures)
            raise EngineError(f"no engine can run {name}:{reasons}")
        opened.pop_all()
    return tuple(built), tuple(failures)


def labels_of(workload: Workload, file: Path | None = None) -> Labels:
    """Names of the outputs of a network: those of ``file`` if given; otherwise those that the
    weights state, or else ImageNet's for 1,000 outputs.

    Raises:
        ValueError: ``file`` cannot be used, or names another number of classes.
        EngineError: the network is no classifier.
    """
    logits = list(workload.outputs.values())
    if len(logits) != 1 or logits[0].ndim != 2:
        found = ", ".join(str(tuple(one.shape)) for one in logits)
        raise EngineError(
            f"the output of a classifier is (B, classes); the output of {workload.name} is {found}"
        )
    return Labels.of_network(workload.module, int(logits[0].shape[1]), file)


@dataclass(frozen=True)
class TrainedOn:
    """The data that a checkpoint's network was trained on, as its header states it."""

    data: str
    """Its path as it was given, or the name of a built-in set."""
    train: str
    """Fingerprint of the pictures that it was trained on."""
    seed: int
    val_share: float | None
    """Share of the pictures that was split off for validation, and ``seed`` of that, as
    ``open_dataset`` takes them."""

    @classmethod
    def of(cls, file: Path) -> TrainedOn | None:
        """None if ``file`` is no checkpoint, or does not say."""
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                text = (opened.metadata() or {}).get("training", "")
            training = read_object(text)
            data, recipe = training["data"], training["recipe"]
            said = {
                "data": data["name"],
                "train": data["train"],
                "seed": recipe["seed"],
                "val_share": recipe["val_share"],
            }
            return parsed(said, cls, "training")
        except (OSError, safetensors.SafetensorError, RecordError, KeyError, TypeError):
            return None


def is_compiled(name: str) -> bool:
    """Whether ``name`` is a compiled plan or the folder of an artifact."""
    path = Path(name)
    return (path.suffix == ".plan" and path.is_file()) or (path / MANIFEST).is_file()


def of_compiled(
    path: Path,
    *,
    threads: int = 1,
    batch: int = 8,
    labels: Path | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Subject:
    """A compiled plan, or an artifact, which runs the batch that it was saved for. Its manifest may
    state preprocessing and labels.

    Raises:
        ValueError: the file is no classifier of pictures, or the labels do not fit it.
        ArtifactError, EngineError: it cannot be opened or run.
    """
    given = {name: value for name, value in (overrides or {}).items() if value is not None}
    with ExitStack() as opened:
        runner: Runner
        stated: dict[str, Any] | None = None
        names: tuple[str, ...] | None = None
        if path.is_dir():
            artifact = Artifact.read(path)
            runner = engines.open(artifact, threads=threads)
            facts, shapes = artifact.manifest.facts, [i.shape for i in artifact.manifest.inputs]
            stated, names = facts.preprocessing, facts.labels
            shape, digests = shapes[0][1:], [file.sha256 for file in artifact.manifest.files]
            name, batch = facts.network or path.name, shapes[0][0]
        else:
            runner = _Plan(path, threads)
            shapes = list(runner.plan.input_shapes)
            shape, digests = shapes[0], [hashlib.sha256(path.read_bytes()).hexdigest()]
            name = path.stem
        opened.callback(runner.close)
        if len(shapes) != 1 or len(shape) != 3 or shape[0] not in (1, 3):
            raise ValueError(f"{path} takes {shapes}, and not pictures (B, 3, H, W)")
        preprocess = _stated(stated, shape, given, path)
        example = torch.zeros(batch, *shape)
        found = _classes(runner, example)
        made = Subject(
            name=name,
            form="as compiled",
            weights=hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest(),
            params=None,
            preprocess=preprocess,
            labels=Labels(names)
            if labels is None and names is not None and len(names) == found
            else Labels.of(found, labels),
            batch=batch,
            runners=(runner,),
            notes=() if stated else (UNSTATED,),
        )
        opened.pop_all()
        return made


def _stated(
    stated: dict[str, Any] | None, shape: Sequence[int], given: dict[str, Any], path: Path
) -> Preprocess:
    """The preprocessing that a manifest states, or ImageNet's usual one at the file's size."""
    channels, height, width = shape
    size = height if height == width else (height, width)
    if stated is None:
        made = Preprocess(**{"size": size, **given})
        return made.grey() if channels == 1 else made
    try:
        usual = asdict(Preprocess(size=size))
        made = parsed(plain({**usual, **stated, **given}), Preprocess, "preprocessing")
    except RecordError as error:
        raise ValueError(f"{path}: {error}") from error
    if (made.channels, made.height, made.width) != tuple(shape):
        raise ValueError(
            f"{path} takes (B, {', '.join(map(str, shape))}), and its preprocessing makes "
            f"({made.channels}, {made.height}, {made.width})"
        )
    return made


def _classes(runner: Runner, example: Tensor) -> int:
    """Number of outputs, by a run on ``example``."""
    logits = runner.run(example)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(example):
        found = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise EngineError(
            f"{runner.info.name}: the output of a classifier is ({len(example)}, classes); "
            f"the output of this network is {found}"
        )
    return int(logits.shape[1])


def digest(module: nn.Module) -> str:
    """A digest of a network's parameters and buffers by name."""
    made = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        made.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        made.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return made.hexdigest()


class _Plan:
    """A plan's file, run as an engine is."""

    agreement = None

    def __init__(self, path: Path, threads: int) -> None:
        self.plan = runtime.Plan.load(path)
        self._context = self.plan.context(threads)
        self.info = EngineInfo(
            name="native",
            version=fleetfoot.__version__,
            threads=threads,
            precision="float32",
            layout="nchw",
            device="cpu",
        )

    def run(self, inputs: Tensor, /) -> Any:
        answer = self._context.run(inputs.numpy())
        return torch.from_numpy(answer) if isinstance(answer, np.ndarray) else answer

    def close(self) -> None:
        self._context.close()
        self.plan.close()
