"""The measuring process itself, which takes seconds to start."""

import os
import sys
from pathlib import Path
from typing import Any

import keras
import pytest

from batchnorm_app.benchmark import process
from batchnorm_app.benchmark.machine import TUNED
from batchnorm_app.benchmark.request import DEFAULT_MODES, BenchmarkRequest
from batchnorm_app.errors import UserError
from tests.app.benchmark.records import case

BACKEND = keras.backend.backend()
SMALL = BenchmarkRequest(
    shapes=((8, 3),),
    variants=("plain",),
    passes=("forward",),
    modes=(DEFAULT_MODES[BACKEND],),
    steps=False,
    rounds=2,
)


def test_measuring_on_the_requested_backend() -> None:
    description, record = process.measure(BACKEND, SMALL, tuned=True)
    assert description["about"]["backend"] == BACKEND
    assert record["case"]["contestants"]["Keras"]["seconds"]["median"] > 0


def test_peak_memory() -> None:
    peak = process.peak_memory(case(BACKEND, (32, 32, 32, 64)), "Keras", tuned=False)
    assert 1 < peak / (32 * 32 * 32 * 64 * 4) < 12  # y and dx are new


def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str) -> None:
    """Replaces the measuring program by another."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\n{code}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def records(tuned: bool = False) -> list[dict[str, Any]]:
    return [*process.measure("jax", SMALL, tuned)]


@pytest.mark.parametrize("tuned", [False, True])
def test_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tuned: bool) -> None:
    for name in TUNED:
        monkeypatch.delenv(name, raising=False)
    program(monkeypatch, tmp_path, "import json, os; print(json.dumps(dict(os.environ)))")
    (environment,) = records(tuned)
    assert environment["KERAS_BACKEND"] == "jax"
    assert {name: environment.get(name) for name in TUNED} == (
        TUNED if tuned else dict.fromkeys(TUNED)
    )


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
    with pytest.raises(UserError, match=words):
        records()


def test_the_process_ends_when_its_reader_stops(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    code = "import os, time; print([os.getpid()], flush=True); time.sleep(60)"
    program(monkeypatch, tmp_path, code)
    process_records: Any = process.measure("jax", SMALL, False)
    (process_id,) = next(process_records)
    with pytest.raises(KeyboardInterrupt):
        process_records.throw(KeyboardInterrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(process_id, 0)


def test_an_error_of_the_measuring_process_is_raised() -> None:
    arguments = {
        "variant": "plain",
        "shape": [8, 3],
        "mode": DEFAULT_MODES[BACKEND],
        "name": "nobody",
    }
    with pytest.raises(KeyError, match="nobody"):
        [*process.main({"peak_memory": arguments})]
