"""What is measured: networks, engines, and settings of batch and threads.

Some grids have names, those of the protocols; ``Grid.cells`` gives the cells that can run here.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from fleetfoot.cores import check_threads, usable_cores
from fleetfoot.engines import ENGINES, available
from fleetfoot.engines.nothing import Nothing
from fleetfoot.errors import EngineError, UnknownNameError
from fleetfoot.measure.beside import check_beside
from fleetfoot.measure.journal import Case
from fleetfoot.measure.record import Failure
from fleetfoot.models import list_models
from fleetfoot.network import Size, is_file, is_weights, parse_size, resolved_size
from fleetfoot.tasks.catalogue import full_name, is_task

ALL = "all"
MOST_THREADS = 4
"""A latency on more threads than this says more of the scheduler than of the network."""

DEFAULT_MODELS = (
    "fasternet_t0",
    "fasternet_t1",
    "fastvit_t8",
    "fastvit_sa12",
    "mobileone_s0",
    "mobileone_s1",
    "mobilenetv1_100",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "shufflenet_v1_g3_x1_0",
    "shufflenet_v2_x1_0",
    "torchvision:resnet50",
    "timm:mobilevit_xxs",
)
"""One or two of each family, beside the two that everybody knows."""

DEFAULT_ENGINES = ("eager", "onnxruntime", "openvino", "native")
"""The others are on request: ``compiled`` and ``executorch`` build for half a minute a network."""


COMPARED_ENGINES = (
    "compiled",
    "onnxruntime",
    "openvino",
    "ncnn",
    "executorch",
    "native",
)
"""The engines that run on a CPU, except eager, which each of them is compared with."""

COMPARED_MODELS = (
    "fasternet_t0",
    "fasternet_t1",
    "fasternet_t2",
    "fasternet_s",
    "fasternet_l",
    "fastvit_t8",
    "fastvit_sa12",
    "fastvit_ma36",
    "mobileone_s0",
    "mobileone_s1",
    "mobileone_s4",
    "mobilenetv1_025",
    "mobilenetv1_100",
    "mobilenetv1_125",
    "mobilenetv2_010",
    "mobilenetv2_100",
    "mobilenetv2_140",
    "mobilenetv3_small_050",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "shufflenet_v1_g1_x0_25",
    "shufflenet_v1_g3_x1_0",
    "shufflenet_v1_g3_x2_0",
    "shufflenet_v2_x0_5",
    "shufflenet_v2_x1_0",
    "shufflenet_v2_x2_0",
    "timm:ghostnet_100",
    "timm:mobilevit_xxs",
    "timm:resnet50",
    "timm:poolformer_s12",
)
"""Each family's smallest, the largest that every engine here could build (ExecuTorch asks for more
than 24 GiB for shufflenet_v2_exlarge), some between, and the peers that users bring."""
SECONDS_A_BATCH = ("fasternet_l", "fastvit_ma36")
"""The networks of ``COMPARED_MODELS`` that take seconds for 32 pictures: six engines would take
minutes."""
BESIDE_MODELS = (
    "mobilenetv3_large_100",
    "mobilenetv2_100",
    "fasternet_t0",
    "shufflenet_v2_x1_0",
    "timm:resnet50",
)
"""Networks of many small layers, between which threads meet, and one of large ones."""


@dataclass(frozen=True)
class Setting:
    """A batch and a number of threads, at which every network is timed on every engine."""

    batch: int
    threads: int | None
    """None: the usable cores, up to ``MOST_THREADS``; the record holds the number."""
    without: tuple[str, ...] = ()
    """Networks that are left out of this setting."""
    beside: int | None = 0
    """Cores that a loop in another process keeps busy meanwhile; None: every usable core."""

    def __post_init__(self) -> None:
        for name in ("threads", "batch"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} must be 1 or more, not {number}")


class Cells(NamedTuple):
    """The cells of a grid on this machine."""

    cases: list[Case]
    absent: list[Failure]
    """The cells of engines that cannot be used here, each with the reason."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every network on every engine in every setting.

    >>> grid = Grid(models=("fasternet_t[01]",), engines=("eager",), settings=(Setting(1, 1),))
    >>> [(case.model, case.size) for case in grid.cases()]
    [('fasternet_t0', 224), ('fasternet_t1', 224)]
    """

    settings: tuple[Setting, ...] = (Setting(batch=1, threads=None),)
    models: tuple[str, ...] = DEFAULT_MODELS
    """Names in any form that ``network.resolve`` takes, or shell patterns; one that comes twice
    counts once."""
    engines: tuple[str, ...] = DEFAULT_ENGINES
    """Names, or "all"."""
    size: Size | None = None
    """Height and width of every input, in pixels. Default: each network's own."""
    starts: tuple[str, ...] = ()
    """Networks whose start from a file and memory are measured too."""

    @classmethod
    def named(
        cls,
        name: str = "default",
        *,
        models: Sequence[str] = (),
        engines: Sequence[str] | None = None,
        threads: Sequence[int] = (),
        batches: Sequence[int] = (),
        beside: Sequence[int] = (),
        size: Size | str | None = None,
    ) -> Grid:
        """The grid of a protocol; what is given takes the place of its own.

        Args:
            threads, batches, beside: each number goes with each.
            size: height and width of the input in pixels. Default: each network's own.

        Raises:
            UnknownNameError: no protocol has that name.
            ValueError: a number out of its range.
        """
        if name not in GRIDS:
            raise UnknownNameError.of("protocol", name, GRIDS)
        grid = GRIDS[name]
        settings = dict.fromkeys(
            Setting(b, t, setting.without if b == setting.batch else (), busy)
            for setting in grid.settings
            for t in threads or (setting.threads,)
            for b in batches or (setting.batch,)
            for busy in beside or (setting.beside,)
        )
        if engines is None:
            # an engine of the protocol's that this build lacks is absent, not an error
            engines = [engine for engine in grid.engines if engine in ENGINES]
        return replace(
            grid,
            settings=tuple(settings),
            models=tuple(models) or grid.models,
            engines=tuple(engines),
            size=None if size is None else parse_size(size),
        )

    def cases(self) -> list[Case]:
        """All cells, also those of engines that cannot be used here.

        Raises:
            UnknownNameError: no engine or no network has that name.
            ValueError: more threads than usable cores, or the engine that does nothing.
        """
        engines = _named_engines(self.engines)
        found = []
        for model in networks(self.models):
            own = resolved_size(model)  # a wrong name is said here, whatever the size
            for setting in self.settings:
                if model in setting.without:
                    continue
                threads = setting.threads or min(usable_cores(), MOST_THREADS)
                check_threads(threads)
                beside = usable_cores() if setting.beside is None else setting.beside
                check_beside(beside)
                found += [
                    Case(model, engine, threads, setting.batch, self.size or own, beside)
                    for engine in engines
                ]
        return list(dict.fromkeys(found))

    def cells(self) -> Cells:
        """The cells that can run here, and the others.

        Raises:
            UnknownNameError, ValueError: as ``cases``.
            EngineError: none of the engines can be used here; each reason is given.
        """
        absent = engines_here(self.engines)[1]
        cases = self.cases()
        return Cells(
            [case for case in cases if case.engine not in absent],
            [
                Failure(**asdict(case), reason=absent[case.engine])
                for case in cases
                if case.engine in absent
            ],
        )


GRIDS = {
    # latency: one image at a time, on the usable cores up to MOST_THREADS
    "default": Grid(),
    # as in the FasterNet paper (https://arxiv.org/abs/2303.03667, section 4): latency at batch 1
    # and throughput at batch 32, both on one thread
    "fasternet": Grid(settings=(Setting(batch=1, threads=1), Setting(batch=32, threads=1))),
    # every engine that runs on a CPU but eager, on every family: latency on one thread and on two,
    # throughput at batch 32 on two, the start from a file and the memory
    "peers": Grid(
        settings=(
            Setting(batch=1, threads=1),
            Setting(batch=1, threads=2),
            Setting(batch=32, threads=2, without=SECONDS_A_BATCH),
        ),
        models=COMPARED_MODELS,
        engines=COMPARED_ENGINES,
        starts=("fasternet_t0", "fastvit_t8", "mobilenetv2_100", "timm:resnet50"),
    ),
    # what is left of two threads when other processes want the cores: none of them, one, and all
    "beside": Grid(
        settings=tuple(
            Setting(batch=1, threads=threads, beside=beside)
            for threads in (1, 2)
            for beside in (0, 1, None)
        ),
        models=BESIDE_MODELS,
        engines=("onnxruntime", "openvino", "native"),
    ),
    "quick": Grid(settings=(Setting(batch=1, threads=1),)),
}
"""By name. Each goes with the pace of the same name in ``measure.pace.PACES``."""


def check_engines(names: Iterable[str]) -> None:
    """Raises if a name is no engine's that can be measured.

    Raises:
        UnknownNameError: no engine has that name.
        ValueError: it is the engine that does nothing.
    """
    for name in names:
        if name not in ENGINES:
            raise UnknownNameError.of("engine", name, ENGINES)
        if name == Nothing.name:
            raise ValueError(
                "the engine 'nothing' is timed in every run; its median is harness_s of each "
                "measurement"
            )


def _named_engines(names: Sequence[str]) -> list[str]:
    """The engines that ``names`` mean, each once."""
    check_engines(name for name in names if name != ALL)
    if ALL in names:
        return [engine for engine in ENGINES if engine != Nothing.name]
    return list(dict.fromkeys(names))


def engines_here(names: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The engines among ``names`` (or "all" of them) that can be used here, and the others, each
    with the reason.

    Raises:
        UnknownNameError: no engine has that name.
        ValueError: the engine that does nothing.
        EngineError: none of them can be used here; each reason is given.
    """
    wanted = _named_engines(names)
    reasons = available()
    absent = {name: reason for name in wanted if (reason := reasons[name]) is not None}
    present = [name for name in wanted if name not in absent]
    if not present:
        lines = "".join(f"\n  {name}: {reason}" for name, reason in absent.items())
        raise EngineError(f"none of the engines can be used here{lines}")
    return present, absent


def default_engines() -> tuple[list[str], dict[str, str]]:
    """The default engines that can be used here, and the others with the reason."""
    found = available()
    absent = {name: reason for name in DEFAULT_ENGINES if (reason := found[name]) is not None}
    return [name for name in DEFAULT_ENGINES if name not in absent], absent


def networks(patterns: Sequence[str]) -> list[str]:
    """The names that ``patterns`` mean, each once: ``fastvit_*``, ``timm:ghostnet_*``,
    ``torchvision:resnet50``, ``ssdlite:fasternet_*``. A user's file with its factory, and a file of
    weights, stay as they are.

    Raises:
        UnknownNameError: a pattern matches nothing.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        if is_file(pattern) or is_weights(pattern):
            found[pattern] = None
            continue
        if is_task(pattern):
            head, colon, backbone = pattern.partition(":")
            found.update((f"{head}:{name}", None) for name in networks([backbone] * bool(colon)))
            if not colon:
                found[full_name(head)] = None
            continue
        prefix, known = _known(pattern)
        bare = pattern.removeprefix(prefix)
        matching = [name for name in known if fnmatch.fnmatchcase(name, bare)]
        if not matching:
            kind = f"{prefix.rstrip(':')} model" if prefix else "model"
            raise UnknownNameError.of(
                kind, bare, known, hint="" if prefix else "'fleetfoot models' lists the zoo."
            )
        found.update(dict.fromkeys(f"{prefix}{name}" for name in matching))
    return list(found)


def _known(pattern: str) -> tuple[str, list[str]]:
    """The prefix of the library that ``pattern`` speaks of, and that library's classifiers."""
    if ":" not in pattern:
        return "", list_models()
    library = pattern.split(":")[0]
    if library == "timm":
        import timm

        return "timm:", timm.list_models()
    if library == "torchvision":
        import torchvision

        return "torchvision:", torchvision.models.list_models(module=torchvision.models)
    raise UnknownNameError.of("library prefix", library, ("timm", "torchvision"))
