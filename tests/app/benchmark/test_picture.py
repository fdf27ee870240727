from pathlib import Path
from typing import Any

import pytest

from batchnorm_app.benchmark import picture
from tests.app.benchmark.records import case

pytestmark = pytest.mark.no_backend


@pytest.fixture
def plots(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    calls: list[Any] = []
    monkeypatch.setattr(picture, "plot", lambda *arguments: calls.append(arguments))
    return calls


def test_one_pass_one_mode_and_two_variants(plots: list[Any]) -> None:
    cases = [
        case(backend, (8, 3), **{"variant": variant, "mode": mode, "pass": pass_name})
        for backend, modes in (("tensorflow", ("eager", "graph", "jit")), ("torch", ("eager",)))
        for variant in ("conditional", "ghost", "plain")
        for mode in modes
        for pass_name in ("forward", "forward+backward", "inference")
    ]
    picture.draw(cases, Path("a.png"))
    ((rows, title, path),) = plots
    assert [*rows] == ["TensorFlow, graph", "PyTorch, eager"] and path == Path("a.png")
    assert title == "Forward and backward, float32, milliseconds"
    for cases in rows.values():
        assert {shown["variant"] for shown in cases} == {"plain", "conditional"}
        assert {shown["pass"] for shown in cases} == {"forward+backward"}
        # The plain variant shows that contestant.
        assert all("batchnorm plain" not in shown["contestants"] for shown in cases)


def test_other_cases_are_drawn_where_the_preferred_ones_are_missing(plots: list[Any]) -> None:
    changes = {"variant": "ghost", "mode": "jit", "pass": "inference"}
    picture.draw([case("tensorflow", (8, 3), **changes)], Path("a.png"))
    ((rows, title, _),) = plots
    assert [*rows] == ["TensorFlow, jit"] and title.startswith("Inference")
    assert "batchnorm plain" in rows["TensorFlow, jit"][0]["contestants"]
