from pathlib import Path

import pytest

from batchnorm_app.benchmark.machine import ENVIRONMENT, environment, machine

pytestmark = pytest.mark.no_backend


def test_machine() -> None:
    facts = machine()
    assert facts["cores"] >= 1 and facts["processor"] and facts["python"].startswith("3.")
    assert facts["memory_bytes"] is None or facts["memory_bytes"] > 2**28


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert machine()["processor"]


def test_a_variable_that_is_not_set_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert environment(tuned=False) == dict.fromkeys(ENVIRONMENT)
