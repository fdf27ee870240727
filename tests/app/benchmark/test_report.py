"""The files, the picture and the tables of a benchmark's records."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from batchnorm_app.benchmark import process, report
from batchnorm_app.benchmark.machine import ENVIRONMENT, TUNED
from batchnorm_app.benchmark.request import BenchmarkRequest
from batchnorm_app.errors import UserError
from tests.app.benchmark.records import records

pytestmark = pytest.mark.no_backend

SMALL = BenchmarkRequest(shapes=((8, 4, 4, 2), (8, 3)), variants=("plain", "conditional"), rounds=3)


@pytest.fixture(autouse=True)
def made_up_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        process, "measure", lambda backend, request, tuned: records(backend, request)
    )
    monkeypatch.setattr(process, "peak_memory", lambda *_: 2**26)


def run(
    folder: Path, request: BenchmarkRequest = SMALL, tuned: bool = False
) -> tuple[dict[str, Any], str]:
    """Returns the content of the JSON file and the printed text."""
    console = Console(file=io.StringIO(), width=200)
    report.benchmark(["tensorflow", "torch"], request, tuned, folder, console)
    assert isinstance(console.file, io.StringIO)
    return json.loads((folder / "benchmark.json").read_text()), console.file.getvalue()


def test_the_keys_of_the_json(tmp_path: Path) -> None:
    content, _ = run(tmp_path / "new" / "folder")
    assert content["machine"].keys() == {"processor", "cores", "memory_bytes", "platform", "python"}
    assert content["environment"].keys() == set(ENVIRONMENT) and content["machine"]["cores"] >= 1
    assert content["machine"]["processor"] and content["complete"] and not content["tuned"]
    assert BenchmarkRequest.from_json(content["asked"]) == SMALL
    assert content["backends"]["torch"]["versions"] == {"torch": "1.2.3"}
    expected = [
        r["case"] for b in ("tensorflow", "torch") for r in records(b, SMALL) if "case" in r
    ]
    assert content["cases"] == expected
    assert [step["backend"] for step in content["steps"]] == ["tensorflow", "torch"]


def test_the_environment_is_that_of_the_measuring_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    content, text = run(tmp_path / "tuned", tuned=True)
    assert content["tuned"] and content["environment"]["OMP_NUM_THREADS"] == "7"
    assert {name: content["environment"][name] for name in TUNED} == TUNED
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
    title = "**PyTorch, plain: kept for the backward pass, in units of x**"
    assert f"{title}\n\n| shape | batchnorm | Keras | torch.nn |\n|---|---|---|---|\n" in page
    # Steps of 4, 6 and 2 ms.
    assert "| PyTorch | LeNet, 128 of 28x28x1 | 4.00 ±0.400 |" in page and "| 2.00x |" in page
    assert f"Written: {tmp_path}" in text


def test_each_case_is_printed_when_it_is_measured(tmp_path: Path) -> None:
    _, text = run(tmp_path)
    line = (
        "torch plain 8x3 eager forward+backward: batchnorm 2.00 ms (1.00x), Keras 4.00 ms (2.00x)"
    )
    assert line in text


def test_peak_memory_on_request(tmp_path: Path) -> None:
    request = BenchmarkRequest.from_json(SMALL.to_json() | {"memory": True})
    content, text = run(tmp_path, request)
    with_peak = [c for c in content["cases"] if "peak" in c["contestants"]["batchnorm"]]
    assert {(c["pass"], c["mode"]) for c in with_peak} == {
        ("forward+backward", "graph"),
        ("forward+backward", "eager"),
    }
    assert with_peak[0]["contestants"]["Keras"]["peak"] == 2.0
    assert "PyTorch, plain: peak memory, in units of x" in text


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("the process ended")])
def test_an_interrupted_benchmark_keeps_its_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def cut_short(backend: str, request: BenchmarkRequest, tuned: bool) -> Iterator[dict[str, Any]]:
        yield from records(backend, request)[:4]
        on_disk = json.loads((tmp_path / "benchmark.json").read_text())
        assert len(on_disk["cases"]) == 3  # written after each case, in case the process is killed
        raise error

    monkeypatch.setattr(process, "measure", cut_short)
    with pytest.raises(type(error)):
        run(tmp_path)
    content = json.loads((tmp_path / "benchmark.json").read_text())
    assert len(content["cases"]) == 3 and not content["complete"]
    assert (tmp_path / "benchmark.png").read_bytes().startswith(b"\x89PNG")
    assert "incomplete" in (tmp_path / "benchmark.md").read_text()


def test_without_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "measure", lambda *_: iter(()))
    content, _ = run(tmp_path)
    assert content["cases"] == [] and not (tmp_path / "benchmark.png").exists()


def test_only_benchmarks_are_written_over(tmp_path: Path) -> None:
    run(tmp_path / "a")
    report.refuse_to_overwrite(tmp_path / "a")
    report.refuse_to_overwrite(tmp_path / "b")
    (tmp_path / "a" / "model.keras").touch()
    with pytest.raises(UserError, match=r"something else, such as model\.keras"):
        report.refuse_to_overwrite(tmp_path / "a")
    with pytest.raises(UserError, match="is a file"):
        report.refuse_to_overwrite(tmp_path / "a" / "model.keras")
