"""``fleetfoot eval``: how right a network is on labelled pictures."""

from __future__ import annotations

import warnings
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetfoot.cli import complete
from fleetfoot.cli.eval_scenes import chosen, evaluate_scenes, stated_task
from fleetfoot.cli.models import plan_stem
from fleetfoot.cli.network import (
    PANEL,
    AcceptLicence,
    Channels,
    Key,
    Option,
    Pretrained,
    Size,
    Weights,
    resolved,
)
from fleetfoot.cli.pixels import (
    ChannelOrder,
    CropPct,
    Interpolation,
    Mean,
    PixelScale,
    Std,
    overrides,
)
from fleetfoot.cli.status import working
from fleetfoot.cli.values import check_output, split_names
from fleetfoot.interrupts import exit_code, name_of
from fleetfoot.streams import echo, echo_json

if TYPE_CHECKING:
    from fleetfoot.data.dataset import Dataset, Split
    from fleetfoot.evaluate.matching import Matching
    from fleetfoot.evaluate.subject import Subject, TrainedOn

ENGINE, CLASSES = "The engine", "The classes"
FORMS, AMONG, ON_BAD = ("folded", "training"), ("network", "data"), ("stop", "skip")
TASKS = ("classify", "detect", "segment", "hand")


def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            help="A name, for example 'fastvit_t8' or 'timm:resnet18'; your own as "
            "'path.py:factory'; a checkpoint or file of weights; a compiled plan, or the folder of "
            "an artifact.",
            autocompletion=complete.networks,
        ),
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            help="Labelled pictures: a folder of class folders, tar shards, or a CSV or JSONL "
            "file; for another task, a COCO, YOLO or VOC set, or label maps. Default: what a "
            "checkpoint was trained on; otherwise scikit-learn's digits, or drawn hands."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="What the network is for: 'detect', 'segment', 'hand' or 'classify'. Default: "
            "what its name or checkpoint says, otherwise classify.",
            autocompletion=complete.one_of(*TASKS),
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Part of the data: 'test', 'val' or 'train'. Default: the first of them that the "
            "data has.",
            autocompletion=complete.one_of("test", "val", "train"),
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the results. Default: eval-results/TIME-NETWORK."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON record for each engine, not the card.")
    ] = False,
    as_csv: Annotated[
        Path | None,
        typer.Option(
            "--csv",
            metavar="FILE",
            help="Table with timm's columns, to which a line for each engine is added.",
        ),
    ] = None,
    on_bad_image: Annotated[
        str,
        typer.Option(
            help="What to do with a picture that cannot be read: 'stop', or 'skip', which leaves "
            "it out of all figures and names it.",
            autocompletion=complete.one_of(*ON_BAD),
        ),
    ] = "stop",
    form: Annotated[
        str,
        typer.Option(
            help="Form of the network: 'folded', or 'training', with its batch norms and branches.",
            autocompletion=complete.one_of(*FORMS),
            rich_help_panel=ENGINE,
        ),
    ] = "folded",
    engine: Annotated[
        str | None,
        typer.Option(
            help="Engine to run, several with commas, or 'all', shown side by side. Default: "
            "native if it can be used here, otherwise eager; on 'cuda' eager.",
            autocompletion=complete.engines,
            rich_help_panel=ENGINE,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Number of threads. Default: all usable cores.", rich_help_panel=ENGINE
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Batch size, in pictures. Default: 8; 1 for a task other than classify.",
            rich_help_panel=ENGINE,
        ),
    ] = None,
    precision: Annotated[
        str,
        typer.Option(
            help="Precision of the computation: 'float32' or 'bfloat16'.",
            autocompletion=complete.one_of("float32", "bfloat16"),
            rich_help_panel=ENGINE,
        ),
    ] = "float32",
    device: Annotated[
        str,
        typer.Option(
            help="Device to run on: 'cpu' or 'cuda'.",
            autocompletion=complete.one_of("cpu", "cuda"),
            rich_help_panel=ENGINE,
        ),
    ] = "cpu",
    classes: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Maps the data's classes to the network's: CSV or a JSON object, or the network's "
            "classes in the order of the data's. Default: by name, WordNet id or number.",
            rich_help_panel=CLASSES,
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Names of the network's outputs, one a line, or JSON. Default: the checkpoint's, "
            "or ImageNet's for 1,000 outputs.",
            rich_help_panel=CLASSES,
        ),
    ] = None,
    among: Annotated[
        str,
        typer.Option(
            help="Classes that may be guessed: all of the 'network', or only those of the 'data'.",
            autocompletion=complete.one_of(*AMONG),
            rich_help_panel=CLASSES,
        ),
    ] = "network",
    real_labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Several right answers for each picture, as JSON, for example real.json of Beyer "
            "et al.; top-1 by these is reported too.",
            rich_help_panel=CLASSES,
        ),
    ] = None,
    size: Size = None,
    channels: Channels = None,
    weights: Weights = None,
    key: Key = None,
    pretrained: Pretrained = None,
    accept_licence: AcceptLicence = False,
    num_classes: Annotated[
        int | None,
        typer.Option(help="Number of classes. Default: the network's own.", rich_help_panel=PANEL),
    ] = None,
    option: Option = None,
    crop_pct: CropPct = None,
    interpolation: Interpolation = None,
    mean: Mean = None,
    std: Std = None,
    channel_order: ChannelOrder = None,
    pixel_scale: PixelScale = None,
) -> None:
    """Judge a network on labelled pictures: accuracy, classes, confusions, calibration; or boxes,
    masks, label maps and hands by the field's own figures.

    Writes evaluation.json, pictures.csv (what is said of each picture) and a page into a folder;
    with several engines, a folder for each.
    """
    for name, value, choices in (
        ("--form", form, FORMS), ("--among", among, AMONG),
        ("--on-bad-image", on_bad_image, ON_BAD), ("--task", task, TASKS),
    ):  # fmt: skip
        if value is not None and value not in choices:
            raise typer.BadParameter(f"{name} is {' or '.join(choices)}, not {value!r}")
    folder = _folder(output, model)
    check_output(as_csv, option="--csv")
    with working(f"loading {model}"):
        from fleetfoot.cores import usable_cores
        from fleetfoot.evaluate.classifier import evaluate as judge
        from fleetfoot.evaluate.matching import match, read_real_labels
        from fleetfoot.evaluate.record import save
        from fleetfoot.evaluate.subject import (
            TrainedOn,
            is_compiled,
            labels_of,
            of_compiled,
            of_network,
        )
        from fleetfoot.files import filling, write_text
        from fleetfoot.network import is_file, is_weights
        from fleetfoot.report import eval_page
        from fleetfoot.report.evaluations import print_evaluations, write_timm_csv
        from fleetfoot.report.kit.terminal import console
        from fleetfoot.report.live import Counter

    # Pillow warns of odd metadata on stderr; a picture's faults are reported in its own line
    warnings.filterwarnings("ignore", module=r"PIL\.")
    compiled = is_compiled(model)
    pixels = overrides(
        size=size,
        crop_pct=crop_pct,
        interpolation=interpolation,
        mean=mean,
        std=std,
        channel_order=channel_order,
        pixel_scale=pixel_scale,
    )
    threads = threads or usable_cores()
    file = weights or (Path(model) if is_weights(model) and not compiled else None)
    known = TrainedOn.of(file) if file is not None else None
    kind = task or stated_task(model, file)
    if kind != "classify":
        only = {"--csv": as_csv, "--real-labels": real_labels, "--among": among != "network"}
        if odd := [name for name, value in only.items() if value]:
            raise typer.BadParameter(f"{odd[0]} is for --task classify, and this is for {kind}")
        if compiled:
            raise typer.BadParameter(
                f"{model} is compiled, which holds no decoding for --task {kind}; name the network "
                "or its checkpoint, and --engine"
            )
        extra = [] if num_classes is None else [f"num_classes={num_classes}"]
        evaluate_scenes(
            model,
            data,
            task=kind,  # type: ignore[arg-type]
            split=split,
            folder=folder,
            as_json=as_json,
            on_bad=on_bad_image,  # type: ignore[arg-type]
            known=known,
            is_random=file is None and not is_file(model),
            classes=classes,
            labels=labels,
            pixels=pixels,
            network=lambda: resolved(
                model,
                size=size,
                channels=channels,
                weights=weights,
                key=key,
                pretrained=pretrained,
                accept_licence=accept_licence,
                option=[*(option or ()), *extra],
            ),
            form=form,  # type: ignore[arg-type]
            names=_engines(engine, device),
            threads=threads,
            precision=precision,
            device=device,
            batch=batch or 1,
        )
        return
    with working("opening the data"):
        dataset, part = _data(data, split, known)

    def matched_with(name: str, names: Any) -> Matching:
        return match(
            dataset.name,
            dataset.classes,
            name,
            names,
            file=classes,
            among=among,  # type: ignore[arg-type]
        )

    with working(f"loading {model}") as say:
        subject: Subject
        if compiled:
            given = {
                "--engine": engine, "--weights": weights, "--key": key, "--option": option,
                "--device": device != "cpu", "--precision": precision != "float32",
            }  # fmt: skip
            if odd := [name for name, value in given.items() if value]:
                raise typer.BadParameter(f"{model} is compiled; it takes no {odd[0]}")
            subject = of_compiled(
                Path(model), threads=threads, batch=batch or 8, labels=labels, overrides=pixels
            )
            matched = matched_with(subject.name, subject.labels)
        else:
            extra = [] if num_classes is None else [f"num_classes={num_classes}"]
            network = resolved(
                model,
                size=size,
                channels=channels,
                weights=weights,
                key=key,
                pretrained=pretrained,
                by_default=True,
                accept_licence=accept_licence,
                option=[*(option or ()), *extra],
            )
            network.image("eval")
            names = labels_of(network, labels)
            matched = matched_with(model, names)
            subject = of_network(
                network,
                form=form,  # type: ignore[arg-type]
                names=_engines(engine, device),
                threads=threads,
                precision=precision,
                device=device,
                batch=batch or 8,
                labels=names,
                overrides=pixels,
                on_build=lambda name: say(f"building {name} for {model}"),
            )
    if pretrained is False and not (weights or is_file(model) or is_weights(model)):
        echo("the weights are random, so the figures mean nothing", err=True)
    if known is not None and known.train == part.fingerprint:
        echo("the network was trained on these pictures", err=True)
    real = None if real_labels is None else read_real_labels(real_labels, subject.labels)
    done = 0
    with subject:
        try:
            with Counter(console(stderr=True), f"{len(part):,} pictures") as count:

                def progress(so_far: int) -> None:
                    nonlocal done
                    done = so_far
                    count(done, len(part))

                found = judge(
                    subject,
                    dataset.name,
                    part,
                    matched,
                    real=real,
                    on_bad=on_bad_image,  # type: ignore[arg-type]
                    on_progress=progress,
                )
        except KeyboardInterrupt as stop:
            signal = name_of(stop)
            echo(
                f"ended by {signal} after {done:,} of {len(part):,} pictures; nothing was written",
                err=True,
            )
            raise typer.Exit(exit_code(signal)) from None
    with working("writing the page"), filling(folder) as draft:
        for one in found:
            save(one, draft if len(found) == 1 else draft / one.record.engine)
        write_text(draft / "index.html", eval_page.html(found, part, subject.failures))
    if as_csv is not None:
        write_timm_csv(as_csv, found)
    if as_json:
        for one in found:
            echo_json(asdict(one.record))
    else:
        print_evaluations(console(), found, subject.failures)
    echo(f"record, pictures and page: {folder / 'index.html'}", err=True)


def _folder(output: Path | None, model: str) -> Path:
    if output is None:
        stamp = datetime.now(timezone.utc)
        return Path("eval-results") / f"{stamp:%Y%m%dT%H%M%SZ}-{plan_stem(model)}"
    check_output(output, folder=True)
    if output.exists() and any(output.iterdir()):
        raise typer.BadParameter(f"--output {output} is not empty; name a new folder")
    return output


def _engines(text: str | None, device: str) -> tuple[str, ...]:
    from fleetfoot.engines import available
    from fleetfoot.evaluate.subject import all_engines

    if text is None:
        native = device == "cpu" and available()["native"] is None
        return ("native",) if native else ("eager",)
    names = tuple(dict.fromkeys(split_names(text)))
    if "nothing" in names:
        raise typer.BadParameter("the engine 'nothing' computes nothing, so it cannot classify")
    return all_engines() if names == ("all",) else names


def _data(where: str | None, split: str | None, known: TrainedOn | None) -> tuple[Dataset, Split]:
    """The data and its part. Pictures are split off for validation only if ``val`` is asked for, or
    if a checkpoint's training split them off."""
    from fleetfoot.data.layouts import open_dataset
    from fleetfoot.data.layouts.digits import NAME as DIGITS

    if where is None and known is not None:
        where = None if known.data == DIGITS else known.data
    if known is not None:
        dataset = open_dataset(where, val_share=known.val_share, seed=known.seed)
    else:
        whole = where is not None and split != "val"
        dataset = open_dataset(where, val_share=0 if whole else None)
    return dataset, chosen(dataset, split)
