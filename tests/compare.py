"""One comparison for all tests, strict about shapes and about NaN."""

import numpy as np
import numpy.typing as npt


def assert_close(actual: npt.ArrayLike, expected: npt.ArrayLike, tolerance: float) -> None:
    """Fails unless |actual - expected| <= tolerance * max(1, |expected|) in every element.

    Shapes must be equal, not merely broadcast; NaN equals NaN and nothing else, and an infinity
    equals the same infinity and nothing else.
    """
    a = np.asarray(actual).astype(np.float64)
    e = np.asarray(expected).astype(np.float64)
    if a.shape != e.shape:
        raise AssertionError(f"shape {a.shape} is not the expected shape {e.shape}")
    if not a.size:
        return
    same = (a == e) | (np.isnan(a) & np.isnan(e))
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(a - e) / np.maximum(1.0, np.abs(e))
    # What is not the same and has no number for its error, as NaN beside 1, is infinitely wrong.
    error = np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
    wrong = ~(error <= tolerance)
    if wrong.any():
        index = tuple(int(i) for i in np.unravel_index(np.argmax(error), error.shape))
        raise AssertionError(
            f"error {error[index]:.3g} is above the tolerance {tolerance:.3g} at index {index}: "
            f"{a[index]} instead of {e[index]}; {wrong.sum()} of {wrong.size} elements are wrong"
        )
