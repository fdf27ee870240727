"""What the original TensorFlow systems computed; `../shared/golden/README.md` says how."""

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
def cases() -> dict[str, Case]:
    """All by id, in the order of the file; none where the folder is absent."""
    if not FOLDER.is_dir():
        return {}
    lines = json.loads((FOLDER / "reference_vectors.json").read_text())["cases"]
    found = {line["id"]: Case(line, {}, {}) for line in lines}
    with np.load(FOLDER / "reference_vectors.npz") as file:
        for key in file.files:
            case, variable, name = key.partition("/var/")
            if variable:
                found[case].variables[name.rpartition("/")[2]] = file[key]
            else:
                case, _, name = key.rpartition("/")
                found[case].arrays[name] = file[key]
    return found
