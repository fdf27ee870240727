"""Claims of docs/small_batches.md that also hold clearly on the images in the package."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.no_backend

SCRIPT = Path(__file__).resolve().parents[1] / "experiments" / "small_batches.py"
SCOPE: dict[str, Any] = runpy.run_path(str(SCRIPT))
DATA = SCOPE["load"]("fashion-mnist-sample")


@pytest.mark.parametrize(("runs", "limit"), [(0, 10), (1, 1), (2, 2)])
def test_batches(runs: int, limit: int) -> None:
    labels = DATA.train.labels
    batches = SCOPE["epoch"](labels, SCOPE["Condition"](32, runs, ()), np.random.default_rng(0))
    assert batches.shape[1] == 32 and 176 <= len(batches) <= 187
    assert len(np.unique(batches)) == batches.size
    classes = [len(np.unique(labels[rows])) for rows in batches]
    assert max(classes) <= limit and np.mean(classes) > 0.85 * limit


def test_an_order_continues_after_an_epoch() -> None:
    rows = SCOPE["order"](DATA.train.labels, SCOPE["Condition"](32, 1, (400,)), 0)
    assert rows.shape == (400, 32)
    assert not (rows[:187] == rows[187:374]).all()


def last_record(name: str, rate: float, size: int, runs: int, steps: int) -> Any:
    SCOPE["CONDITIONS"]["test"] = SCOPE["Condition"](size, runs, (steps // 2, steps))
    return list(SCOPE["train"]("test", name, DATA, rate, seed=0))[-1]


@pytest.mark.slow
def test_zero_debiased_infers_well_from_the_first_steps() -> None:
    plain, debiased = (last_record(name, 1e-3, 4, 0, 100) for name in ("plain", "zero-debiased"))
    assert debiased.inference > plain.inference + 0.2
    assert debiased.training == pytest.approx(plain.training, abs=0.05)


@pytest.mark.slow
def test_renorm_infers_as_it_trains_where_plain_does_not() -> None:
    plain, renorm = (last_record(name, 1e-2, 32, 1, 2000) for name in ("plain", "renorm"))
    assert plain.training > plain.inference + 0.3
    assert abs(renorm.training - renorm.inference) < 0.2
    assert renorm.inference > plain.inference + 0.1
