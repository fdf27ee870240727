"""What becomes of the records: files, a picture and tables."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from batchnorm.benchmark import process, report
from batchnorm.benchmark.asked import Asked
from batchnorm.benchmark.machine import ENVIRONMENT, TUNED
from batchnorm.train.run import RunError
from tests.benchmark.records import records

SMALL = Asked(shapes=((8, 4, 4, 2), (8, 3)), variants=("plain", "conditional"), rounds=3)


@pytest.fixture(autouse=True)
def made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "measured", lambda backend, asked, tuned: records(backend, asked))
    monkeypatch.setattr(process, "peak", lambda *given: 2**26)


def run(folder: Path, asked: Asked = SMALL, tuned: bool = False) -> tuple[dict[str, Any], str]:
    """What is in the JSON file, and what is printed."""
    console = Console(file=io.StringIO(), width=200)
    report.benchmark(["tensorflow", "torch"], asked, tuned, folder, console)
    assert isinstance(console.file, io.StringIO)
    return json.loads((folder / "benchmark.json").read_text()), console.file.getvalue()


def test_the_json_has_all_that_is_promised(tmp_path: Path) -> None:
    found, _ = run(tmp_path / "new" / "folder")
    assert found["machine"].keys() == {"processor", "cores", "memory_bytes", "platform", "python"}
    assert found["environment"].keys() == set(ENVIRONMENT) and found["machine"]["cores"] >= 1
    assert found["machine"]["processor"] and found["complete"] and not found["tuned"]
    assert Asked.from_json(found["asked"]) == SMALL
    assert found["backends"]["torch"]["versions"] == {"torch": "1.2.3"}
    expected = [
        r["case"] for b in ("tensorflow", "torch") for r in records(b, SMALL) if "case" in r
    ]
    assert found["cases"] == expected
    assert [step["backend"] for step in found["steps"]] == ["tensorflow", "torch"]


def test_the_environment_is_that_of_the_measuring_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    found, text = run(tmp_path / "tuned", tuned=True)
    assert found["tuned"] and found["environment"]["OMP_NUM_THREADS"] == "7"
    assert {name: found["environment"][name] for name in TUNED} == TUNED
    assert "MALLOC_ARENA_MAX=1" in text and "OMP_NUM_THREADS=7" in text
    assert TUNED.keys() == {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX"}


def test_the_tables(tmp_path: Path) -> None:
    _, text = run(tmp_path)
    page = (tmp_path / "benchmark.md").read_text()
    for title in ("TensorFlow, plain, graph", "PyTorch, conditional, eager", "Training steps"):
        assert title in text and title in page
    row = "| 8x3 | forward+backward | 0.900 | 2.00 ±0.200 | 4.00 ±0.400 2.00x | 6.00 ±0.600 3.00x |"
    assert row in page
    assert "| shape | pass | limit | batchnorm | Keras | torch.nn |" in page
    assert "memory: 40 GB/s, read and written, in copies of 33.6 MB" in page
    kept = "**PyTorch, plain: kept for the backward pass, in units of x**"
    assert f"{kept}\n\n| shape | batchnorm | Keras | torch.nn |\n|---|---|---|---|\n" in page
    # Steps of 4, 6 and 2 ms.
    assert "| PyTorch | LeNet, 128 of 28x28x1 | 4.00 ±0.400 |" in page and "| 2.00x |" in page
    assert f"Written: {tmp_path}" in text


def test_each_case_is_told_as_it_comes(tmp_path: Path) -> None:
    _, text = run(tmp_path)
    line = (
        "torch plain 8x3 eager forward+backward: batchnorm 2.00 ms (1.00x), Keras 4.00 ms (2.00x)"
    )
    assert line in text


def test_peak_memory_on_request(tmp_path: Path) -> None:
    asked = Asked.from_json(SMALL.to_json() | {"memory": True})
    found, text = run(tmp_path, asked)
    with_peak = [c for c in found["cases"] if "peak" in c["contestants"]["batchnorm"]]
    assert {(c["pass"], c["mode"]) for c in with_peak} == {
        ("forward+backward", "graph"),
        ("forward+backward", "eager"),
    }
    assert with_peak[0]["contestants"]["Keras"]["peak"] == 2.0
    assert "PyTorch, plain: peak memory, in units of x" in text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunError("the process ended")])
def test_what_was_measured_so_far_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def cut_short(backend: str, asked: Asked, tuned: bool) -> Iterator[dict[str, Any]]:
        yield from records(backend, asked)[:4]
        on_disk = json.loads((tmp_path / "benchmark.json").read_text())
        assert len(on_disk["cases"]) == 3  # after each case, for what ends the process at once
        raise error

    monkeypatch.setattr(process, "measured", cut_short)
    with pytest.raises(type(error)):
        run(tmp_path)
    found = json.loads((tmp_path / "benchmark.json").read_text())
    assert len(found["cases"]) == 3 and not found["complete"]
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert "incomplete" in (tmp_path / "benchmark.md").read_text()


def test_nothing_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "measured", lambda *_: iter(()))
    found, _ = run(tmp_path)
    assert found["cases"] == [] and not (tmp_path / "benchmark.png").exists()


def test_only_benchmarks_are_written_over(tmp_path: Path) -> None:
    run(tmp_path / "a")
    report.refuse_to_overwrite(tmp_path / "a")
    report.refuse_to_overwrite(tmp_path / "b")
    (tmp_path / "a" / "model.keras").touch()
    with pytest.raises(RunError, match=r"something else, such as model\.keras"):
        report.refuse_to_overwrite(tmp_path / "a")
    with pytest.raises(RunError, match="is a file"):
        report.refuse_to_overwrite(tmp_path / "a" / "model.keras")
