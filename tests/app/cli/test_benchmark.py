"""`batchnorm benchmark`: its options, its errors, and one run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchnorm_app import choices
from batchnorm_app.benchmark import process, report
from batchnorm_app.benchmark.request import DEFAULT_MODES, PASSES, QUICK, BenchmarkRequest
from tests.app.benchmark.records import records
from tests.app.cli.calling import BACKEND, call, error, hide, interrupt


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of each benchmark, which then measures nothing."""
    calls: list[Any] = []
    monkeypatch.setattr(report, "benchmark", lambda *arguments: calls.append(arguments[:4]))
    return calls


@pytest.mark.parametrize(
    "options, expected, tuned",
    [
        ("", BenchmarkRequest(), False),
        ("--tuned --memory --no-steps", BenchmarkRequest(steps=False, memory=True), True),
        ("--quick", BenchmarkRequest(**QUICK), False),
        (
            "--quick --steps --rounds 4",
            BenchmarkRequest(**QUICK | {"steps": True, "rounds": 4}),
            False,
        ),
        (
            "--variants plain,ghost --shapes 8x4,8x2x3 --shapes 2x1 --passes forward --modes jit",
            BenchmarkRequest(
                variants=("plain", "ghost"),
                shapes=((8, 4), (8, 2, 3), (2, 1)),
                passes=("forward",),
                modes=("jit",),
            ),
            False,
        ),
    ],
)
def test_options_make_the_request(
    requests: list[Any], options: str, expected: BenchmarkRequest, tuned: bool
) -> None:
    result = call("benchmark", "--output", "a", *options.split())
    assert result.exit_code == 0, result.output
    backends = ["tensorflow", "jax"] if expected.modes == ("jit",) else [*choices.BACKENDS]
    assert requests == [(backends, expected, tuned, Path("a"))]


def test_one_backend_and_the_usual_folder(requests: list[Any]) -> None:
    assert call("benchmark", "--backend", BACKEND).exit_code == 0
    ((backends, _, _, folder),) = requests
    assert backends == [BACKEND]
    assert folder.parent == Path("runs") and folder.name.startswith("benchmark-20")


@pytest.mark.parametrize(
    "options, words",
    [
        ("--backend pytorch", "'pytorch' is unknown; did you mean 'torch'? Allowed: tensorflow"),
        ("--variants plain,gost", "'gost' is unknown; did you mean 'ghost'? Allowed: plain, "),
        ("--passes backward", "did you mean 'forward+backward'? Allowed: forward, "),
        ("--modes xla", "'xla' is unknown. Allowed: eager, graph, unsized, jit"),
        ("--modes jitt", "'jitt' is unknown; did you mean 'jit'?"),
        ("--shapes 99999999999x9999999999", "is not a shape to measure"),
        ("--shapes 2147483648x2", "at most 2,147,483,648 numbers"),
        (f"--shapes {'9' * 5000}x2", "is not a shape to measure"),
        ("--shapes ²x2", "is not a shape to measure"),
        ("--rounds 99999999999999999999", "Invalid value for '--rounds'"),
        ("--shapes 64", "'64' is not a shape to measure; expected 2 to 5 positive integers"),
        ("--shapes 8x4,64x0", "'64x0' is not a shape to measure"),
        ("--shapes 1x4", "the batch, of 2 or more, first and the channels last, as in 64x56"),
        ("--shapes 8x4xa", "'8x4xa' is not a shape to measure"),
        ("--shapes 8,4", "'8' is not a shape to measure"),
        ("--shapes 2x2x2x2x2x2", "is not a shape to measure"),
        ("--rounds 0", "Invalid value for '--rounds'"),
    ],
)
def test_what_cannot_be_measured(requests: list[Any], options: str, words: str) -> None:
    assert words in error(call("benchmark", *options.split()), code=2)
    assert requests == []


def test_a_mode_that_the_backend_lacks(requests: list[Any]) -> None:
    text = error(call("benchmark", "--backend", "jax", "--modes", "graph"))
    assert "There is no mode graph here: jax has jit." in text
    assert requests == []


def test_a_folder_that_holds_something_else(tmp_path: Path, requests: list[Any]) -> None:
    (tmp_path / "model.keras").touch()
    text = error(call("benchmark", "--output", tmp_path))
    assert "holds something else, such as model.keras" in text and requests == []


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, requests: list[Any]) -> None:
    hide(monkeypatch, "torch")
    text = error(call("benchmark", "--backend", "torch"))
    assert "torch is not installed: pip install 'batchnorm[torch]'" in text
    hide(monkeypatch, "matplotlib")
    assert "matplotlib is not installed" in error(call("benchmark"))
    assert requests == []


def test_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "measure", interrupt)
    text = error(call("benchmark", "--output", tmp_path / "a", "--quick"), code=130)
    assert f"The measurements so far are in {tmp_path / 'a'}. Interrupted." in text
    assert json.loads((tmp_path / "a" / "benchmark.json").read_text())["cases"] == []


def test_it_prints_and_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "measure", lambda backend, request, _: records(backend, request))
    result = call("benchmark", "--output", tmp_path, "--quick")
    assert result.exit_code == 0, result.output
    assert "TensorFlow, plain, graph: ms" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        *("benchmark.json", "benchmark.md", "benchmark.png")
    }


def test_help_does_not_wait_for_a_backend() -> None:
    code = "import sys, batchnorm_app.cli.benchmark; sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    text = call("benchmark", "--help").output
    for option in ("--backend", "--shapes", "--quick", "--tuned", "--memory", "--no-steps"):
        assert option in text


def test_a_run(tmp_path: Path) -> None:
    """A real measurement, on the backend in use."""
    options = f"--backend {BACKEND} --modes {DEFAULT_MODES[BACKEND]} --variants plain --shapes 16x4"
    result = call("benchmark", "--output", tmp_path, "--quick", *options.split())
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "benchmark.json").read_text())
    assert record["complete"] and [case["pass"] for case in record["cases"]] == [*PASSES]
    assert record["backends"][BACKEND]["versions"]["batchnorm"] in result.stdout
