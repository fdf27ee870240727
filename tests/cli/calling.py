"""The commands, called in this process, and what they say."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import keras
import pytest
from typer.testing import CliRunner, Result

import batchnorm_cli
from batchnorm.train.run import Run
from batchnorm_cli import backend as choosing

BACKEND = keras.config.backend()


class Begun(NamedTuple):
    """What a training was started with."""

    run: Run
    settings: Any
    overwrite: bool


def call(*arguments: object) -> Result:
    return CliRunner().invoke(batchnorm_cli.app, [str(argument) for argument in arguments])


def train(data_dir: Path, output: Path, *more: object) -> Result:
    chosen = ("--data", "fashion-mnist", "--data-dir", data_dir, "--output", output)
    return call("train", "lenet", *chosen, "--epochs", 2, "--batch-size", 32, *more)


def error(result: Result, code: int = 1) -> str:
    """The text of an error that was told in words."""
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.stderr.replace("│", " ").split())


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def hide(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(choosing, "find_spec", lambda name: None if name in names else find(name))
