"""Measuring in a process of its own: it holds one backend, and one allocator.

`python -m batchnorm.benchmark.process JSON` is the other end; it writes a line of JSON a record.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from batchnorm.benchmark.asked import Asked
from batchnorm.benchmark.machine import TUNED
from batchnorm.train.run import RunError

Record = dict[str, Any]


def measured(backend: str, asked: Asked, tuned: bool) -> Iterator[Record]:
    """The records of `batchnorm.benchmark.measure.measured`, as they come.

    Args:
        backend: which.
        asked: what.
        tuned: whether the allocator is set to keep what is freed.

    Raises:
        RunError: the process ended before its time.
    """
    return _records(backend, {"asked": asked.to_json()}, tuned)


def peak(case: Record, name: str, tuned: bool) -> int:
    """What `batchnorm.benchmark.memory.peak` says.

    Args:
        case: with its backend, variant, shape and mode.
        name: the contestant's.
        tuned: as for `measured`.

    Raises:
        RunError: the process ended before its time.
    """
    given = {key: case[key] for key in ("variant", "shape", "mode")} | {"name": name}
    (record,) = _records(case["backend"], {"peak": given}, tuned)
    return int(record["peak"])


def _records(backend: str, given: Record, tuned: bool) -> Iterator[Record]:
    command = [sys.executable, "-m", __name__, json.dumps(given)]
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
                        raise RunError(f"Measuring on {backend} failed: {record['error']}")
                    yield record
            except BaseException:  # Ctrl-C, say: nobody listens any more
                process.terminate()
                raise
        if process.returncode:
            errors.seek(0)
            said = errors.read().strip().splitlines() or ["it said nothing"]
            raise RunError(f"Measuring on {backend} ended, {process.returncode}: {said[-1]}")


def main(given: Record) -> Iterator[Record]:
    """What the other process writes.

    Args:
        given: "asked", to measure, or "peak", for the memory of one contestant.
    """
    if "peak" in given:
        from batchnorm.benchmark.memory import peak

        yield {"peak": peak(**given["peak"])}
    else:
        from batchnorm.benchmark.measure import measured

        yield from measured(Asked.from_json(given["asked"]))


if __name__ == "__main__":
    # What a library prints is no record.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        for each in main(json.loads(sys.argv[1])):
            print(json.dumps(each), file=channel, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as failed:
        print(json.dumps({"error": f"{type(failed).__name__}: {failed}"}), file=channel)
