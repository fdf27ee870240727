from pathlib import Path

import pytest

from batchnorm.benchmark.machine import ENVIRONMENT, environment, machine


def test_the_machine() -> None:
    found = machine()
    assert found["cores"] >= 1 and found["processor"] and found["python"].startswith("3.")
    assert found["memory_bytes"] is None or found["memory_bytes"] > 2**28


def test_a_system_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", missing)
    assert machine()["processor"]


def test_what_is_not_set_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    assert environment(tuned=False) == dict.fromkeys(ENVIRONMENT)
