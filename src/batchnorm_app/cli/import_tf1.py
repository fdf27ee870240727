"""`batchnorm import-tf1`: lists a TensorFlow 1 checkpoint or converts it to a Keras model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from batchnorm_app.choices import CLASSES, CLASSIFIERS, DEPTH
from batchnorm_app.cli.backend import choose_backend
from batchnorm_app.cli.errors import report_errors
from batchnorm_app.cli.import_options import check_image_shape, check_model, check_prefix
from batchnorm_app.cli.options import Backend, Normalization, integer, is_given, path_option
from batchnorm_app.console import print_table, say

# Options that describe a model to build, and not one in a file.
_BUILD_OPTIONS = ("depth", "classes", "image_shape", "normalization")
_SHAPES_HINT = "\n--depth, --classes and --image-shape build a model of other shapes."


def import_tf1(
    context: typer.Context,
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Prefix of a checkpoint, such as folder/model.ckpt-6; or one of its files; or a "
            "folder, for its latest checkpoint.",
            metavar="CHECKPOINT",
            callback=check_prefix,
        ),
    ],
    show: Annotated[
        bool,
        typer.Option("--list", help="List the variables of the checkpoint without loading them."),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            help=f"Model to load into: {', '.join(CLASSIFIERS)}, or a Keras model, FILE.keras.",
            metavar="MODEL",
            callback=check_model,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        path_option(
            "File to write the model to; default: write nothing.",
            metavar="FILE.keras",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file at --output.")
    ] = False,
    names: Annotated[
        Path | None,
        path_option(
            "JSON object that maps layers or variables of the model to scopes or variables of "
            "the checkpoint, for those that are not matched automatically; null leaves a layer "
            "unchanged.",
            metavar="FILE.json",
        ),
    ] = None,
    shadows: Annotated[
        bool,
        typer.Option(
            "--shadows", help="Load the moving averages of the variables instead of their values."
        ),
    ] = False,
    depth: Annotated[int, integer("Number of layers with weights, for resnet.", DEPTH)] = 20,
    classes: Annotated[int, integer("Number of classes.", CLASSES)] = 10,
    image_shape: Annotated[
        str | None,
        typer.Option(
            help="Height, width and channels of images; default: 28,28,1 for lenet, 32,32,3 for "
            "resnet.",
            metavar="H,W,C",
            callback=check_image_shape,
        ),
    ] = None,
    normalization: Normalization = "ours",
    backend: Backend = None,
) -> None:
    """Load a TensorFlow 1 checkpoint into a Keras model, or list its variables."""
    build = [name for name in _BUILD_OPTIONS if is_given(context, name)]
    if show and (model or output or names or build):
        raise typer.BadParameter("--list shows a checkpoint, and takes no options of a model.")
    if not show and model is None:
        raise typer.BadParameter("--model names a model to load into; --list lists the variables.")
    if model in CLASSIFIERS and "depth" in build and model != "resnet":
        raise typer.BadParameter("--depth is for --model resnet alone.")
    if model not in (None, *CLASSIFIERS) and build:
        option = build[0].replace("_", "-")
        raise typer.BadParameter(f"--{option} is for lenet and resnet, and cannot change {model}.")
    with report_errors():
        choose_backend(backend, None)
        if show:
            _list(checkpoint)
            return
        _check_output(output, overwrite)
        sizes = None if image_shape is None else tuple(map(int, image_shape.split(",")))
        built = _build(str(model), depth, classes, sizes, normalization)
        hint = _SHAPES_HINT if model in CLASSIFIERS else ""
        _load(checkpoint, built, _read_names(names), shadows, hint)
        _write(built, output)


def _list(checkpoint: str) -> None:
    from batchnorm.contrib.checkpoint.saver_file import open_checkpoint
    from batchnorm.contrib.checkpoint.variable_kinds import kinds
    from batchnorm_app.errors import UserError

    try:
        file = open_checkpoint(checkpoint)
    except ValueError as error:
        raise UserError(str(error)) from error
    rows = []
    for name, kind in kinds(file.entries).items():
        role = kind.description + (f" ({kind.owner})" if kind.owner else "")
        rows.append((name, file.entries[name].shape, file.entries[name].dtype, role))
    print_table(file.prefix, ("variable", "shape", "type", "what it is"), rows, bare=True)


def _check_output(output: Path | None, overwrite: bool) -> None:
    """Raises if the output cannot be written, before anything slow is done."""
    from batchnorm_app.errors import UserError

    if output is None:
        return
    if output.suffix != ".keras":
        raise UserError(f"{output} is not a model's name: it must end in .keras.")
    if output.is_dir():
        raise UserError(f"{output} is a folder: name a file with --output.")
    if output.exists() and not overwrite:
        raise UserError(f"{output} exists: --overwrite replaces it, --output names another file.")
    if not output.resolve().parent.is_dir():
        raise UserError(f"{output} cannot be written: {output.resolve().parent} is not a folder.")


def _build(
    model: str,
    depth: int,
    classes: int,
    image_shape: tuple[int, ...] | None,
    normalization: str,
) -> Any:
    from batchnorm_app.errors import UserError
    from batchnorm_app.runs.keras_file import load_model
    from batchnorm_app.train.normalization import normalization as normalization_layer

    if model not in CLASSIFIERS:
        return load_model(Path(model), "name an undamaged file of Keras with --model.")
    options: dict[str, Any] = {
        "classes": classes,
        "normalization": normalization_layer(normalization),
    }
    if image_shape is not None:
        options["image_shape"] = image_shape
    try:
        if model == "resnet":
            from batchnorm.models.resnet import resnet

            return resnet(depth=depth, **options)
        from batchnorm.models.lenet import lenet

        return lenet(**options)
    except ValueError as error:
        raise UserError(f"{model} cannot be built: {error}") from error


def _read_names(path: Path | None) -> dict[str, str | None] | None:
    from batchnorm_app.errors import UserError
    from batchnorm_app.files import read_json

    if path is None:
        return None
    expected = 'expected a dictionary from names to names or null, such as {"conv1": "net/conv1"}.'
    names = read_json(path, expected)
    for key, name in names.items():
        if name is not None and not isinstance(name, str):
            raise UserError(f"{path} has {json.dumps(name)[:60]} for {json.dumps(key)}: {expected}")
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
    from batchnorm_app.errors import UserError

    try:
        report = load_checkpoint(checkpoint, model, names, shadows=shadows)
    except CheckpointMismatch as error:
        raise UserError(_in_command(error.message(_in_json)) + hint) from error
    except ValueError as error:
        raise UserError(_in_command(str(error))) from error
    title = f"{len(report.loaded)} loaded from {report.prefix}"
    rows = [
        (item.variable, item.shape, item.checkpoint, "; ".join(filter(None, (item.how, item.note))))
        for item in report.loaded
    ]
    print_table(title, ("model", "shape", "checkpoint", "found by"), rows)
    if report.left_over:
        title = f"{len(report.left_over)} left over"
        unused = [(item.checkpoint, item.shape, _in_command(item.why)) for item in report.left_over]
        print_table(title, ("checkpoint", "shape", "why"), unused)
    for variable in report.kept:
        say(f"Unchanged: {variable}")


def _write(model: Any, output: Path | None) -> None:
    from batchnorm_app.files import atomic

    if output is None:
        say("Nothing was written: --output names a file for the model.")
        return
    with atomic(output) as temporary:
        model.save(temporary)
    say(f"Written: {output}")


def _in_json(names: Mapping[str, str | None]) -> str:
    """Returns the names that solve a mismatch, as the content of the file for --names."""
    leaves = "\nnull leaves a layer unchanged." if None in names.values() else ""
    return f"{json.dumps(dict(names))}\nWrite them to a file, and name it with --names.{leaves}"


def _in_command(text: str) -> str:
    """Returns a text about `load_checkpoint`, with the argument replaced by the option."""
    return text.replace("shadows=True", "--shadows")
