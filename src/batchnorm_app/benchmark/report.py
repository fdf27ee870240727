"""Runs a benchmark and writes its folder of results; it may be interrupted at any time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from batchnorm_app.benchmark import process
from batchnorm_app.benchmark.machine import environment, machine
from batchnorm_app.benchmark.picture import draw
from batchnorm_app.benchmark.request import BACKENDS, BenchmarkRequest, format_shape
from batchnorm_app.benchmark.tables import format_ms, tables
from batchnorm_app.benchmark.training_steps import MODELS
from batchnorm_app.console import say
from batchnorm_app.errors import UserError
from batchnorm_app.files import atomic, write_json
from batchnorm_app.progress import Bar

Record = dict[str, Any]

MIN_PEAK_BYTES = 2**25  # of x; beside less, the memory of the process itself would show
JSON, MARKDOWN, PICTURE = "benchmark.json", "benchmark.md", "benchmark.png"


def refuse_to_overwrite(folder: Path) -> None:
    """Raises unless results may be written to a folder, before the slow work starts.

    Raises:
        UserError: it is a file, or holds something other than a benchmark.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder: name another with --output.")
    foreign = {path.name for path in folder.glob("*")} - {JSON, MARKDOWN, PICTURE}
    if foreign:
        raise UserError(
            f"{folder} holds something else, such as {min(foreign)}: name another folder with "
            "--output."
        )


def benchmark(
    backends: Sequence[str],
    request: BenchmarkRequest,
    tuned: bool,
    folder: Path,
    console: Console,
) -> Record:
    """Measures, and writes and prints the results.

    Args:
        backends: measured one after the other.
        request: the settings.
        tuned: make the allocator of the measuring processes keep freed memory.
        folder: receives `benchmark.json`, after each case; in the end, and after Ctrl-C, also
            `benchmark.md` and `benchmark.png`.
        console: shows the progress and the tables.

    Returns:
        The content of `benchmark.json`.

    Raises:
        UserError: a measuring process failed, or a file cannot be written; `benchmark.json` then
            holds the results so far.
    """
    folder.mkdir(parents=True, exist_ok=True)
    report: Record = {
        "machine": machine(),
        "environment": environment(tuned),
        "tuned": tuned,
        "asked": request.to_json(),
        "complete": False,
        "backends": {},
        "cases": [],
        "steps": [],
    }
    try:
        _measure(report, backends, request, tuned, folder / JSON, console)
        report["complete"] = True
    finally:
        write_json(folder / JSON, report)
        if report["cases"] or report["steps"]:
            _show(report, folder, console)
    return report


def _measure(
    report: Record,
    backends: Sequence[str],
    request: BenchmarkRequest,
    tuned: bool,
    path: Path,
    console: Console,
) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Bar(console, *columns, TimeElapsedColumn()) as bar:
        total = sum(_record_count(backend, request) for backend in backends)
        task = bar.bar.add_task("", total=total)
        for backend in backends:
            bar.bar.update(task, description=BACKENDS[backend])
            for record in process.measure(backend, request, tuned):
                for line in _add(report, record):
                    bar.tell(line)
                if "about" not in record:
                    bar.bar.advance(task)
                    write_json(path, report)
        if request.memory:
            bar.bar.update(task, description="memory")
            for case in report["cases"]:
                if case["mode"] == request.default_mode(case["backend"]):
                    _add_peaks(case, tuned)
                write_json(path, report)


def _record_count(backend: str, request: BenchmarkRequest) -> int:
    """Returns the number of records that a backend will yield."""
    cases = len(request.shapes) * len(request.variants) * len(request.modes_of(backend))
    return cases * len(request.passes) + (len(MODELS) if request.steps else 0)


def _add(report: Record, record: Record) -> Iterator[str]:
    """Adds a record to the report, and yields the lines that describe it."""
    if description := record.get("about"):
        report["backends"][description["backend"]] = description
        yield ", ".join(f"{name} {version}" for name, version in description["versions"].items())
        yield from description["notes"]
    elif step := record.get("step"):
        report["steps"].append(step)
        yield f"{step['backend']} {step['model']}: {_times(step)}"
    else:
        case = record["case"]
        report["cases"].append(case)
        shape = format_shape(case["shape"])
        name = f"{case['backend']} {case['variant']} {shape} {case['mode']} {case['pass']}"
        yield f"{name}: {_times(case)}; limit {format_ms(case['limit']['quickest'])} ms"


def _times(record: Record) -> str:
    return ", ".join(
        f"{name} {format_ms(figures['seconds']['median'])} ms "
        f"({figures['times_ours']['median']:.2f}x)"
        for name, figures in record["contestants"].items()
    )


def _add_peaks(case: Record, tuned: bool) -> None:
    if case["pass"] != "forward+backward" or case["x_bytes"] < MIN_PEAK_BYTES:
        return
    for name, figures in case["contestants"].items():
        peak = process.peak_memory(case, name, tuned)
        figures["peak_bytes"], figures["peak"] = peak, peak / case["x_bytes"]


def heading(report: Record) -> list[str]:
    """Returns a line each for the machine, the versions, the environment and every note."""
    machine = report["machine"]
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB, " if machine["memory_bytes"] else ""
    versions = {
        name: version
        for backend in report["backends"].values()
        for name, version in backend["versions"].items()
    }
    values = report["environment"].items()
    largest = max(report["cases"], key=lambda case: case["x_bytes"], default=None)
    notes = [note for backend in report["backends"].values() for note in backend["notes"]]
    return [
        f"{machine['processor']}, {machine['cores']} cores, {memory}{machine['platform']}",
        ", ".join(f"{name} {version}" for name, version in versions.items()),
        "environment: " + ", ".join(f"{name}={value or '(not set)'}" for name, value in values),
        f"float32, medians of {report['asked']['rounds']} rounds, ± half the interquartile range",
        *([_bandwidth(largest)] if largest else []),
        *notes,
        *([] if report["complete"] else ["incomplete: the run ended before its last measurement"]),
    ]


def _bandwidth(case: Record) -> str:
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
        say(line, console)
    for table in tables(report):
        rich_table = Table(title=table.title)
        for index, column in enumerate(table.columns):
            rich_table.add_column(Text(column), no_wrap=index < 2, overflow="fold")
        for row in table.rows:
            rich_table.add_row(*map(Text, row))
        console.print(rich_table)
    say(f"Written: {folder}", console)
