"""``fleetfoot sweep``: many short runs in search of better settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetfoot.cli.network import option_pair
from fleetfoot.cli.status import working
from fleetfoot.cli.train import SMALL, preset_of, settings_of
from fleetfoot.cli.training import (
    MODEL,
    RUNNING,
    AcceptLicence,
    Batch,
    Device,
    Epochs,
    Model,
    Option,
    Size,
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
    from fleetfoot.train.settings import Settings
    from fleetfoot.train.space import Axis
    from fleetfoot.train.sweep import SweepOutcome

SWEEPS = "sweeps"
"""Folder of the sweeps without ``--output``."""
SEARCHING = "The search"
"""Panel of the help."""


def sweep(
    data: Annotated[
        str | None,
        typer.Argument(
            help="The pictures, as 'fleetfoot train' takes them. Default: scikit-learn's digits."
        ),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            "--space",
            metavar="NAME=VALUES",
            help="A setting to vary: optim.lr=log:1e-4:1e-1, mix.mixup=uniform:0:0.8 or "
            "optim.name=choice:sgd,adamw; repeatable.",
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Runs in all.")] = 20,
    model: Model = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            "-r",
            help="Settings that all runs share, as 'fleetfoot train' takes them.",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting that all runs share; repeatable."
        ),
    ] = None,
    epochs: Epochs = None,
    batch: Batch = None,
    size: Size = None,
    weights: Weights = None,
    accept_licence: AcceptLicence = False,
    option: Option = None,
    val_share: ValShare = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            help="Seed of the search: the same sweep gives the same trials. The runs' own seed is "
            "changed by --set seed=N.",
            rich_help_panel=SEARCHING,
        ),
    ] = 0,
    prune_after: Annotated[
        int,
        typer.Option(
            min=0,
            help="Epochs after which a run ends early if it is below the median of the others; 0: "
            "none ends early.",
            rich_help_panel=SEARCHING,
        ),
    ] = 1,
    on: Annotated[
        str,
        typer.Option(
            help="Where the runs are made: 'here', one after the other; or 'ray', on the Ray "
            "cluster of RAY_ADDRESS, whose machines share the folder and the data.",
            rich_help_panel=RUNNING,
        ),
    ] = "here",
    parallel: Annotated[
        int,
        typer.Option(min=1, help="With --on ray: most runs at once.", rich_help_panel=RUNNING),
    ] = 4,
    workers: Workers = None,
    device: Device = None,
    threads: Threads = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help=f"Folder of the sweep. The same command again goes on with the sweep in it. "
            f"Default: {SWEEPS}/ with data and network.",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON instead of a card.")
    ] = False,
) -> None:
    """Search for better settings by many runs: values are drawn at random at first, then near good
    ones, and runs that lag behind end early.

    A sweep that was interrupted or killed goes on where it was, by the same command.
    """
    if on not in ("here", "ray"):
        raise typer.BadParameter(f"--on takes 'here' or 'ray', not {on!r}")
    with working("loading"):
        import torch

        from fleetfoot.cli.models import plan_stem
        from fleetfoot.data.layouts import open_dataset
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.sweep_page import write_page
        from fleetfoot.report.sweeps import SweepProgress, print_card, record
        from fleetfoot.train.settings import Settings
        from fleetfoot.train.space import axes
        from fleetfoot.train.sweep import sweep as search

    builtin = data is None
    if threads is None:
        threads = default_threads(data, model) if on == "here" else 1
    name = model or MODEL
    options: dict[str, Any] = dict(SMALL) if builtin and model is None else {}
    options |= dict(map(option_pair, option or ()))
    given = {
        "epochs": epochs, "batch": batch, "optim.lr": None, "size": size,
        "init.weights": "" if weights == "none" else weights, "val_share": val_share,
        "run.workers": workers, "run.threads": threads,
        "run.device": device or ("cuda" if torch.cuda.is_available() else "cpu"),
    }  # fmt: skip
    before = Settings(preset_of(recipe, model, builtin=builtin))
    settings = settings_of(before, [], given, changes or [])
    varied = axes(space or [], settings)
    stem = f"{plan_stem(Path(data or 'digits').name or 'data')}-{plan_stem(name)}"
    folder = output or Path(SWEEPS) / stem
    check_output(folder, folder=True)
    with working("reading the data set"):
        dataset = open_dataset(data, val_share=settings.recipe.val_share, seed=settings.recipe.seed)
    with SweepProgress(console(stderr=True)) as show:
        if on == "ray":
            outcome = _on_ray(
                name, data, dataset, settings, varied, folder, options,
                trials=trials, seed=seed, prune_after=prune_after or None, parallel=parallel,
                accept_licence=accept_licence, on_event=show,
            )  # fmt: skip
        else:
            outcome = search(
                name,
                dataset,
                settings,
                varied,
                folder,
                trials=trials,
                seed=seed,
                prune_after=prune_after or None,
                options=options,
                accept_licence=accept_licence,
                on_event=show,
            )
    command = _command(data, model, recipe, given, changes or [], option or [])
    write_page(outcome, dataset, settings, varied, command)
    if as_json:
        echo_json(record(outcome))
    else:
        print_card(console(), outcome, pictures=len(dataset.val or ()), command=command)
        if outcome.best is None and not outcome.interrupted:
            echo("no trial came to its end; the reasons stand in summary.csv", err=True)
    if outcome.interrupted:
        raise typer.Exit(exit_code(outcome.interrupted))


def _on_ray(
    name: str,
    data: str | None,
    dataset: Dataset,
    settings: Settings,
    varied: tuple[Axis, ...],
    folder: Path,
    options: dict[str, Any],
    *,
    trials: int,
    seed: int,
    prune_after: int | None,
    parallel: int,
    accept_licence: bool,
    on_event: Callable[[Any], None],
) -> SweepOutcome:
    from fleetfoot.train.on_ray import job_of
    from fleetfoot.train.sweep import searched
    from fleetfoot.train.sweep_on_ray import sweep_on_ray

    search = searched(name, dataset, settings, varied, seed, prune_after, options)
    job = job_of(name, data, settings, folder, options=options, accept_licence=accept_licence)
    return sweep_on_ray(job, search, varied, trials=trials, parallel=parallel, on_event=on_event)


def _command(
    data: str | None,
    model: str | None,
    recipe: str | None,
    given: dict[str, Any],
    changes: list[str],
    options: list[str],
) -> str:
    """The command of one run with the settings that all runs share."""
    import shlex

    words = ["fleetfoot", "train", *([data] if data else [])]
    words += ["--model", model] if model else []
    words += ["--recipe", recipe] if recipe else []
    for option, name in (
        ("--epochs", "epochs"), ("--batch", "batch"), ("--size", "size"),
        ("--weights", "init.weights"), ("--val-share", "val_share"),
    ):  # fmt: skip
        if given[name] is not None:
            words += [option, str(given[name]) or "none"]
    words += [word for one in options for word in ("--option", one)]
    words += [word for change in changes for word in ("--set", change)]
    return shlex.join(words)
