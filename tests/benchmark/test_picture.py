from pathlib import Path
from typing import Any

import pytest

from batchnorm.benchmark import picture
from tests.benchmark.records import case


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(picture, "plot", lambda *given: found.append(given))
    return found


def test_one_pass_one_mode_and_two_variants(drawn: list[Any]) -> None:
    cases = [
        case(backend, (8, 3), **{"variant": variant, "mode": mode, "pass": which})
        for backend, modes in (("tensorflow", ("eager", "graph", "jit")), ("torch", ("eager",)))
        for variant in ("conditional", "ghost", "plain")
        for mode in modes
        for which in ("forward", "forward+backward", "inference")
    ]
    picture.draw(cases, Path("a.png"))
    ((rows, title, path),) = drawn
    assert [*rows] == ["TensorFlow, graph", "PyTorch, eager"] and path == Path("a.png")
    assert title == "Forward and backward, float32, milliseconds"
    for shown in rows.values():
        assert {each["variant"] for each in shown} == {"plain", "conditional"}
        assert {each["pass"] for each in shown} == {"forward+backward"}
        # That of plain stands beside it.
        assert all("batchnorm plain" not in each["contestants"] for each in shown)


def test_what_there_is(drawn: list[Any]) -> None:
    given = {"variant": "ghost", "mode": "jit", "pass": "inference"}
    picture.draw([case("tensorflow", (8, 3), **given)], Path("a.png"))
    ((rows, title, _),) = drawn
    assert [*rows] == ["TensorFlow, jit"] and title.startswith("Inference")
    assert "batchnorm plain" in rows["TensorFlow, jit"][0]["contestants"]
