"""Calls commands in this process, and reads their errors."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import keras
import pytest
from typer.testing import CliRunner, Result

import batchnorm_app.cli
from batchnorm_app.cli import backend as choosing
from batchnorm_app.runs.run import Run

BACKEND = keras.config.backend()


class Begun(NamedTuple):
    """The arguments of a training that was started."""

    run: Run
    settings: Any
    overwrite: bool


def call(*arguments: object) -> Result:
    return CliRunner().invoke(batchnorm_app.cli.app, [str(argument) for argument in arguments])


def train(data_dir: Path, output: Path, *more: object) -> Result:
    options = ("--data", "fashion-mnist", "--data-dir", data_dir, "--output", output)
    return call("train", "lenet", *options, "--epochs", 2, "--batch-size", 32, *more)


def error(result: Result, code: int = 1) -> str:
    """Returns the text of an error that a command reported."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.replace("│", " ").split())


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(choosing, "find_spec", lambda name: None if name in names else find(name))
