"""`batchnorm import-tf1`: a checkpoint of TensorFlow 1, shown or made a Keras model."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batchnorm_cli.backend import choose_backend
from batchnorm_cli.errors import errors_in_words
from batchnorm_cli.options import Backend, Normalization, one_of

MODELS = ("lenet", "resnet")
# What describes a model that is made, and says nothing about one that is read.
_OF_MADE = ("depth", "classes", "image_shape", "normalization")


def _model(value: str | None) -> str | None:
    if value is None or value.endswith(".keras"):
        return value
    return one_of((*MODELS, "FILE.keras"))(value)


def _sizes(value: str | None) -> str | None:
    sizes = [] if value is None else value.split(",")
    if value is not None and (len(sizes) != 3 or not all(_positive(size) for size in sizes)):
        raise typer.BadParameter(
            f"{value!r} is no shape of an image; expected H,W,C, whole numbers from 1, as in "
            "28,28,1."
        )
    return value


def _positive(text: str) -> bool:
    return text.strip().isdecimal() and int(text) > 0


def import_tf1(
    context: typer.Context,
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="The prefix of a checkpoint, as in folder/model.ckpt-6; one of its files; or its "
            "folder, for the latest one.",
            metavar="CHECKPOINT",
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
            callback=_model,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file to write the model to; without it nothing is written.",
            metavar="FILE.keras",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --output.")] = False,
    names: Annotated[
        Path | None,
        typer.Option(
            help="A dictionary from layers or variables of the model to scopes or variables of the "
            "checkpoint, for those that are not found by themselves; null leaves a layer as it is.",
            metavar="FILE.json",
        ),
    ] = None,
    shadows: Annotated[
        bool,
        typer.Option("--shadows", help="Load moving averages of variables in their place."),
    ] = False,
    depth: Annotated[int, typer.Option(help="Layers with weights of a resnet.")] = 20,
    classes: Annotated[int, typer.Option(help="How many the model tells apart.", min=1)] = 10,
    image_shape: Annotated[
        str | None,
        typer.Option(
            help="Height, width and channels; default: 28,28,1 for lenet, 32,32,3 for resnet.",
            metavar="H,W,C",
            callback=_sizes,
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
            _list(checkpoint, Console())
            return
        _check(output, overwrite)
        sizes = None if image_shape is None else tuple(map(int, image_shape.split(",")))
        made = _made(str(model), depth, classes, sizes, normalization)
        _load(checkpoint, made, _read_names(names), shadows, Console())
        _write(made, output, Console())


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _list(checkpoint: str, console: Console) -> None:
    from batchnorm.contrib.checkpoint.kinds import kinds
    from batchnorm.contrib.checkpoint.saver_file import open_checkpoint
    from batchnorm.train.run import RunError

    try:
        file = open_checkpoint(checkpoint)
    except ValueError as error:
        raise RunError(str(error)) from error
    table = _table(file.prefix, "variable", "shape", "type", "what it is")
    for name, kind in kinds(file.entries).items():
        entry = file.entries[name]
        what = kind.what + (f" ({kind.owner})" if kind.owner else "")
        _add(table, name, entry.shape, entry.dtype, what)
    console.print(table)


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
    from batchnorm.train import trained
    from batchnorm.train.normalization import normalization as asked
    from batchnorm.train.run import RunError

    if model not in MODELS:
        return trained.read(Path(model))
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
    from batchnorm.train.run import RunError

    if path is None:
        return None
    mend = 'expected a dictionary such as {"conv1": "net/conv1"}'
    try:
        names = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; {mend}.") from None
    except OSError as error:
        raise RunError(f"{path} cannot be read ({error.strerror}); {mend}.") from error
    except ValueError as error:
        raise RunError(f"{path} is no JSON ({error}); {mend}.") from error
    if not isinstance(names, dict):
        raise RunError(f"{path} holds no dictionary; {mend}.")
    return names


def _load(
    checkpoint: str,
    model: Any,
    names: dict[str, str | None] | None,
    shadows: bool,
    console: Console,
) -> None:
    from batchnorm.contrib.load_checkpoint import load_checkpoint
    from batchnorm.train.run import RunError

    try:
        report = load_checkpoint(checkpoint, model, names, shadows=shadows)
    except ValueError as error:
        raise RunError(str(error)) from error
    title = f"{len(report.loaded)} loaded from {report.prefix}"
    table = _table(title, "model", "shape", "checkpoint", "found by")
    for loaded in report.loaded:
        how = "; ".join(filter(None, (loaded.how, loaded.note)))
        _add(table, loaded.variable, loaded.shape, loaded.checkpoint, how)
    console.print(table)
    if report.left_over:
        table = _table(f"{len(report.left_over)} left over", "checkpoint", "shape", "why")
        for left in report.left_over:
            _add(table, left.checkpoint, left.shape, left.why)
        console.print(table)
    for path in report.kept:
        _say(console, f"Kept as it was: {path}")


def _write(model: Any, output: Path | None, console: Console) -> None:
    from batchnorm.train.run import atomic

    if output is None:
        _say(console, "Nothing was written: --output names a file for the model.")
        return
    with atomic(output) as temporary:
        model.save(temporary)
    _say(console, f"Written: {output}")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=Text(title))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _add(table: Table, *cells: object) -> None:
    # As text, because brackets in a name would be taken for markup.
    table.add_row(*(Text(str(cell)) for cell in cells))


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
