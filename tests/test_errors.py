"""Errors for bad input: the value received, the values allowed, and the fix."""

import re
from collections.abc import Callable
from inspect import signature
from typing import Any

import keras
import numpy as np
import pytest

from batchnorm import (
    BatchNormalization,
    ConditionalBatchNormalization,
    Exponential,
    FromEmbedding,
    Ghost,
    Given,
    PerClass,
    Pooled,
    Ramp,
    Renorm,
    ZeroDebiased,
    batch_norm,
)
from batchnorm.slots import combinations
from tests.compare import assert_close
from tests.differentiate import BACKEND, MODES, compiled, precision, tensors, to_numpy

PARAMETERS = signature(BatchNormalization).parameters
DEFAULTS = {name: parameter.default for name, parameter in PARAMETERS.items()}
STATE = {"moving_mean": np.zeros(3, "float32"), "moving_variance": np.ones(3, "float32")}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 1.0}, r"momentum should be in \[0, 1\), .*received 1.0"),
        ({"momentum": -0.1}, r"momentum should be in \[0, 1\), .*received -0.1"),
        ({"momentum": float("nan")}, r"momentum should be in \[0, 1\), .*received nan"),
        ({"momentum": True}, r"momentum should be in \[0, 1\), .*received True"),
        ({"momentum": "0.9"}, "momentum should be in .*received '0.9'"),
        ({"epsilon": -1e-3}, "epsilon must be at least 0, received -0.001"),
        ({"epsilon": float("nan")}, "epsilon must be at least 0, received nan"),
        ({"epsilon": "1e-3"}, "epsilon must be at least 0, received '1e-3'"),
        ({"epsilon": None}, "epsilon must be at least 0, received None"),
        ({"epsilon": True}, "epsilon must be at least 0, received True"),
        ({"axis": 1.5}, r"axis must be an integer, or several .*received 1.5.* -1 for channels la"),
        ({"axis": True}, "axis must be an integer, or several .*received True"),
        ({"axis": None}, "axis must be an integer, or several .*received None"),
        ({"axis": "channels_last"}, "axis must be .*received 'channels_last'.* -1 for channels la"),
        ({"axis": (1, 2.0)}, r"axis must be an integer, or several .*received \(1, 2.0\)"),
        ({"axis": []}, r"axis must be an integer, or several .*received \[\]"),
        ({"center": "yes"}, "center must be True or False; received 'yes'"),
        ({"scale": None}, "scale must be True or False; received None"),
        ({"scale": 0.5}, "scale must be True or False; received 0.5"),
        ({"synchronized": "auto"}, "synchronized must be True or False; received 'auto'"),
        ({"affine": False}, "None; received False. For PyTorch's affine=False write center=False"),
        ({"affine": True}, "None; received True. For PyTorch's affine=True leave it out"),
        ({"moving": 0.9}, r"moving must be an object like ZeroDebiased\(0.9\).*received 0.9"),
        ({"moving": Exponential}, r"moving must be an object like ZeroDebiased\(0.9\)"),
        ({"moving": keras.layers.Dropout(0.5)}, "moving must be an object like"),
        ({"moving": "ema"}, "moving must be an object .* received 'ema'"),
        ({"statistics": 32}, r"statistics must be an object like Ghost\(32\), .*received 32"),
        ({"statistics": Ghost}, r"statistics must be an object like Ghost\(32\)"),
        ({"affine": (1.0, 0.0)}, r"affine must be an object like PerClass\(10\), .*received \(1"),
        ({"affine": 10}, r"affine must be an object like PerClass\(10\), or None; received 10"),
        ({"affine": PerClass}, r"affine must be an object like PerClass\(10\), .*PerClass'>"),
        ({"affine": Ghost(2)}, r"affine must be an object like PerClass\(10\), .*Ghost\(size=2"),
        ({"adjustment": (1.0, 0.0)}, "adjustment must be an object like lambda shape"),
        ({"renorm": 3.0}, r"renorm must be an object like Renorm\(rmax=3, dmax=5\), True"),
        ({"activation": "rleu"}, "rleu"),
        ({"renorm": True, "renorm_clipping": {"rmx": 1.0}}, r"keys .*\['rmx'\].*rmin, rmax"),
        ({"renorm": True, "renorm_clipping": {"rmax": 1, "rmin": 2}}, "rmin should be .*ived 2"),
        ({"renorm": True, "renorm_clipping": {"rmin": -1.0}}, "rmin should be .*received -1.0"),
        ({"renorm": True, "renorm_clipping": {"rmax": 0.9}}, "rmax should be at least 1.*0.9"),
        ({"renorm": True, "renorm_clipping": {"dmax": -1.0}}, "dmax should be .*received -1.0"),
        ({"renorm": True, "renorm_momentum": 1.5}, "renorm_momentum should be .*received 1.5"),
    ],
)
def test_the_constructor_refuses(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BatchNormalization(**arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Renorm(rmin=1.5), r"rmin should be in \[0, 1\], .*received 1.5"),
        (lambda: Renorm(rmax=0.5), "rmax should be at least 1, .*received 0.5"),
        (lambda: Renorm(rmax=float("nan")), "rmax should be at least 1, .*received nan"),
        (lambda: Renorm(rmax=lambda step: 3.0), "rmax should be .*LearningRateSchedule; received"),
        (lambda: Renorm(dmax=-0.1), "dmax should be non-negative, .*received -0.1"),
        (lambda: Renorm(momentum=1.0), "momentum should be .*received 1.0"),
        (lambda: Ghost(0), "size must be a positive integer.* Received 0"),
        (
            lambda: Ghost(2.0),  # type: ignore[arg-type]
            "size must be a positive integer.* Received 2.0",
        ),
        (lambda: Ghost(True), "size must be a positive integer.* Received True"),
        (lambda: PerClass(0), r"PerClass\(classes\) must be a positive integer; received 0"),
        (lambda: PerClass(True), r"positive integer; received True. How many classes are there"),
        (lambda: PerClass(2.0), r"received 2.0"),  # type: ignore[arg-type]
        (lambda: ConditionalBatchNormalization(-1), r"PerClass\(classes\) must be .*received -1"),
        (
            lambda: FromEmbedding(0),
            r"FromEmbedding\(units\) must be a positive .*received 0. None",
        ),
        (lambda: FromEmbedding(2.5), "received 2.5"),  # type: ignore[arg-type]
        (lambda: FromEmbedding(initializer=None), r"\(initializer\) must say how the matrices"),
        (lambda: FromEmbedding(initializer="glorp"), "glorp"),
        (
            lambda: FromEmbedding(4, bias="zeros"),  # type: ignore[arg-type]
            r"FromEmbedding\(bias\) must be True or False; received 'zeros'",
        ),
        (
            lambda: FromEmbedding(4, spectral_normalization=1),  # type: ignore[arg-type]
            r"FromEmbedding\(spectral_normalization\) must be True or False; received 1",
        ),
        (lambda: Exponential(1.0), "momentum should be .*received 1.0"),
        (lambda: ZeroDebiased(-1.0), "momentum should be .*received -1.0"),
        (lambda: Ramp(0.0, 1.0, 5, 5), "end must be above begin; received begin=5, end=5"),
    ],
)
def test_the_slots_values_refuse(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"moving": ZeroDebiased(0.9), "momentum": 0.9}, r"moving=Exponential\(0.9\)"),
    ({"renorm": Renorm(), "renorm_clipping": {"rmax": 3.0}}, "those of the object"),
    ({"renorm": Renorm(), "renorm_momentum": 0.9}, "those of the object"),
    ({"renorm": True, "moving": Pooled()}, "Pooled has none"),
    ({"affine": Given(), "center": False}, "gamma and a beta, and the layer then has none"),
    ({"affine": Given(), "gamma_initializer": "zeros"}, "gamma and a beta"),
    ({"affine": Given(), "beta_regularizer": "l2"}, "gamma and a beta"),
    ({"affine": FromEmbedding(4), "gamma_initializer": "zeros"}, r"FromEmbedding\(initializer="),
    ({"affine": FromEmbedding(), "beta_initializer": "ones"}, "here the two are matrices"),
    ({"affine": PerClass(4), "axis": 0}, "has a condition, and those entries then are channels"),
    ({"affine": FromEmbedding(4), "axis": [0, 1]}, "has a condition, and those entries then"),
    ({"statistics": Ghost(2), "synchronized": True}, "less than a batch"),
    ({"statistics": Ghost(2), "axis": 0}, "channels and not samples"),
    ({"statistics": Ghost(2), "axis": [0, 1]}, "channels and not samples"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSED)
def test_what_has_no_meaning_together(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"cannot be combined: .*{message}"):
        BatchNormalization(**arguments)


def test_every_line_of_the_table_is_tested() -> None:
    for line in combinations.REFUSED:
        assert any(
            line.applies({**DEFAULTS, **arguments}, set(arguments)) for arguments, _ in REFUSED
        ), line.combination


@pytest.mark.parametrize(
    "arguments",
    [
        {"affine": PerClass(4), "gamma_initializer": "zeros", "beta_regularizer": "l2"},
        {"affine": PerClass(4), "center": False, "axis": 1},
        {"affine": FromEmbedding(), "scale": False, "gamma_constraint": "non_neg"},
        {"affine": Given(), "axis": 0},
    ],
)
def test_what_has_a_meaning_together(arguments: dict[str, Any]) -> None:
    BatchNormalization(**arguments)


@pytest.mark.parametrize("slot", [{"statistics": Ghost(2)}, {"affine": PerClass(4)}], ids=str)
def test_a_channel_axis_that_is_counted_from_the_end(slot: dict[str, Any]) -> None:
    """Of square inputs, where one row per sample would fit as one per channel."""
    with pytest.raises(ValueError, match="cannot be combined: .*channels and not samples"):
        BatchNormalization(axis=-2, **slot).build((4, 4))
    with pytest.raises(ValueError, match="Ghost cuts the batch along axis 0"):
        batch_norm(np.ones((3, 4)), STATE, training=True, axis=-2, statistics=Ghost(2))


@pytest.mark.parametrize("axis", [4, -5])
def test_an_axis_out_of_range(axis: int) -> None:
    with pytest.raises(ValueError, match=f"axis={axis} names no axis .* rank 4: use -4 to 3"):
        BatchNormalization(axis=axis).build((2, 4, 4, 3))
    with pytest.raises(ValueError, match=f"axis={axis} names no axis"):
        batch_norm(np.ones((2, 4, 4, 3), "float32"), STATE, axis=axis)


def test_an_unknown_number_of_channels() -> None:
    with pytest.raises(ValueError, match=r"number of channels, axis -1 of \(None, 4, None\)"):
        BatchNormalization()(keras.Input((4, None)))


def test_other_channels_than_built_for() -> None:
    layer = BatchNormalization()
    layer.build((None, 3))
    with pytest.raises(ValueError, match="expected axis -1"):
        layer(np.ones((2, 4), "float32"))


@pytest.mark.parametrize("training", [True, False])
def test_complex_input(training: bool) -> None:
    with pytest.raises(ValueError, match="complex64 input .* real and imaginary parts"):
        batch_norm(np.ones((2, 3), "complex64"), STATE, training=training)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 4, 4, 3)])
def test_a_mask_that_does_not_fit(shape: tuple[int, ...]) -> None:
    x = np.ones((2, 4, 4, 3), "float32")
    with pytest.raises(
        ValueError, match=r"mask of shape .* does not fit an input of shape \(2, 4, 4, 3\)"
    ):
        BatchNormalization()(x, training=True, mask=np.ones(shape, bool))


def test_a_state_that_lacks_something() -> None:
    x = np.ones((2, 3), "float32")
    with pytest.raises(ValueError, match=r"lacks moving_variance: it needs .* has moving_mean"):
        batch_norm(x, {"moving_mean": np.zeros(3)})
    with pytest.raises(ValueError, match=r"moving_mean is \(2,\), but .* must be \(3,\)"):
        batch_norm(x, {"moving_mean": np.zeros(2), "moving_variance": np.ones(3)})


def test_a_state_of_integers_is_averaged_in_float32() -> None:
    state = {"moving_mean": [0, 0, 0], "moving_variance": [1, 1, 1]}
    _, new = batch_norm(np.full((2, 3), 5.0, "float32"), state, training=True)
    assert np.allclose(keras.ops.convert_to_numpy(new["moving_mean"]), 0.05)


def test_integers_with_a_float64_layer() -> None:
    x = np.array([[16777217], [16777219], [16777221]])
    with precision("float64"):
        layer = BatchNormalization(dtype="float64", momentum=0.0)
        layer(x, training=True)
        assert float(layer.moving_mean[0]) == 16777219


def test_integers_are_computed_in_float32() -> None:
    x = np.array([[1, 2, 3], [3, 2, 1]])
    y, _ = batch_norm(x, STATE, training=True, epsilon=0.5)
    assert keras.backend.standardize_dtype(y.dtype) == "float32"
    assert np.allclose(y, batch_norm(x.astype("float32"), STATE, training=True, epsilon=0.5)[0])


@pytest.mark.parametrize("name", ["mask", "sample_weight"])
@pytest.mark.parametrize("bad", [-1.0, float("nan")])
def test_a_negative_weight(name: str, bad: float) -> None:
    x, weights = np.ones((2, 4, 3), "float32"), np.array([[1, 1, bad, 1], [1, 1, 1, 1]], "float32")
    options: dict[str, Any] = {name: weights}
    with pytest.raises(ValueError, match=f"{name} must not be negative, and holds {bad}"):
        BatchNormalization()(x, training=True, **options)
    with pytest.raises(ValueError, match=f"{name} must not be negative"):
        batch_norm(x, STATE, training=True, **options)


@pytest.mark.parametrize("mode", [mode for mode in (*MODES, "compile") if mode != "eager"])
def test_a_negative_weight_in_compiled_code(mode: str) -> None:
    """It cannot be an error there: the output is NaN and the state stays."""
    if mode == "compile" and BACKEND != "torch":
        pytest.skip("torch.compile is PyTorch's")
    x = np.random.default_rng(0).normal(size=(4, 3)).astype("float32")

    def step(x: Any, weights: Any, mean: Any, variance: Any) -> Any:
        state = {"moving_mean": mean, "moving_variance": variance}
        y, state = batch_norm(x, state, training=True, sample_weight=weights)
        return y, state["moving_mean"], state["moving_variance"]

    y, mean, variance = compiled(step, mode)(
        *tensors([x, [1, -1, 1, 1], *STATE.values()], "float32")
    )
    assert np.isnan(to_numpy(y)).all()
    assert_close(to_numpy(mean), np.zeros(3), 0)
    assert_close(to_numpy(variance), np.ones(3), 0)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "eager"])
def test_a_negative_weight_that_compiled_code_encloses(mode: str) -> None:
    weights = np.array([1, -1, 1, 1], "float32")
    step = compiled(lambda x: batch_norm(x, STATE, training=True, sample_weight=weights)[0], mode)
    with pytest.raises(ValueError, match="sample_weight must not be negative, and holds -1.0"):
        step(*tensors([np.ones((4, 3), "float32")]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("adjusted", "message"),
    [
        (2.0, r"must return a pair, \(scale, shift\), and returned 2.0"),
        ((1.0, 0.0, 0.0), "must return a pair"),
        ((np.ones(4), 0.0), r"scale of shape \(4,\) does not fit .* \(2, 4, 3\).* \(3,\) per"),
        ((1.0, np.ones((5, 3))), r"shift of shape \(5, 3\) does not fit .*\(2, 3\) per sample"),
        ((np.ones((2, 3, 4)), 0.0), r"scale of shape \(2, 3, 4\) does not fit .* or a map, \(2, 4"),
    ],
)
def test_an_adjustment_that_returns_the_wrong_thing(mode: str, adjusted: Any, message: str) -> None:
    layer = BatchNormalization(adjustment=lambda shape: adjusted)
    layer.build((2, 4, 3))
    step = compiled(lambda x: layer(x, training=True), mode)
    with pytest.raises(ValueError, match=message):
        step(*tensors([np.ones((2, 4, 3), "float32")]))


@pytest.mark.parametrize("name", ["gamma", "beta"])
@pytest.mark.parametrize("shape", [(1,), (4,), (2, 4), (3, 3), (2, 3, 4), (2, 1, 1, 3)])
def test_a_parameter_that_does_not_fit(name: str, shape: tuple[int, ...]) -> None:
    x = np.ones((2, 4, 3), "float32")
    options: dict[str, Any] = {name: np.ones(shape, "float32")}
    with pytest.raises(ValueError, match=rf"{name} of shape .* does not fit .*\(2, 3\) per sample"):
        batch_norm(x, STATE, **options)


@pytest.mark.parametrize("training", [True, False])
def test_conditions_that_do_not_fit(training: bool) -> None:
    x, layer = np.ones((2, 5, 3), "float32"), BatchNormalization(affine=Given())
    message = r"needs condition=\(scale, shift\) .* received one tensor of shape \(3,\)"
    with pytest.raises(ValueError, match=message):
        layer(x, condition=np.ones(3), training=training)
    named = r" of condition=\(scale, shift\) of shape "
    for shape in ((4,), (2, 4), (3, 5, 3), (2, 3, 5), (2, 1, 1, 3)):
        pair = np.ones(shape, "float32"), np.ones(3, "float32")
        message = rf"The scale{named}{re.escape(str(shape))} does not fit .* map, \(2, 5, 3\), with"
        with pytest.raises(ValueError, match=message):
            layer(x, condition=pair, training=training)
        with pytest.raises(ValueError, match=f"The shift{named}"):
            layer(x, condition=pair[::-1], training=training)


CONDITIONAL = {
    "PerClass(classes=4)": lambda: BatchNormalization(affine=PerClass(4)),
    "Given()": lambda: BatchNormalization(affine=Given()),
    "FromEmbedding(units=4, ": lambda: BatchNormalization(affine=FromEmbedding(4)),
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("affine", CONDITIONAL)
def test_a_condition_that_is_missing(affine: str, training: bool) -> None:
    x, layer = np.ones((2, 3), "float32"), CONDITIONAL[affine]()
    with pytest.raises(ValueError, match=rf"affine={re.escape(affine)}.*needs a condition in each"):
        layer(x, training=training)


def test_a_condition_that_is_missing_where_it_tells_the_size() -> None:
    for condition in (None, [[1.0, 2.0], [3.0, 4.0]]):  # no tensor, of which Keras tells no shape
        layer = BatchNormalization(affine=FromEmbedding())
        message = r"needs condition=vectors of shape \(N, D\) in each call; received no tensor"
        with pytest.raises(ValueError, match=message):
            layer(np.ones((2, 3), "float32"), condition=condition)
    with pytest.raises(ValueError, match=r"shape \(N, D\) in each call; received no tensor"):
        BatchNormalization(affine=FromEmbedding()).build((None, 3))
    with pytest.raises(ValueError, match="whose gamma and beta depend on none"):
        BatchNormalization()(np.ones((2, 3), "float32"), condition=np.zeros(2, "int32"))
    with pytest.raises(ValueError, match=r"with affine=PerClass\(n\), FromEmbedding\(\) or Given"):
        BatchNormalization()(np.ones((2, 3), "float32"), condition=(np.ones(3), np.ones(3)))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(2,), (2, 5), (2, 4, 1), (2, 1, 4), (4, 2), ()], ids=str)
def test_vectors_of_another_size(shape: tuple[int, ...], mode: str) -> None:
    layer = BatchNormalization(affine=FromEmbedding(4))
    layer.build((2, 3), (2, 4))
    step = compiled(lambda x, condition: layer(x, condition=condition), mode)
    message = r"vectors of shape \(N, 4\) in each call; received shape "
    if shape == (4, 2):
        message = r"condition of shape \(4, 2\) was given for 2 samples: each sample needs its own"
    else:
        message += re.escape(str(shape))
    with pytest.raises(ValueError, match=message):
        step(*tensors([np.ones((2, 3), "float32"), np.ones(shape, "float32")]))


@pytest.mark.parametrize("shape", [(2, 5), (2, None), (2,)], ids=str)
def test_vectors_of_another_size_when_it_is_built(shape: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError, match=r"vectors of shape \(N, 4\) in .*received shape \(2,"):
        BatchNormalization(affine=FromEmbedding(4)).build((2, 3), shape)
    if shape != (2, 5):
        with pytest.raises(ValueError, match=r"vectors of shape \(N, D\) in .*received shape"):
            BatchNormalization(affine=FromEmbedding()).build((2, 3), shape)


def test_axes_that_are_none() -> None:
    with pytest.raises(ValueError, match="none of them twice"):
        BatchNormalization(axis=(1, -1)).build((2, 3))
    with pytest.raises(ValueError, match=r"axis=\(1, 4\) names no axis"):
        BatchNormalization(axis=(1, 4)).build((2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"axis \(1, 2\) of \(None, None, 3\)"):
        BatchNormalization(axis=(1, 2)).build((None, None, 3))
    state = {"moving_mean": np.zeros(3), "moving_variance": np.ones(3)}
    with pytest.raises(ValueError, match=r"moving_mean is \(3,\), .* must be \(1, 4, 1, 3\)"):
        batch_norm(np.ones((2, 4, 5, 3), "float32"), state, axis=(1, 3))


def test_a_slot_that_is_filled_after_the_variables_were_made() -> None:
    layer = BatchNormalization()
    layer.build((None, 3))
    layer.moving = ZeroDebiased(0.9)
    with pytest.raises(ValueError, match="built without a step counter, .* to the constructor"):
        layer(np.ones((2, 3), "float32"), training=True)


def test_numbers_of_numpy_are_numbers() -> None:
    size: Any = np.int64(2)
    layer = BatchNormalization(momentum=np.float32(0.5), statistics=Ghost(size))
    assert layer.get_config()["momentum"] == 0.5
    assert Ghost(size).cut(2) is None
    table = BatchNormalization(affine=PerClass(size))
    assert table.get_config()["affine"]["config"] == {"classes": 2}
    table.build((None, 3))
    matrix = BatchNormalization(affine=FromEmbedding(size))
    matrix.build((None, 3))
    assert table.gamma.shape == matrix.gamma.shape == (2, 3)
    Renorm(rmax=np.float64(3), dmax=np.int32(5))
    axes: list[tuple[Any, Any]] = [(np.int64(1), 1), (np.array([1, 2]), (1, 2)), ([np.int32(2)], 2)]
    flags: dict[str, Any] = {"center": np.bool_(False), "scale": 1}
    for axis, own in axes:
        normalization: Any = BatchNormalization(axis=axis, **flags)
        assert (
            normalization.axis == own
            and normalization.get_config()["center"] is False
            and normalization.scale is True
        )
        normalization.build((2, 3, 4))
    y, _ = batch_norm(np.ones((2, 3, 4), "float32"), STATE, axis=np.int64(1))  # type: ignore[arg-type]
    assert y.shape == (2, 3, 4)


def test_an_axis_of_the_function_that_is_none() -> None:
    axes: tuple[Any, ...] = (1.5, "channels_last", None, [1.0])
    for axis in axes:
        with pytest.raises(ValueError, match="axis must be an integer, or several like"):
            batch_norm(np.ones((2, 3, 4), "float32"), STATE, axis=axis)
