import time
from collections.abc import Callable

import numpy as np
import pytest

from batchnorm.benchmark.rounds import results, seconds, spread


def sleeper(duration: float) -> Callable[[], None]:
    return lambda: time.sleep(duration)


def test_what_is_slower_by_construction_has_a_larger_median() -> None:
    took = seconds([sleeper(0.002), sleeper(0.008)], 5)
    fast, slow = results(["batchnorm", "slow"], took)["contestants"].values()
    assert took.shape == (5, 2) and (took > 0).all()
    assert fast["seconds"]["median"] >= 0.002 and slow["seconds"]["median"] >= 0.008
    assert 2 < slow["times_ours"]["median"] <= 4.5
    assert set(fast["times_ours"].values()) == {1.0}


def test_they_take_turns() -> None:
    calls: list[str] = []
    seconds([lambda: calls.append("a"), lambda: calls.append("b")], 3)
    # Two calls that do not count, and a turn.
    assert "".join(calls) == "ab" + "ab" + "ab" + 3 * "ab"


def test_what_is_short_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(np.arange(0, 1000, 0.5))  # every call takes half a second, as it seems
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    calls: list[int] = []
    took = seconds([lambda: calls.append(0)], 2, least=2.0)
    assert len(calls) == 2 + 3 * 4
    assert took.tolist() == [[0.125], [0.125]]


def test_the_median_and_the_quartiles() -> None:
    assert spread(np.array([5.0, 1.0, 2.0, 4.0, 3.0])) == {"lower": 2, "median": 3, "upper": 4}


def test_ratios_are_those_of_the_same_round() -> None:
    took = np.array([[1.0, 2.0], [10.0, 30.0], [100.0, 400.0]])
    found = results(["batchnorm", "b"], took, limit=np.array([0.5, 7.0]))
    assert found["rounds"] == 3 and found["limit"]["quickest"] == 0.5
    other = found["contestants"]["b"]
    assert other["seconds"]["median"] == 30 and other["times_ours"]["median"] == 3
    assert other["times_limit"] == {"lower": 32, "median": 60, "upper": 430}
    assert "limit" not in results(["batchnorm", "b"], took)
