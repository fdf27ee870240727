"""Measurements in a process of their own, because a process holds one backend and one allocator.

`python -m batchnorm_app.benchmark.process JSON` is that process; it writes each record as a line of
JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from batchnorm_app.benchmark.machine import TUNED
from batchnorm_app.benchmark.request import BenchmarkRequest
from batchnorm_app.errors import UserError

Record = dict[str, Any]


def measure(backend: str, request: BenchmarkRequest, tuned: bool) -> Iterator[Record]:
    """Yields the records of `batchnorm_app.benchmark.measure.measure`, as they arrive.

    Args:
        backend: the backend to measure.
        request: the settings.
        tuned: make the allocator keep freed memory.

    Raises:
        UserError: the process ended early.
    """
    return _records(backend, {"request": request.to_json()}, tuned)


def peak_memory(case: Record, name: str, tuned: bool) -> int:
    """Returns the result of `batchnorm_app.benchmark.peak_memory.peak_memory`.

    Args:
        case: with its backend, variant, shape and mode.
        name: of the contestant.
        tuned: as for `measure`.

    Raises:
        UserError: the process ended early.
    """
    arguments = {key: case[key] for key in ("variant", "shape", "mode")} | {"name": name}
    (record,) = _records(case["backend"], {"peak_memory": arguments}, tuned)
    return int(record["peak_memory"])


def _records(backend: str, task: Record, tuned: bool) -> Iterator[Record]:
    command = [sys.executable, "-m", __name__, json.dumps(task)]
    environment = os.environ | {"KERAS_BACKEND": backend} | (TUNED if tuned else {})
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
        ) as process:
            assert process.stdout is not None
            try:
                for record in map(json.loads, process.stdout):
                    if "error" in record:
                        raise UserError(f"Measuring on {backend} failed: {record['error']}")
                    yield record
            except BaseException:  # such as Ctrl-C: nobody reads the records any more
                process.terminate()
                raise
        if process.returncode:
            errors.seek(0)
            lines = errors.read().strip().splitlines() or ["it said nothing"]
            raise UserError(f"Measuring on {backend} ended, {process.returncode}: {lines[-1]}")


def main(task: Record) -> Iterator[Record]:
    """Yields the records that the measuring process writes.

    Args:
        task: "request", to measure, or "peak_memory", for the memory of one contestant.
    """
    if "peak_memory" in task:
        from batchnorm_app.benchmark.peak_memory import peak_memory

        yield {"peak_memory": peak_memory(**task["peak_memory"])}
    else:
        from batchnorm_app.benchmark.measure import measure

        yield from measure(BenchmarkRequest.from_json(task["request"]))


if __name__ == "__main__":
    # The records have standard output to themselves; prints of libraries go to standard error.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        for record in main(json.loads(sys.argv[1])):
            print(json.dumps(record), file=channel, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}), file=channel)
