"""Shapes of weights that fit an input, and that do not."""

from typing import Any

import numpy as np
import pytest
from keras import ops

from batchnorm import BatchNormalization, batch_norm
from batchnorm.stages.weights import align
from tests import oracle
from tests.calling import called
from tests.compare import assert_close
from tests.differentiate import BACKEND, MODES, compiled, tensors, to_numpy


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
        # Of the input's rank, with 1 in the place of the channels.
        ((4, 5, 1), (4, 5, 3), (2,), (4, 5, 1)),
        ((4, 5, 6, 1), (4, 5, 6, 3), (3,), (4, 5, 6, 1)),
        ((1, 1, 1, 1), (4, 5, 6, 3), (3,), (1, 1, 1, 1)),
        ((4, 1, 6), (4, 3, 6), (1,), (4, 1, 6)),
        ((4, 1, 6), (4, 1, 6), (1,), (4, 1, 6)),
        ((4, 1), (4, 3), (1,), (4, 1)),
        ((4, 1, 6, 1), (4, 5, 6, 3), (1, 3), (4, 1, 6, 1)),
        ((4, 1, 1), (None, None, 3), (2,), (4, 1, 1)),
        # Ranks below the input's are read as before: a row per sample, and not per channel.
        ((4, 1), (4, 3, 6), (1,), (4, 1, 1)),
        ((1, 6), (4, 3, 6), (1,), (1, 1, 6)),
    ],
)
def test_align(
    weights: tuple[int, ...],
    shape: tuple[int | None, ...],
    axis: tuple[int, ...],
    aligned: tuple[int, ...],
) -> None:
    """Also for masks without the last axis, as Keras propagates them."""
    lacking = (axis, (len(shape) - 1,))
    assert tuple(align("mask", np.ones(weights), shape, lacking, "float32").shape) == aligned


@pytest.mark.parametrize(
    "weights", [(5,), (4, 6), (4, 5, 3), (4, 5, 6, 3), (4, 5, 7, 1), (5, 1, 1, 1), (1, 4, 5, 6, 1)]
)
def test_weights_that_do_not_fit(weights: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"a mask of .* does not fit.*\(4, 5, 6, 3\).*\(4,\)"):
        align("a mask", np.ones(weights), (4, 5, 6, 3), ((3,),), "float32")


def test_a_size_for_each_of_several_channel_axes() -> None:
    message = r"\(4, 5, 6, 1\) does not fit .* without them .* \(4, 6\).*\(4, 1, 6, 1\)"
    with pytest.raises(ValueError, match=message):
        align("sample_weight", np.ones((4, 5, 6, 1)), (4, 5, 6, 3), ((1, 3),), "float32")


LENGTHS = r"mask must be boolean or from 0 to 1, and holds 3.*ops.arange\(L\) < lengths.*sample_w"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8", "float32"])
def test_lengths_are_no_mask(dtype: str, training: bool) -> None:
    x, lengths = np.ones((2, 5, 3), "float32"), np.array([3, 1], dtype)
    with pytest.raises(ValueError, match=LENGTHS):
        BatchNormalization()(x, mask=lengths, training=training)
    BatchNormalization()(x, sample_weight=lengths, training=training)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "eager"])
def test_lengths_in_compiled_code_give_nan(mode: str) -> None:
    """It cannot be an error there."""
    x, lengths = tensors([np.ones((2, 5, 3), "float32"), np.array([3, 1], "int32")])
    state = {"moving_mean": np.zeros(3, "float32"), "moving_variance": np.ones(3, "float32")}
    step = compiled(lambda x, mask: batch_norm(x, state, training=True, mask=mask)[0], mode)
    assert np.isnan(to_numpy(step(x, lengths))).all()


@pytest.mark.parametrize("dtype", ["bool", "int32", "float32", "float16", "bfloat16"])
def test_a_mask_of_any_type(dtype: str) -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (4, 5, 3)).astype("float32")
    shown = np.arange(5) < np.array([[5], [3], [1], [2]])
    layer = BatchNormalization()
    layer.build(x.shape)
    mask = ops.cast(ops.convert_to_tensor(shown), dtype)
    expected = oracle.batch_norm(x, weights=shown.astype("float64")).y
    assert_close(called(layer, x, mask=mask), expected, 1e-5)
    layer(x, mask=mask)


def test_a_soft_mask_may_exceed_1_by_rounding() -> None:
    BatchNormalization()(
        np.ones((2, 3), "float32"), mask=np.array([1.00001, 0.5], "float32"), training=True
    )


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a mask of other samples": ({"mask": np.ones(5, bool)}, r"mask of shape \(5,\) does not fit"),
    "weights of other samples": ({"sample_weight": np.ones(5)}, r"weight of shape \(5,\) does not"),
    "negative": (
        {"sample_weight": np.array([1, -1, 1, 1], "float32")},
        "must not be negative, .* -1.0",
    ),
    "a negative mask": ({"mask": np.array([1, -1, 1, 1], "int32")}, "mask must not be negative"),
    "not a number": (
        {"sample_weight": np.array([1, np.nan, 1, 1], "float32")},
        "negative, and holds nan",
    ),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_inference_refuses_what_training_does(options: dict[str, Any], message: str) -> None:
    x = np.ones((4, 3), "float32")
    state = {"moving_mean": np.zeros(3, "float32"), "moving_variance": np.ones(3, "float32")}
    for training in (True, False):
        with pytest.raises(ValueError, match=message):
            BatchNormalization()(x, training=training, **options)
        with pytest.raises(ValueError, match=message):
            batch_norm(x, state, training=training, **options)


@pytest.mark.parametrize("mode", MODES)
def test_compiled_inference_refuses_shapes(mode: str) -> None:
    layer = BatchNormalization()
    layer.build((4, 3))
    step = compiled(lambda x, mask: layer(x, mask=mask), mode)
    with pytest.raises(ValueError, match=r"mask of shape \(5,\) does not fit"):
        step(*tensors([np.ones((4, 3), "float32"), np.ones(5, bool)]))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="a graph of TensorFlow's shows its operations")
def test_weights_leave_nothing_in_a_graph_for_inference() -> None:
    import tensorflow as tf

    layer = BatchNormalization()
    layer.build((4, 3))
    x, weights = tf.TensorSpec((4, 3)), tf.TensorSpec((4, 1))
    plain = tf.function(lambda x, w: layer(x)).get_concrete_function(x, weights)
    weighted = tf.function(lambda x, w: layer(x, sample_weight=w, mask=w))
    names = [
        sorted(op.type for op in function.graph.get_operations())
        for function in (plain, weighted.get_concrete_function(x, weights))
    ]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("shape", "axis", "weights"),
    [
        ((4, 3, 6), 1, (4, 1, 6)),
        ((4, 6, 3), -1, (4, 6, 1)),
        ((4, 5, 6, 3), -1, (4, 5, 6, 1)),
        ((4, 5, 6, 3), (1, 3), (4, 1, 6, 1)),
    ],
)
def test_weights_of_the_inputs_rank(shape: Any, axis: Any, weights: tuple[int, ...]) -> None:
    draw = np.random.default_rng(0)
    x = draw.normal(3.0, 2.0, shape).astype("float32")
    w = draw.uniform(0.0, 1.0, weights).astype("float32")
    axes = axis if isinstance(axis, tuple) else (axis % len(shape),)
    layer = BatchNormalization(axis=axis)
    layer.build(shape)
    state = {name: to_numpy(getattr(layer, name)) for name in ("moving_mean", "moving_variance")}
    expected = oracle.step(x, state, axis=axis, weights=w.squeeze(axes))
    assert_close(called(layer, x, sample_weight=w), expected.y, 1e-5)
    assert_close(
        called(layer, x, mask=w),
        oracle.step(x, expected.state, axis=axis, weights=w.squeeze(axes)).y,
        1e-5,
    )


def test_weights_of_channels_are_no_sample_weights() -> None:
    with pytest.raises(ValueError, match=r"\(4, 3\) does not fit .* \(4, 3, 6\) .* axis 1"):
        align("sample_weight", np.ones((4, 3)), (4, 3, 6), ((1,),), "float32")
