"""The measuring process itself, which takes seconds to start."""

import os
import sys
from pathlib import Path
from typing import Any

import keras
import pytest

from batchnorm.benchmark import process
from batchnorm.benchmark.asked import USUAL, Asked
from batchnorm.benchmark.machine import TUNED
from batchnorm.train.run import RunError
from tests.benchmark.records import case

BACKEND = keras.backend.backend()
SMALL = Asked(
    shapes=((8, 3),),
    variants=("plain",),
    passes=("forward",),
    modes=(USUAL[BACKEND],),
    steps=False,
    rounds=2,
)


def test_it_measures_on_the_backend_that_is_asked_for() -> None:
    about, record = process.measured(BACKEND, SMALL, tuned=True)
    assert about["about"]["backend"] == BACKEND
    assert record["case"]["contestants"]["Keras"]["seconds"]["median"] > 0


def test_peak_memory() -> None:
    given = case(BACKEND, (32, 32, 32, 64))
    found = process.peak(given, "Keras", tuned=False)
    assert 1 < found / (32 * 32 * 32 * 64 * 4) < 12  # y and dx are new


def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    """Lets another program run in the place of the measuring one."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def records(tuned: bool = False) -> list[dict[str, Any]]:
    return [*process.measured("jax", SMALL, tuned)]


@pytest.mark.parametrize("tuned", [False, True])
def test_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tuned: bool) -> None:
    for name in TUNED:
        monkeypatch.delenv(name, raising=False)
    program(monkeypatch, tmp_path, "import json, os; print(json.dumps(dict(os.environ)))")
    (found,) = records(tuned)
    assert found["KERAS_BACKEND"] == "jax"
    assert {name: found.get(name) for name in TUNED} == (TUNED if tuned else dict.fromkeys(TUNED))


@pytest.mark.parametrize(
    "code, words",
    [
        ('print(\'{"error": "ValueError: no"}\')', "Measuring on jax failed: ValueError: no"),
        ("import sys; sys.exit('it broke')", "Measuring on jax ended, 1: it broke"),
        ("import os; os.abort()", "Measuring on jax ended, -6: it said nothing"),
    ],
)
def test_a_process_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, words: str
) -> None:
    program(monkeypatch, tmp_path, code)
    with pytest.raises(RunError, match=words):
        records()


def test_it_ends_when_nobody_listens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import os, time; print([os.getpid()], flush=True); time.sleep(60)"
    program(monkeypatch, tmp_path, code)
    found: Any = process.measured("jax", SMALL, False)
    (number,) = next(found)
    with pytest.raises(KeyboardInterrupt):
        found.throw(KeyboardInterrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_what_is_wrong_with_a_case_is_said_by_the_other_end() -> None:
    given = {"variant": "plain", "shape": [8, 3], "mode": USUAL[BACKEND], "name": "nobody"}
    with pytest.raises(KeyError, match="nobody"):
        [*process.main({"peak": given})]
