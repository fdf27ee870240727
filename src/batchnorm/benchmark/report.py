"""A benchmark from what is asked to a folder of results, to be interrupted at any time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich import table as rich_table
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from batchnorm.benchmark import process
from batchnorm.benchmark.asked import BACKENDS, Asked, text
from batchnorm.benchmark.machine import environment, machine
from batchnorm.benchmark.models import MODELS
from batchnorm.benchmark.picture import draw
from batchnorm.benchmark.tables import number, tables
from batchnorm.train.bar import Bar
from batchnorm.train.run import RunError, atomic, write_json

Record = dict[str, Any]

SMALLEST = 2**25  # bytes of an x beside which what the process itself takes is little
JSON, MARKDOWN, PICTURE = "benchmark.json", "benchmark.md", "benchmark.png"


def refuse_to_overwrite(folder: Path) -> None:
    """Checks that results may be written to a folder, before anything slow is done.

    Raises:
        RunError: it is a file, or something is in it that is no benchmark.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, not a folder: name another with --output.")
    others = {path.name for path in folder.glob("*")} - {JSON, MARKDOWN, PICTURE}
    if others:
        raise RunError(
            f"{folder} holds something else, such as {min(others)}: name another folder with "
            "--output."
        )


def benchmark(
    backends: Sequence[str], asked: Asked, tuned: bool, folder: Path, console: Console
) -> Record:
    """Measures, and writes and prints what was measured.

    Args:
        backends: which, one after the other.
        asked: what.
        tuned: whether the measuring processes have an allocator that keeps what is freed.
        folder: receives `benchmark.json`, after each case; in the end, and after Ctrl-C, also
            `benchmark.md` and `benchmark.png`.
        console: shows the progress and the tables.

    Returns:
        What `benchmark.json` holds.

    Raises:
        RunError: a measuring process failed, or a file cannot be written; what was measured until
            then is in `benchmark.json`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report: Record = {
        "machine": machine(),
        "environment": environment(tuned),
        "tuned": tuned,
        "asked": asked.to_json(),
        "complete": False,
        "backends": {},
        "cases": [],
        "steps": [],
    }
    try:
        _measure(report, backends, asked, tuned, folder / JSON, console)
        report["complete"] = True
    finally:
        write_json(folder / JSON, report)
        if report["cases"] or report["steps"]:
            _show(report, folder, console)
    return report


def _measure(
    report: Record,
    backends: Sequence[str],
    asked: Asked,
    tuned: bool,
    path: Path,
    console: Console,
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bar(console, *columns, TimeElapsedColumn()) as bar:
        shown = bar.bar.add_task("", total=sum(_count(each, asked) for each in backends))
        for backend in backends:
            bar.bar.update(shown, description=BACKENDS[backend])
            for record in process.measured(backend, asked, tuned):
                for line in _take(report, record):
                    bar.tell(line)
                if "about" not in record:
                    bar.bar.advance(shown)
                    write_json(path, report)
        if asked.memory:
            bar.bar.update(shown, description="memory")
            for case in report["cases"]:
                if case["mode"] == asked.usual_mode(case["backend"]):
                    _add_peaks(case, tuned)
                write_json(path, report)


def _count(backend: str, asked: Asked) -> int:
    """How many records a backend will have."""
    cases = len(asked.shapes) * len(asked.variants) * len(asked.modes_of(backend))
    return cases * len(asked.passes) + (len(MODELS) if asked.steps else 0)


def _take(report: Record, record: Record) -> Iterator[str]:
    """Puts a record in its place, and says what it is."""
    if about := record.get("about"):
        report["backends"][about["backend"]] = about
        yield ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        yield from about["notes"]
    elif step := record.get("step"):
        report["steps"].append(step)
        yield f"{step['backend']} {step['model']}: {_times(step)}"
    else:
        case = record["case"]
        report["cases"].append(case)
        where = f"{case['backend']} {case['variant']} {text(case['shape'])} {case['mode']}"
        limit = f"limit {number(case['limit']['quickest'])} ms"
        yield f"{where} {case['pass']}: {_times(case)}; {limit}"


def _times(record: Record) -> str:
    return ", ".join(
        f"{name} {number(each['seconds']['median'])} ms ({each['times_ours']['median']:.2f}x)"
        for name, each in record["contestants"].items()
    )


def _add_peaks(case: Record, tuned: bool) -> None:
    if case["pass"] != "forward+backward" or case["x_bytes"] < SMALLEST:
        return
    for name, each in case["contestants"].items():
        found = process.peak(case, name, tuned)
        each["peak_bytes"], each["peak"] = found, found / case["x_bytes"]


def heading(report: Record) -> list[str]:
    """The machine, the environment and the versions, a line each."""
    about = report["machine"]
    memory = f"{about['memory_bytes'] / 2**30:.0f} GiB, " if about["memory_bytes"] else ""
    versions = {
        name: version
        for each in report["backends"].values()
        for name, version in each["versions"].items()
    }
    values = report["environment"].items()
    largest = max(report["cases"], key=lambda case: case["x_bytes"], default=None)
    notes = [note for each in report["backends"].values() for note in each["notes"]]
    return [
        f"{about['processor']}, {about['cores']} cores, {memory}{about['platform']}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        "environment: " + ", ".join(f"{name}={value or '(not set)'}" for name, value in values),
        f"float32, medians of {report['asked']['rounds']} rounds, ± half the way between quartiles",
        *([_copied(largest)] if largest else []),
        *notes,
        *([] if report["complete"] else ["incomplete: it ended before all was measured"]),
    ]


def _copied(case: Record) -> str:
    size, speed = case["x_bytes"] / 1e6, case["bandwidth"] / 1e9
    return f"memory: {speed:.3g} GB/s, read and written, in copies of {size:.3g} MB"


def _show(report: Record, folder: Path, console: Console) -> None:
    """Writes the tables and the picture, and prints the tables."""
    lines = heading(report)
    with atomic(folder / MARKDOWN) as temporary:
        parts = [*lines, *("\n".join(table.markdown()) for table in tables(report))]
        temporary.write_text("\n\n".join(parts) + "\n", "utf-8")
    if report["cases"]:
        with atomic(folder / PICTURE) as temporary:
            draw(report["cases"], temporary)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for each in tables(report):
        table = rich_table.Table(title=each.title)
        for number_of, column in enumerate(each.columns):
            table.add_column(Text(column), no_wrap=number_of < 2, overflow="fold")
        for row in each.rows:
            table.add_row(*map(Text, row))
        console.print(table)
    console.print(f"Written: {folder}", markup=False, highlight=False, soft_wrap=True)
