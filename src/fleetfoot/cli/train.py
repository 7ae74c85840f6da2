"""``fleetfoot train``: train or fine-tune a network on pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.launching import TogetherCommand, agreed_folder, start_here
from fleetfoot.cli.network import option_pair
from fleetfoot.cli.status import working
from fleetfoot.cli.training import (
    DATA,
    MODEL,
    RUNNING,
    AcceptLicence,
    Batch,
    Device,
    Epochs,
    Model,
    Option,
    Threads,
    ValShare,
    Weights,
    Workers,
    default_threads,
)
from fleetfoot.cli.values import check_output
from fleetfoot.interrupts import exit_code
from fleetfoot.streams import echo, echo_json

if TYPE_CHECKING:
    from fleetfoot.data.dataset import Dataset
    from fleetfoot.data.scenes import SceneSet
    from fleetfoot.train.checkpoint import Checkpoint
    from fleetfoot.train.figures import Kind
    from fleetfoot.train.settings import Settings

SMALL: dict[str, Any] = {"width": 16, "depths": (1, 1, 2, 1), "head_width": 256}
"""Options of the default network for the digits: 0.1 M parameters."""
RUNS = "runs"
"""Folder of the runs without ``--output``."""
TASKS = ("classify", "detect", "segment", "hand")
DEFAULT_HEADS: dict[Kind, str] = {"detect": "onestage", "segment": "lraspp", "hand": "handmesh"}
"""Heads of the networks for each task, if none is named."""


class TrainCommand(TogetherCommand):
    """A command that takes the flags of timm's ``train.py`` beside its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        words = list(args)
        own = {
            word: not getattr(one, "is_flag", False)
            for one in self.params
            for word in (*one.opts, *one.secondary_opts)
            if word.startswith("-")
        }
        own |= dict.fromkeys(ctx.help_option_names, False)
        args, ctx.meta["timm"] = split_flags(args, own)
        rest = super().parse_args(ctx, args)
        ctx.meta["words"] = words
        return rest


def split_flags(args: Sequence[str], own: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """The words of a command line in two lists: the command's own, and timm's flags with their
    values.

    Args:
        own: the command's options; whether each takes a value.

    Raises:
        UnknownNameError: a flag is neither's.
    """
    if not any(word.startswith("-") and word.partition("=")[0] not in own for word in args):
        return list(args), []
    from fleetfoot.errors import UnknownNameError
    from fleetfoot.train.timm_flags import FLAGS, SHORT, WITHOUT, taken

    ours: list[str] = []
    theirs: list[str] = []
    words = list(args)
    while words:
        word = words.pop(0)
        flag = word.partition("=")[0]
        if word == "--":
            return [*ours, word, *words], theirs
        if not word.startswith("-") or word == "-" or flag in own:
            ours.append(word)
            if own.get(flag) and word == flag and words:
                ours.append(words.pop(0))
            continue
        long = SHORT.get(flag, flag)
        if long not in FLAGS and long not in WITHOUT:
            raise UnknownNameError.of("option", flag, [*own, *FLAGS])
        count = 0 if "=" in word else taken(long, words)
        theirs += [word, *words[:count]]
        del words[:count]
    return ours, theirs


def train(
    ctx: typer.Context,
    data: Annotated[
        str | None,
        typer.Argument(
            help="A folder of class folders, tar shards, or a CSV or JSONL file of paths and "
            "labels; for --task detect or segment COCO's, YOLO's or VOC's layout. 'fleetfoot data "
            "DATA' shows what it holds. Default: scikit-learn's digits; drawn hands for --task "
            "hand."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="What to train for: 'classify', 'detect', 'segment' or 'hand'. Default: what "
            "--model is for; 'classify' without it.",
            autocompletion=complete.one_of(*TASKS),
        ),
    ] = None,
    model: Model = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            help="Backbone of the network for --task; --model then names its head: 'onestage', "
            "'ssdlite', 'fcos', 'fasterrcnn', 'maskrcnn', 'lraspp', 'deeplabv3', 'semantic_fpn' or "
            "'handmesh'. Default: the one of the head's paper.",
            autocompletion=complete.networks,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="Settings to begin with: 'finetune', 'quick', 'cifar' or 'digits'; "
            "'finetune-detect', 'finetune-segment' or 'finetune-hand'; 'custom', the defaults; a "
            "network's name for its authors' recipe; or 'authors', that of --model. Default: "
            "'finetune', or that of the task; 'digits' for the digits.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="A setting, for example optim.lr=1e-3 or mix.mixup=0.2; repeatable. The settings "
            "are printed at the start, and docs/recipes.md explains them.",
        ),
    ] = None,
    epochs: Epochs = None,
    batch: Batch = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate, as it is.")] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="PIXELS",
            help="Height and width of the input: 256, or for a --task also 256x192 (height x "
            "width).",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of every random draw.")] = None,
    weights: Weights = None,
    accept_licence: AcceptLicence = False,
    option: Option = None,
    val_share: ValShare = None,
    on_bad_image: Annotated[
        str | None,
        typer.Option(
            help="For a picture that cannot be used: 'stop', or 'skip' to take the next one. "
            "Default: stop.",
            rich_help_panel=DATA,
        ),
    ] = None,
    workers: Workers = None,
    device: Device = None,
    threads: Threads = None,
    on_nan: Annotated[
        str | None,
        typer.Option(
            help="For a loss that is not finite: 'stop', or 'rollback' to go back to the last "
            "checkpoint and leave out the pictures. Default: stop.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder of the run. Default: {RUNS}/ with data, network and a number.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with the run in this folder, with its data, network and settings; options "
            "change them.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    processes: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes that share each batch. With --device cuda each has a GPU of its own. "
            "On several machines use torchrun or --on ray: docs/scale.md.",
            rich_help_panel=RUNNING,
        ),
    ] = 1,
    on: Annotated[
        str,
        typer.Option(
            help="Where the processes run: 'here', this machine; or 'ray', the Ray cluster of "
            "RAY_ADDRESS, whose machines share the run's folder and the data.",
            rich_help_panel=RUNNING,
        ),
    ] = "here",
    restarts: Annotated[
        int,
        typer.Option(
            min=0,
            help="How often the run starts again from its last checkpoint after a process died.",
            rich_help_panel=RUNNING,
        ),
    ] = 0,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard", help="Write TensorBoard's files too.", rich_help_panel=RUNNING
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON instead of a card.")
    ] = False,
) -> None:
    """Train a network on your pictures, or on a small built-in set.

    A run that was interrupted or killed goes on exactly where it was: --resume RUN. The flags of
    timm's train.py are taken too, for example --opt adamw --sched cosine -b 128.
    """
    if resume is not None and output is not None and resume != output:
        raise typer.BadParameter("--resume names the folder of the run; give no other --output")
    place, team = ctx.meta.get("place"), ctx.meta.get("team")
    if on not in ("here", "ray"):
        raise typer.BadParameter(f"--on takes 'here' or 'ray', not {on!r}")
    if on == "here" and place is None and (processes > 1 or restarts):
        kind = kind_of(task, model)
        name = network_of(kind, model, backbone)
        folder = resume or output or free_folder(data or built_in(kind), name)
        start_here(ctx.meta["words"], folder, processes=processes, restarts=restarts)
    with working("loading"):
        import torch

        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.train_page import write_page
        from fleetfoot.report.training import Progress, card, record, settings_text
        from fleetfoot.train.datasets import opened
        from fleetfoot.train.launch import marking
        from fleetfoot.train.loop import train as run_training
        from fleetfoot.train.place import goes_on
        from fleetfoot.train.recipes import EVERY
        from fleetfoot.train.settings import Settings, listed

    found = _resumed(resume, model) if resume is not None else None
    if found is None:
        kind = kind_of(task, model)
        name = network_of(kind, model, backbone)
        builtin = data is None
        preset = preset_of(recipe, name, builtin=builtin, task=kind)
        before = Settings(preset)
        small = builtin and model is None and kind == "classify"
        options: dict[str, Any] = dict(SMALL) if small else {}
    else:
        if recipe is not None:
            raise typer.BadParameter("--resume goes on with the run's recipe; change it by --set")
        before = Settings(found.training.recipe, found.training.run)
        preset = EVERY.get(before.recipe.name, before.recipe)
        kind = found.training.data.task
        if task not in (None, kind):
            raise typer.BadParameter(f"--resume goes on with a run for {kind}, not {task}")
        if backbone is not None:
            raise typer.BadParameter(
                "--resume goes on with the run's backbone; leave --backbone out"
            )
        name, options = model or found.model, {}
        if data is None and found.training.data.name != built_in(kind):
            data = found.training.data.name
    if device is None and found is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if threads is None and found is None and on == "here":
        threads = default_threads(
            data, model if kind == "classify" else name, processes=place.local_world if place else 1
        )
    side = side_of(size, kind, options)
    given = {
        "epochs": epochs, "batch": batch, "optim.lr": lr, "size": side, "seed": seed,
        "init.weights": "" if weights == "none" else weights, "val_share": val_share,
        "run.on_bad_image": on_bad_image, "run.workers": workers, "run.device": device,
        "run.threads": threads, "run.on_nan": on_nan,
    }  # fmt: skip
    world = processes if on == "ray" else place.world if place else 1
    settings = settings_of(before, ctx.meta["timm"], given, changes or [], processes=world)
    options |= dict(map(option_pair, option or ()))
    with working("reading the data set"):
        recipe_now = settings.recipe
        dataset = opened(kind, data, val_share=recipe_now.val_share, seed=recipe_now.seed)
    folder = agreed_folder(
        place, team, resume or output, Path(RUNS), free_folder(dataset.name, name)
    )
    check_output(folder, folder=True)
    if team is not None:
        team.check_run(folder, dataset, settings.run)

    out = console(stderr=True)
    with Progress(out, kind) as show:
        if place is None or place.is_first:
            tell_of(dataset, settings.recipe.size)
        echo(f"settings ({settings.recipe.name}):", err=True)
        echo(settings_text(listed(settings, before)), err=True)
        how: dict[str, Any] = {
            "options": options, "accept_licence": accept_licence, "tensorboard": tensorboard,
            "resume": "required" if resume else "if_any" if goes_on(place, folder) else "never",
        }  # fmt: skip
        if on == "ray":
            from fleetfoot.train.on_ray import job_of, train_on_ray

            job = job_of(name, data, settings, folder, **how)
            outcome = train_on_ray(job, processes=processes, restarts=restarts, on_event=show)
        else:
            outcome = run_training(
                name,
                dataset,
                settings.recipe,
                settings.run,
                folder,
                **how,
                on_event=show if place is None else marking(place, folder, show),
            )
    if place is not None and not place.is_first:
        raise typer.Exit(exit_code(outcome.interrupted) if outcome.interrupted else 0)
    write_page(outcome, dataset, settings, Settings(preset, before.run))
    if as_json:
        echo_json(record(outcome))
    else:
        console().print(card(outcome, data=data or ""), soft_wrap=True, crop=False)
    if outcome.interrupted:
        raise typer.Exit(exit_code(outcome.interrupted))


def kind_of(task: str | None, model: str | None) -> Kind:
    """The task of a run: the one named, or that of the network."""
    from fleetfoot.tasks.catalogue import HEADS, is_task

    own: Kind = "classify"
    if model is not None and is_task(model):
        own = HEADS[model.partition(":")[0]].task
    if task is None:
        return own
    if task not in TASKS:
        raise typer.BadParameter(f"--task takes {', '.join(TASKS)}, not {task!r}")
    return task  # type: ignore[return-value]  # it is one of them


def network_of(kind: Kind, model: str | None, backbone: str | None) -> str:
    """The network of a run: head and backbone for a task."""
    if kind == "classify":
        if backbone is not None:
            raise typer.BadParameter(
                "--backbone is for a --task; name the network that classifies by --model"
            )
        return model or MODEL
    from fleetfoot.tasks.catalogue import full_name, is_task

    name = model or DEFAULT_HEADS[kind]
    if not is_task(name):
        return name
    return full_name(name, backbone or (MODEL if model is None else None))


def built_in(kind: Kind) -> str:
    """Name of the data set if none is named."""
    from fleetfoot.train.datasets import BUILT_IN

    return BUILT_IN.get(kind, kind)


def side_of(size: str | None, kind: Kind, options: dict[str, Any]) -> int | None:
    """The setting ``size``. A height and a width that differ become an option of the network."""
    if size is None:
        return None
    from fleetfoot.network import parse_size

    sides = parse_size(size)
    if isinstance(sides, int):
        return sides
    if kind == "classify":
        raise typer.BadParameter(f"--size takes one number for classification, not {size}")
    options["input_size"] = sides
    return None


def tell_of(dataset: Dataset | SceneSet, size: int | None) -> None:
    """Says what a data set holds, and what a quick look at it finds, on standard error.

    Args:
        size: size for which the network is trained. Default: that of most networks.
    """
    from fleetfoot.data.concerns import concerns
    from fleetfoot.data.inspection import IMAGE_SIZE, inspect
    from fleetfoot.data.scenes import SceneSet

    echo(f"{dataset.name}: {dataset.layout}", err=True)
    counts = ", ".join(f"{len(split):,} {split.name}" for split in dataset.splits)
    classes = f"{len(dataset.classes):,} classes; " if dataset.classes else ""
    echo(f"{classes}pictures: {counts}", err=True)
    if isinstance(dataset, SceneSet):
        for note in dataset.notes:
            echo(f"note: {note}", err=True)
        return
    for one in concerns(inspect(dataset, size=size or IMAGE_SIZE, quick=True)):
        echo(f"{one.level}: {one.text}", err=True)


def preset_of(
    recipe: str | None, model: str | None, *, builtin: bool, task: Kind = "classify"
) -> Any:
    from dataclasses import replace

    from fleetfoot.train.recipes import CUSTOM, general_recipe, recipe_of
    from fleetfoot.train.recipes import recipe as named

    if recipe == "authors":
        return recipe_of(model or MODEL)
    if recipe == CUSTOM.name:
        return replace(CUSTOM, task=task)
    if recipe is None and builtin and task == "classify":
        return named("digits")
    return named(recipe or general_recipe(task))


def settings_of(
    before: Settings,
    timm: list[str],
    given: dict[str, Any],
    changes: list[str],
    *,
    processes: int = 1,
) -> Settings:
    """The settings after timm's flags, this command's options, and ``--set``, in this order.
    ``--batch-size`` of timm's is that of one of ``processes``."""
    from fleetfoot.train.settings import written
    from fleetfoot.train.timm_flags import from_timm_flags

    made = from_timm_flags(timm, before, processes=processes).settings if timm else before
    options = [
        f"{name}={value if isinstance(value, str) else written(value)}"
        for name, value in given.items()
        if value is not None
    ]
    if given["optim.lr"] is not None:
        options.append("optim.lr_batch=none")
    return made.changed([*options, *changes])


def _resumed(folder: Path, model: str | None) -> Checkpoint:
    """The last good checkpoint of a run."""
    from fleetfoot.errors import CheckpointError
    from fleetfoot.network import is_file
    from fleetfoot.train.folder import Folder

    good = Folder(folder).last_good(lambda text: None)  # the run itself will say it
    if good is None:
        raise CheckpointError(f"{folder} holds no run to resume: there is no checkpoint in it")
    if model is None and is_file(good[1].model):
        raise CheckpointError(
            f"the run trains {good[1].model}, a file of its author's, which runs only if you name "
            f"it: --resume {folder} --model {good[1].model!r}"
        )
    return good[1]


def free_folder(data: str, model: str) -> Path:
    """A folder in ``RUNS`` that does not exist, named for data and network."""
    from fleetfoot.cli.models import plan_stem

    stem = f"{plan_stem(Path(data).name or data)}-{plan_stem(model)}"
    number = 1
    while (path := Path(RUNS) / f"{stem}-{number}").exists():
        number += 1
    return path
