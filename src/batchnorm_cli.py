"""The command `batchnorm`.

It stands beside the package because importing `batchnorm` imports Keras, and with it one backend,
which `--backend` must choose first and `--help` need not wait for.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Annotated, Any

try:
    import typer
    from rich.console import Console
except ImportError as missing:
    sys.exit(f"batchnorm: {missing}. The commands need: pip install 'batchnorm[train]'")

MODELS = ("lenet",)
DATA = ("fashion-mnist-sample", "fashion-mnist", "cifar10")
OPTIMIZERS = ("adam", "adamw", "lion", "nadam", "rmsprop", "sgd")
SCHEDULES = ("constant", "cosine")
NORMALIZATIONS = ("ours", "keras", "none")
BACKENDS = ("tensorflow", "jax", "torch")

app = typer.Typer(
    help="Train with batch normalization, and look at what it does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def one_of(names: tuple[str, ...]) -> Callable[[str | None], str | None]:
    """The check of an option that takes one of these names."""

    def check(value: str | None) -> str | None:
        if value is None or value in names:
            return value
        nearest = get_close_matches(value, names, n=1, cutoff=0.0)[0]
        raise typer.BadParameter(
            f"{value!r} is unknown; did you mean {nearest!r}? Allowed: {', '.join(names)}."
        )

    return check


def _named(names: tuple[str, ...], text: str) -> Any:
    return typer.Option(help=f"{text}: {', '.join(names)}.", metavar="NAME", callback=one_of(names))


Backend = Annotated[
    str | None,
    typer.Option(
        help=f"What computes: {', '.join(BACKENDS)}. Default: KERAS_BACKEND's, else that of "
        "Keras's keras.json, else the first that is installed.",
        metavar="NAME",
        callback=one_of(BACKENDS),
    ),
]


def _absolute(folder: str | None) -> str | None:
    return str(Path(folder).resolve()) if folder else None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"batchnorm {version('batchnorm')}")
        raise typer.Exit


@app.callback()
def batchnorm(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Train with batch normalization, and look at what it does."""


@app.command()
def train(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(
            help=f"One of: {', '.join(MODELS)}.", metavar="MODEL", callback=one_of(MODELS)
        ),
    ],
    data: Annotated[str, _named(DATA, "The images")] = DATA[0],
    data_dir: Annotated[
        str | None,
        typer.Option(
            help="Folder of the data set's official files.", metavar="FOLDER", callback=_absolute
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(help="Passes over the images.", min=1)] = 10,
    batch_size: Annotated[int, typer.Option(help="Images in a step.", min=2)] = 32,
    optimizer: Annotated[str, _named(OPTIMIZERS, "What takes the steps")] = "adam",
    learning_rate: Annotated[float, typer.Option(help="The highest rate.", min=0.0)] = 1e-2,
    schedule: Annotated[str, _named(SCHEDULES, "How the rate decays")] = "cosine",
    seed: Annotated[int, typer.Option(help="Decides weights and order.", min=0)] = 0,
    normalization: Annotated[str, _named(NORMALIZATIONS, "Whose layer")] = "ours",
    image_size: Annotated[
        int | None, typer.Option(help="Side that the network sees; default: the images'.", min=16)
    ] = None,
    backend: Backend = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder of the run; default: runs/MODEL-DATE-TIME.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --output.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in --output first.")
    ] = False,
) -> None:
    """Train a model: pictures, numbers, logs and the model go to a folder.

    An interrupted run continues with --resume to the same weights, bit for bit.
    """
    if resume and (overwrite or output is None):
        raise typer.BadParameter("--resume needs --output, and excludes --overwrite.")
    folder = output or Path("runs", f"{model}-{time.strftime('%Y%m%d-%H%M%S')}")
    # The other arguments are the settings, under the settings' names.
    apart = ("output", "resume", "overwrite")
    settings = {name: value for name, value in context.params.items() if name not in apart}
    with _errors_in_words(
        f"batchnorm train {model} --output {quote(str(folder))} --resume", folder
    ):
        _need("matplotlib", "tensorboard")
        chosen = choose_backend(backend, folder if resume else None)
        from batchnorm.train.run import Run
        from batchnorm.train.settings import Settings
        from batchnorm.train.start import resume as go_on
        from batchnorm.train.start import start

        if resume:
            go_on(Run(folder), _given(context, settings), Console())
        else:
            settings["backend"] = chosen
            start(Run(folder), Settings(**settings), overwrite, Console())


@app.command()
def features(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    image: Annotated[int, typer.Option(help="Which test image, from 0.", min=0)] = 0,
    output: Annotated[
        Path | None, typer.Option(help="The picture; default: feature_maps.png in RUN.")
    ] = None,
    backend: Backend = None,
) -> None:
    """Draw what the first layers of a trained model make of an image."""
    with _errors_in_words():
        _need("matplotlib")
        choose_backend(backend, run)
        from batchnorm.train.features import draw
        from batchnorm.train.run import Run

        picture = draw(Run(run), image, output)
        Console().print(f"Drawn: {picture}", markup=False, highlight=False, soft_wrap=True)


def _given(context: typer.Context, values: dict[str, Any]) -> dict[str, Any]:
    sources = {name: context.get_parameter_source(name) for name in values}
    return {
        name: values[name]
        for name, source in sources.items()
        if source and source.name != "DEFAULT"
    }


def _need(*modules: str) -> None:
    for module in modules:
        if find_spec(module) is None:
            raise ImportError(f"{module} is not installed: pip install 'batchnorm[train]'")


def choose_backend(asked: str | None, run: Path | None) -> str:
    """Imports Keras with the backend asked for, else the run's, else the default."""
    backend = asked or default_backend(run)
    if find_spec(backend) is None:
        raise ImportError(f"{backend} is not installed: pip install 'batchnorm[{backend}]'")
    os.environ["KERAS_BACKEND"] = backend
    with quiet_tensorflow():
        import keras

        # Imports TensorFlow, where it is installed, as saving does on every backend: better now
        # than amid the progress.
        keras.utils.set_random_seed(0)
    return backend


def default_backend(run: Path | None) -> str:
    """The run's, KERAS_BACKEND's, that of Keras's own file if installed, the first installed."""
    recorded = _read(run / "config.json", "settings", "backend") if run else None
    if recorded in BACKENDS:
        return str(recorded)
    if os.environ.get("KERAS_BACKEND"):
        return str(one_of(BACKENDS)(os.environ["KERAS_BACKEND"]))
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    installed = [name for name in BACKENDS if find_spec(name)]
    configured = _read(home / "keras.json", "backend")
    return str(configured) if configured in installed else next(iter(installed), BACKENDS[0])


def _read(path: Path, *keys: str) -> Any:
    # A file that is wrong is reported by whoever needs all of it.
    try:
        value = json.loads(path.read_text("utf-8"))
        for key in keys:
            value = value[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps TensorFlow's chatter off the terminal, unless the user has set how much there is."""
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # TensorFlow 2.21 logs a few lines as it is imported, whatever that level is.
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


@contextmanager
def _errors_in_words(again: str = "", run: Path | None = None) -> Iterator[None]:
    """Ends the command with one line where the user, the data or the disk is at fault."""
    try:
        yield
    except KeyboardInterrupt:
        started = run is not None and (run / "config.json").exists()
        _say(f"Interrupted. To continue: {again}" if started else "Interrupted.")
        raise typer.Exit(130) from None
    except ImportError as error:
        _say(f"error: {error}")
        raise typer.Exit(1) from error
    except (OSError, ValueError) as error:
        from batchnorm.data import DataError
        from batchnorm.train.run import RunError

        if isinstance(error, ValueError) and not isinstance(error, (DataError, RunError)):
            raise
        _say(f"error: {error}")
        raise typer.Exit(1) from error


def _say(line: str) -> None:
    Console(stderr=True).print(line, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Runs the command line of this process."""
    app()


if __name__ == "__main__":
    main()
