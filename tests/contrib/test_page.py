"""The table of docs/tf1.md is complete and correct, argument by argument."""

import inspect
import re
from pathlib import Path

import pytest

from batchnorm import BatchNormalization, Exponential, Ghost, Renorm, ZeroDebiased
from batchnorm.contrib.layer_from_arguments import REFUSED, layer_from_arguments

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tf1.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().split("## Migration")[1].splitlines()
    if line.startswith("| ")
][1:]


def code(cell: str) -> list[str]:
    """Returns the texts between backticks, without values."""
    return [re.sub(r"=.*", "", text) for text in re.findall(r"`([^`]+)`", cell)]


def test_every_argument_of_contrib_has_a_row() -> None:
    pytest.importorskip("tensorflow")
    from batchnorm.contrib import batch_norm

    parameters = inspect.signature(batch_norm).parameters
    assert {name for row in ROWS for name in code(row[0])} == set(parameters) - {"inputs"}
    for row in ROWS:
        for name, default in re.findall(r"`(\w+)=([^`{]+)`", row[0]):
            expected = parameters[name].default
            shown = "UPDATE_OPS" if expected == "update_ops" else expected
            assert default.strip('"') == str(shown), name


def test_every_argument_of_the_layer_is_one() -> None:
    arguments = {
        *inspect.signature(BatchNormalization).parameters,
        *inspect.signature(BatchNormalization.call).parameters,
        *("name", "trainable", "layer.weights", "keras.Model(inputs, layer.output)"),
    }
    for row in ROWS:
        assert set(code(row[2])) <= arguments, row


def test_slots_are_called_with_what_they_have() -> None:
    slots = {slot.__name__: slot for slot in (Exponential, Ghost, Renorm, ZeroDebiased)}
    calls = [call for row in ROWS for call in re.findall(r"=(\w+)\(([^)]+)\)", row[2])]
    assert {name for name, _ in calls} == set(slots)
    for name, arguments in calls:
        names = [argument.partition("=")[0].strip() for argument in arguments.split(",")]
        assert set(names) <= set(inspect.signature(slots[name]).parameters), name


def test_what_is_refused_is_contrib_s_too() -> None:
    pytest.importorskip("tensorflow")
    from batchnorm.contrib import batch_norm

    accepted = set(inspect.signature(layer_from_arguments).parameters)
    accepted -= {"rank", "version", "dtype", "unsupported"}
    assert accepted | set(REFUSED) == set(inspect.signature(batch_norm).parameters)
    assert not accepted & set(REFUSED)
