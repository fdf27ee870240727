import time
from collections.abc import Callable

import numpy as np
import pytest

from batchnorm_app.benchmark.timing import results, seconds, spread

pytestmark = pytest.mark.no_backend


def sleeper(duration: float) -> Callable[[], None]:
    return lambda: time.sleep(duration)


def test_a_slower_function_has_a_larger_median() -> None:
    times = seconds([sleeper(0.002), sleeper(0.008)], 5)
    fast, slow = results(["batchnorm", "slow"], times)["contestants"].values()
    assert times.shape == (5, 2) and (times > 0).all()
    assert fast["seconds"]["median"] >= 0.002 and slow["seconds"]["median"] >= 0.008
    assert 2 < slow["times_ours"]["median"] <= 4.5
    assert set(fast["times_ours"].values()) == {1.0}


def test_functions_take_turns() -> None:
    calls: list[str] = []
    seconds([lambda: calls.append("a"), lambda: calls.append("b")], 3)
    # Two calls and one turn are not timed.
    assert "".join(calls) == "ab" + "ab" + "ab" + 3 * "ab"


def test_a_fast_function_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 0.5))  # every call takes half a second, as it seems
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    calls: list[int] = []
    times = seconds([lambda: calls.append(0)], 2, min_seconds=2.0)
    assert len(calls) == 2 + 3 * 4
    assert times.tolist() == [[0.125], [0.125]]


def test_the_median_and_the_quartiles() -> None:
    assert spread(np.array([5.0, 1.0, 2.0, 4.0, 3.0])) == {"lower": 2, "median": 3, "upper": 4}


def test_ratios_are_those_of_the_same_round() -> None:
    times = np.array([[1.0, 2.0], [10.0, 30.0], [100.0, 400.0]])
    figures = results(["batchnorm", "b"], times, limit=np.array([0.5, 7.0]))
    assert figures["rounds"] == 3 and figures["limit"]["quickest"] == 0.5
    other = figures["contestants"]["b"]
    assert other["seconds"]["median"] == 30 and other["times_ours"]["median"] == 3
    assert other["times_limit"] == {"lower": 32, "median": 60, "upper": 430}
    assert "limit" not in results(["batchnorm", "b"], times)
