"""What the original systems computed; `../shared/golden/README.md` says how."""

import json
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
        about: its line in the JSON file.
        arrays: by name, such as `x`, `y`, `dgamma`; a step a row, but for `g` and extra inputs.
        variables: by the last part of the name, `moving_mean`; row t is before step t.
    """

    about: dict[str, Any]
    arrays: dict[str, Array]
    variables: dict[str, Array]


@cache
def cases(file: str = "reference_vectors") -> dict[str, Case]:
    """All of a file by id, in its order; none where the folder is absent."""
    if not FOLDER.is_dir():
        return {}
    lines = json.loads((FOLDER / f"{file}.json").read_text())["cases"]
    found = {line["id"]: Case(line, {}, {}) for line in lines}
    with np.load(FOLDER / f"{file}.npz") as arrays:
        for key in arrays.files:
            parts = key.split("/")
            at = max(at for at in (2, 3) if "/".join(parts[:at]) in found)
            case, name = found["/".join(parts[:at])], "/".join(parts[at:])
            if name.startswith("var/"):
                case.variables[name.rpartition("/")[2]] = arrays[key]
            else:
                case.arrays[name] = arrays[key]
    return found


def conditional() -> dict[str, Case]:
    """Those of conditional batch normalization, whose arrays have names such as `grad/x`."""
    return cases("cbn_reference")
