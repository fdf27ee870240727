"""The table of docs/tf1.md, argument by argument, is whole and true."""

import inspect
import re
from pathlib import Path

import pytest

from batchnorm import BatchNormalization, Exponential, Ghost, Renorm, ZeroDebiased
from batchnorm.contrib.layer_from_arguments import REFUSED, layer_from_arguments

PAGE = Path(__file__).resolve().parents[2] / "docs" / "tf1.md"
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text().split("## The way out")[1].splitlines()
    if line.startswith("| ")
][1:]


def code(cell: str) -> list[str]:
    """What stands between backticks, without values."""
    return [re.sub(r"=.*", "", each) for each in re.findall(r"`([^`]+)`", cell)]


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
    known = {
        *inspect.signature(BatchNormalization).parameters,
        *inspect.signature(BatchNormalization.call).parameters,
        *("name", "trainable", "layer.weights", "keras.Model(inputs, layer.output)"),
    }
    for row in ROWS:
        assert set(code(row[2])) <= known, row


def test_slots_are_called_with_what_they_have() -> None:
    slots = {each.__name__: each for each in (Exponential, Ghost, Renorm, ZeroDebiased)}
    calls = [found for row in ROWS for found in re.findall(r"=(\w+)\(([^)]+)\)", row[2])]
    assert {name for name, _ in calls} == set(slots)
    for name, arguments in calls:
        given = [argument.partition("=")[0].strip() for argument in arguments.split(",")]
        assert set(given) <= set(inspect.signature(slots[name]).parameters), name


def test_what_is_refused_is_contrib_s_too() -> None:
    pytest.importorskip("tensorflow")
    from batchnorm.contrib import batch_norm

    taken = set(inspect.signature(layer_from_arguments).parameters)
    taken -= {"rank", "version", "dtype", "others"}
    assert taken | set(REFUSED) == set(inspect.signature(batch_norm).parameters)
    assert not taken & set(REFUSED)
