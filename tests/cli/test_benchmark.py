"""`batchnorm benchmark`: its options, its errors, and one run."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchnorm.benchmark import asked as asking
from batchnorm.benchmark import process, report
from batchnorm.benchmark.asked import QUICK, USUAL, Asked
from batchnorm_cli import benchmark as command
from batchnorm_cli import options
from tests.benchmark.records import records
from tests.cli.calling import BACKEND, call, error, hide, interrupt


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is asked for; nothing is measured."""
    found: list[Any] = []
    monkeypatch.setattr(report, "benchmark", lambda *given: found.append(given[:4]))
    return found


def test_the_names_are_those_of_the_package() -> None:
    assert command.VARIANTS == asking.VARIANTS and command.PASSES == asking.PASSES
    assert {*command.MODES} == {mode for modes in asking.MODES.values() for mode in modes}
    assert {*options.BACKENDS} == {*asking.BACKENDS}


@pytest.mark.parametrize(
    "given, expected, tuned",
    [
        ("", Asked(), False),
        ("--tuned --memory --no-steps", Asked(steps=False, memory=True), True),
        ("--quick", Asked(**QUICK), False),
        ("--quick --steps --rounds 4", Asked(**QUICK | {"steps": True, "rounds": 4}), False),
        (
            "--variants plain,ghost --shapes 8x4,8x2x3 --shapes 2x1 --passes forward --modes jit",
            Asked(
                variants=("plain", "ghost"),
                shapes=((8, 4), (8, 2, 3), (2, 1)),
                passes=("forward",),
                modes=("jit",),
            ),
            False,
        ),
    ],
)
def test_what_is_asked_for(begun: list[Any], given: str, expected: Asked, tuned: bool) -> None:
    result = call("benchmark", "--output", "a", *given.split())
    assert result.exit_code == 0, result.output
    backends = ["tensorflow", "jax"] if expected.modes == ("jit",) else [*options.BACKENDS]
    assert begun == [(backends, expected, tuned, Path("a"))]


def test_one_backend_and_the_usual_folder(begun: list[Any]) -> None:
    assert call("benchmark", "--backend", BACKEND).exit_code == 0
    ((backends, _, _, folder),) = begun
    assert backends == [BACKEND]
    assert folder.parent == Path("runs") and folder.name.startswith("benchmark-20")


@pytest.mark.parametrize(
    "given, words",
    [
        ("--backend pytorch", "'pytorch' is unknown; did you mean 'torch'? Allowed: tensorflow"),
        ("--variants plain,gost", "'gost' is unknown; did you mean 'ghost'? Allowed: plain, "),
        ("--passes backward", "did you mean 'forward+backward'? Allowed: forward, "),
        ("--modes xla", "'xla' is unknown. Allowed: eager, graph, unsized, jit"),
        ("--modes jitt", "'jitt' is unknown; did you mean 'jit'?"),
        ("--shapes 99999999999x9999999999", "is no shape to measure"),
        ("--shapes 2147483648x2", "at most 2,147,483,648 numbers"),
        (f"--shapes {'9' * 5000}x2", "is no shape to measure"),
        ("--shapes ²x2", "is no shape to measure"),
        ("--rounds 99999999999999999999", "Invalid value for '--rounds'"),
        ("--shapes 64", "'64' is no shape to measure; expected 2 to 5 whole numbers from 1"),
        ("--shapes 8x4,64x0", "'64x0' is no shape to measure"),
        ("--shapes 1x4", "the batch, of 2 or more, first and the channels last, as in 64x56"),
        ("--shapes 8x4xa", "'8x4xa' is no shape to measure"),
        ("--shapes 8,4", "'8' is no shape to measure"),
        ("--shapes 2x2x2x2x2x2", "is no shape to measure"),
        ("--rounds 0", "Invalid value for '--rounds'"),
    ],
)
def test_what_cannot_be_measured(begun: list[Any], given: str, words: str) -> None:
    assert words in error(call("benchmark", *given.split()), code=2)
    assert begun == []


def test_a_mode_that_the_backend_lacks(begun: list[Any]) -> None:
    text = error(call("benchmark", "--backend", "jax", "--modes", "graph"))
    assert "There is no mode graph here: jax has jit." in text
    assert begun == []


def test_a_folder_that_holds_something_else(tmp_path: Path, begun: list[Any]) -> None:
    (tmp_path / "model.keras").touch()
    text = error(call("benchmark", "--output", tmp_path))
    assert "holds something else, such as model.keras" in text and begun == []


def test_what_is_not_installed(monkeypatch: pytest.MonkeyPatch, begun: list[Any]) -> None:
    hide(monkeypatch, "torch")
    text = error(call("benchmark", "--backend", "torch"))
    assert "torch is not installed: pip install 'batchnorm[torch]'" in text
    hide(monkeypatch, "matplotlib")
    assert "matplotlib is not installed" in error(call("benchmark"))
    assert begun == []


def test_interrupted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "measured", interrupt)
    text = error(call("benchmark", "--output", tmp_path / "a", "--quick"), code=130)
    assert f"What was measured so far is in {tmp_path / 'a'}. Interrupted." in text
    assert json.loads((tmp_path / "a" / "benchmark.json").read_text())["cases"] == []


def test_it_prints_and_writes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "measured", lambda backend, asked, _: records(backend, asked))
    result = call("benchmark", "--output", tmp_path, "--quick")
    assert result.exit_code == 0, result.output
    assert "TensorFlow, plain, graph: ms" in result.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        *("benchmark.json", "benchmark.md", "benchmark.png")
    }


def test_help_does_not_wait_for_a_backend() -> None:
    code = "import sys, batchnorm_cli.benchmark; sys.exit('keras' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
    text = call("benchmark", "--help").output
    for option in ("--backend", "--shapes", "--quick", "--tuned", "--memory", "--no-steps"):
        assert option in text


def test_a_run(tmp_path: Path) -> None:
    """Of the real thing, on the backend in use."""
    given = f"--backend {BACKEND} --modes {USUAL[BACKEND]} --variants plain --shapes 16x4"
    result = call("benchmark", "--output", tmp_path, "--quick", *given.split())
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert found["complete"] and [case["pass"] for case in found["cases"]] == [*asking.PASSES]
    assert found["backends"][BACKEND]["versions"]["batchnorm"] in result.stdout
