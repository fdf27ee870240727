"""Shapes of weights that fit an input, and that do not."""

import numpy as np
import pytest

from batchnorm.weights import align


@pytest.mark.parametrize(
    ("weights", "shape", "axis", "aligned"),
    [
        ((4,), (4, 5, 6, 3), (3,), (4, 1, 1, 1)),
        ((4, 5), (4, 5, 6, 3), (3,), (4, 5, 1, 1)),
        ((4, 1, 6), (4, 5, 6, 3), (3,), (4, 1, 6, 1)),
        ((4, 6), (4, 3, 6), (1,), (4, 1, 6)),
        ((4,), (4, 3, 6), (1,), (4, 1, 1)),
        ((4, 3), (4, 3, 6), (1,), (4, 3, 1)),
        ((), (4, 3), (1,), (1, 1)),
        ((4,), (None, 3), (1,), (4, 1)),
        ((4, 6), (4, 5, 6, 3), (1, 3), (4, 1, 6, 1)),
        ((4,), (4, 5, 6, 3), (1, 3), (4, 1, 1, 1)),
        ((4, 5, 6), (4, 5, 6, 3), (1, 3), (4, 5, 6, 1)),
    ],
)
def test_align(
    weights: tuple[int, ...],
    shape: tuple[int | None, ...],
    axis: tuple[int, ...],
    aligned: tuple[int, ...],
) -> None:
    """Also a mask without the last axis, as Keras hands them on."""
    lacking = (axis, (len(shape) - 1,))
    assert tuple(align("mask", np.ones(weights), shape, lacking, "float32").shape) == aligned


@pytest.mark.parametrize("weights", [(5,), (4, 6), (4, 5, 6, 1), (1, 1, 1, 1), (4, 5, 3)])
def test_weights_that_do_not_fit(weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a mask of .* does not fit.*\(4, 5, 6, 3\).*\(4,\)"):
        align("a mask", np.ones(weights), (4, 5, 6, 3), ((3,),), "float32")


def test_weights_of_channels_are_no_sample_weights() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\) does not fit .* \(4, 3, 6\) .* axis 1"):
        align("sample_weight", np.ones((4, 3)), (4, 3, 6), ((1,),), "float32")
