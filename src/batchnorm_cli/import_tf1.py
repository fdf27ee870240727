"""`batchnorm import-tf1`: a checkpoint of TensorFlow 1, shown or made a Keras model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from batchnorm_cli.backend import choose_backend
from batchnorm_cli.console import print_table, say
from batchnorm_cli.errors import errors_in_words
from batchnorm_cli.import_options import (
    DEEPEST,
    MODELS,
    MOST_CLASSES,
    image_shape_option,
    model_option,
    not_empty,
)
from batchnorm_cli.options import Backend, Normalization, path_option

# What describes a model that is made, and says nothing about one that is read.
_OF_MADE = ("depth", "classes", "image_shape", "normalization")
_OTHERWISE = "\n--depth, --classes and --image-shape make a model of other shapes."


def import_tf1(
    context: typer.Context,
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="The prefix of a checkpoint, as in folder/model.ckpt-6; one of its files; or its "
            "folder, for the latest one.",
            metavar="CHECKPOINT",
            callback=not_empty,
        ),
    ],
    show: Annotated[
        bool, typer.Option("--list", help="Show what is in the checkpoint, and do nothing else.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help=f"What to load it into: {', '.join(MODELS)}, or a Keras model, FILE.keras.",
            metavar="MODEL",
            callback=model_option,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        path_option(
            "The file to write the model to; without it nothing is written.",
            metavar="FILE.keras",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output.")] = False,
    names: Annotated[
        Path | None,
        path_option(
            "A dictionary from layers or variables of the model to scopes or variables of the "
            "checkpoint, for those that are not found by themselves; null leaves a layer as it is.",
            metavar="FILE.json",
        ),
    ] = None,
    shadows: Annotated[
        bool,
        typer.Option("--shadows", help="Load moving averages of variables in their place."),
    ] = False,
    depth: Annotated[
        int, typer.Option(help="Layers with weights of a resnet.", min=1, max=DEEPEST)
    ] = 20,
    classes: Annotated[
        int, typer.Option(help="How many the model tells apart.", min=1, max=MOST_CLASSES)
    ] = 10,
    image_shape: Annotated[
        str | None,
        typer.Option(
            help="Height, width and channels; default: 28,28,1 for lenet, 32,32,3 for resnet.",
            metavar="H,W,C",
            callback=image_shape_option,
        ),
    ] = None,
    normalization: Normalization = "ours",
    backend: Backend = None,
) -> None:
    """Load a checkpoint of TensorFlow 1 into a Keras model, or show what is in it."""
    given = [name for name in _OF_MADE if _is_given(context, name)]
    if show and (model or output or names or given):
        raise typer.BadParameter("--list shows a checkpoint, and takes no options of a model.")
    if not show and model is None:
        raise typer.BadParameter("--model says what to load it into; --list shows what is in it.")
    if model in MODELS and "depth" in given and model != "resnet":
        raise typer.BadParameter("--depth is for --model resnet alone.")
    if model not in (None, *MODELS) and given:
        option = given[0].replace("_", "-")
        raise typer.BadParameter(f"--{option} describes lenet and resnet; {model} is as it is.")
    with errors_in_words():
        choose_backend(backend, None)
        if show:
            _list(checkpoint)
            return
        _check(output, overwrite)
        sizes = None if image_shape is None else tuple(map(int, image_shape.split(",")))
        made = _made(str(model), depth, classes, sizes, normalization)
        _load(checkpoint, made, _read_names(names), shadows, _OTHERWISE if model in MODELS else "")
        _write(made, output)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _list(checkpoint: str) -> None:
    from batchnorm.contrib.checkpoint.kinds import kinds
    from batchnorm.contrib.checkpoint.saver_file import open_checkpoint
    from batchnorm.train.run import RunError

    try:
        file = open_checkpoint(checkpoint)
    except ValueError as error:
        raise RunError(str(error)) from error
    rows = []
    for name, kind in kinds(file.entries).items():
        role = kind.what + (f" ({kind.owner})" if kind.owner else "")
        rows.append((name, file.entries[name].shape, file.entries[name].dtype, role))
    print_table(file.prefix, ("variable", "shape", "type", "what it is"), rows, bare=True)


def _check(output: Path | None, overwrite: bool) -> None:
    """Refuses an output that cannot be written, before anything slow is done."""
    from batchnorm.train.run import RunError

    if output is None:
        return
    if output.suffix != ".keras":
        raise RunError(f"{output} is no model's name: it must end in .keras.")
    if output.is_dir():
        raise RunError(f"{output} is a folder: name a file with --output.")
    if output.exists() and not overwrite:
        raise RunError(f"{output} exists: --overwrite replaces it, --output names another file.")
    if not output.resolve().parent.is_dir():
        raise RunError(f"{output} cannot be written: {output.resolve().parent} is no folder.")


def _made(
    model: str,
    depth: int,
    classes: int,
    image_shape: tuple[int, ...] | None,
    normalization: str,
) -> Any:
    from batchnorm.train.keras_file import load_model
    from batchnorm.train.normalization import normalization as asked
    from batchnorm.train.run import RunError

    if model not in MODELS:
        return load_model(Path(model), "name a whole file that Keras has written with --model.")
    options: dict[str, Any] = {"classes": classes, "normalization": asked(normalization)}
    if image_shape is not None:
        options["image_shape"] = image_shape
    try:
        if model == "resnet":
            from batchnorm.models.resnet import resnet

            return resnet(depth=depth, **options)
        from batchnorm.models.lenet import lenet

        return lenet(**options)
    except ValueError as error:
        raise RunError(f"{model} cannot be made so: {error}") from error


def _read_names(path: Path | None) -> dict[str, str | None] | None:
    from batchnorm.train.files import read_json
    from batchnorm.train.run import RunError

    if path is None:
        return None
    expected = 'expected a dictionary from names to names or null, such as {"conv1": "net/conv1"}.'
    names = read_json(path, expected)
    for key, name in names.items():
        if name is not None and not isinstance(name, str):
            raise RunError(f"{path} has {json.dumps(name)[:60]} for {json.dumps(key)}: {expected}")
    return names


def _load(
    checkpoint: str,
    model: Any,
    names: dict[str, str | None] | None,
    shadows: bool,
    hint: str,
) -> None:
    from batchnorm.contrib.checkpoint.mismatch import CheckpointMismatch
    from batchnorm.contrib.load_checkpoint import load_checkpoint
    from batchnorm.train.run import RunError

    try:
        report = load_checkpoint(checkpoint, model, names, shadows=shadows)
    except CheckpointMismatch as error:
        raise RunError(_in_command(error.message(_in_json)) + hint) from error
    except ValueError as error:
        raise RunError(_in_command(str(error))) from error
    title = f"{len(report.loaded)} loaded from {report.prefix}"
    rows = [
        (each.variable, each.shape, each.checkpoint, "; ".join(filter(None, (each.how, each.note))))
        for each in report.loaded
    ]
    print_table(title, ("model", "shape", "checkpoint", "found by"), rows)
    if report.left_over:
        title = f"{len(report.left_over)} left over"
        unused = [(each.checkpoint, each.shape, _in_command(each.why)) for each in report.left_over]
        print_table(title, ("checkpoint", "shape", "why"), unused)
    for variable in report.kept:
        say(f"Kept as it was: {variable}")


def _write(model: Any, output: Path | None) -> None:
    from batchnorm.train.run import atomic

    if output is None:
        say("Nothing was written: --output names a file for the model.")
        return
    with atomic(output) as temporary:
        model.save(temporary)
    say(f"Written: {output}")


def _in_json(names: Mapping[str, str | None]) -> str:
    """The names that solve a mismatch, as the content of the file that --names takes."""
    leaves = "\nnull leaves what the model has." if None in names.values() else ""
    return f"{json.dumps(dict(names))}\nWrite them to a file, and name it with --names.{leaves}"


def _in_command(text: str) -> str:
    """A text about `load_checkpoint`, with the option in the place of the argument."""
    return text.replace("shadows=True", "--shadows")
