"""Results recorded from the original systems; see `../shared/golden/README.md`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.differentiate import Array

FOLDER = Path(__file__).resolve().parents[1].parent / "shared" / "golden"


@dataclass(frozen=True)
class Case:
    """One layer of an original, run for some steps.

    Attributes:
        record: its entry in the JSON file.
        arrays: by name, such as `x`, `y`, `dgamma`; a step a row, but for `g` and extra inputs.
        variables: by the last part of the name, `moving_mean`; row t is before step t.
    """

    record: dict[str, Any]
    arrays: dict[str, Array]
    variables: dict[str, Array]


def momentum(case: Case) -> float:
    """The momentum of the original, which rounded the rate to float32, by 1.5e-8 of 0.1, whatever
    the dtype of its variables."""
    kwargs = case.record["kwargs"]
    decay = kwargs.get("momentum", kwargs.get("decay"))
    return 1.0 - float(np.float32(1.0 - decay))


def adjustment(case: Case) -> Callable[[Any], tuple[Array, Array]]:
    """The adjustment of the original, which does not depend on the shape."""
    pair = (case.arrays["adj_scale"], case.arrays["adj_bias"])
    return lambda shape: pair


@cache
def cases(file: str = "reference_vectors") -> dict[str, Case]:
    """All cases of a file by id, in its order; none where the folder is absent."""
    if not FOLDER.is_dir():
        return {}
    lines = json.loads((FOLDER / f"{file}.json").read_text())["cases"]
    result = {line["id"]: Case(line, {}, {}) for line in lines}
    with np.load(FOLDER / f"{file}.npz") as arrays:
        for key in arrays.files:
            parts = key.split("/")
            at = max(at for at in (2, 3) if "/".join(parts[:at]) in result)
            case, name = result["/".join(parts[:at])], "/".join(parts[at:])
            if name.startswith("var/"):
                case.variables[name.rpartition("/")[2]] = arrays[key]
            else:
                case.arrays[name] = arrays[key]
    return result


def conditional() -> dict[str, Case]:
    """The cases of conditional batch normalization; their arrays have names such as `grad/x`."""
    return cases("cbn_reference")
