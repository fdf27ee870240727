"""The layer against TensorFlow's own batch normalizations, recorded step by step."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from keras import ops

from batchnorm import BatchNormalization, Exponential, Ghost
from batchnorm.slots.old_renorm import OldRenorm
from tests.compare import assert_close
from tests.differentiate import (
    BACKEND,
    Array,
    Function,
    compiled,
    gradients,
    precision,
    tensors,
    to_numpy,
)
from tests.golden import FOLDER, Case, adjustment, cases, momentum

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the golden numbers are not here: {FOLDER} is absent"
)

# The cases of tf.contrib itself test the code that has its arguments, variables and updates.
REPLAYED = [id for id in cases() if not id.startswith("slim/")]
CONTRIB = {"decay": "momentum", "renorm_decay": "renorm_momentum"}
# Parameters, their gradients and the state are float32 beside half precision, in theirs and ours.
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
# y and dx are float32 numbers rounded to half precision, and a last bit can tip the rounding:
# one step of float16, relative to numbers above 1.
HALF = 2.0**-10


def fused(case: Case) -> bool:
    """True where the original ran its fused kernel, which reports n / (n - 1) * variance.

    The rule of its source: not with `fused=False`, for float64, or with options that the kernel
    lacks; channels on the first or the last axis; rank 4, and 5 since TensorFlow 2.
    All other code of the originals, and of ours by default, records the biased variance.
    """
    record, kwargs = case.record, case.record["kwargs"]
    rank = len(record["shape"])
    ranks = (4,) if record["source"].startswith("tensorflow 1.") else (4, 5)
    options = ("renorm", "virtual_batch_size", "adjustment", "synchronized")
    return (
        kwargs.get("fused") is not False
        and rank in ranks
        and record["axis"] in (1, -1, rank - 1)
        and record["dtype"] != "float64"
        and not any(kwargs.get(option) for option in options)
    )


def layer_for(case: Case, unbiased: bool) -> BatchNormalization:
    """The layer with our equivalents of the original's arguments."""
    axis = case.record["axis"]
    kwargs = {CONTRIB.get(name, name): value for name, value in case.record["kwargs"].items()}
    names = ("epsilon", "center", "scale", "renorm", "renorm_clipping", "renorm_momentum")
    options: dict[str, Any] = {name: kwargs[name] for name in names if name in kwargs}
    options["moving"] = Exponential(momentum(case), unbiased=unbiased)
    if "renorm_mean_weight" in case.variables:  # until TensorFlow 1.13
        limits = {"rmin": 0.0, **(options.pop("renorm_clipping", None) or {})}
        options["renorm"] = OldRenorm(**limits, momentum=options.pop("renorm_momentum", 0.99))
    if "virtual_batch_size" in kwargs:
        options["statistics"] = Ghost(kwargs["virtual_batch_size"], strided=True)
    if "adjustment" in kwargs:
        options["adjustment"] = adjustment(case)
    # With one replica; the other backends refuse it, as it would change nothing there.
    options["synchronized"] = kwargs.get("synchronized", False) and BACKEND == "tensorflow"
    layer = BatchNormalization(
        axis=axis if isinstance(axis, int) else tuple(axis), dtype=case.record["dtype"], **options
    )
    return layer


def stepper(layer: BatchNormalization, training: bool, weights: dict[str, Array]) -> Function:
    """Maps x, g and the variables' values to y, the gradients of sum(y * g) and the new values."""

    def step(x: Any, g: Any, trainable: list[Any], fixed: list[Any]) -> tuple[Any, Any, Any]:
        def forward(x: Any, *trainable: Any) -> Any:
            return layer.stateless_call(trainable, fixed, x, training=training, **weights)

        def loss(x: Any, *trainable: Any) -> Any:
            y, exact = forward(x, *trainable)[0], layer.moving_mean.dtype
            return ops.sum(ops.cast(y, exact) * ops.cast(g, exact))

        y, state = forward(x, *trainable)
        return y, gradients(loss, x, *trainable), state

    # Otherwise JAX traces every step anew, which takes twice as long.
    return compiled(step, "jit" if BACKEND == "jax" else "eager")


def run(function: Function, layer: BatchNormalization, x: Array, g: Array) -> dict[str, Array]:
    """Returns the results of a step by name."""
    trainable, fixed = layer.trainable_variables, layer.non_trainable_variables
    values = ([variable.value for variable in group] for group in (trainable, fixed))
    y, slopes, state = function(*tensors([x, g]), *values)
    names = ["y", "dx", *(f"d{v.name}" for v in trainable), *(v.name for v in fixed)]
    return dict(zip(names, map(to_numpy, (y, *slopes, *state)), strict=True))


def replay(case: Case, layer: BatchNormalization) -> None:
    """Fails where a step of the layer differs from that of the original."""
    layer.build(case.record["shape"])
    frozen = not (case.record | case.record["kwargs"]).get("trainable", True)
    # A V1 layer with trainable=False used the batch's statistics and recorded none: a trainable
    # layer of ours, whose records are dropped. V2's was in inference mode, as ours is.
    layer.trainable = not (frozen and case.record["api"] == "k2")
    assert {variable.name for variable in layer.variables} == set(variables(case))
    set_variables(layer.variables, case, 0)
    flags, names = case.record["training"], {"mask": "mask", "bw": "sample_weight"}
    weights = {names[name]: value for name, value in case.arrays.items() if name in names}
    steps = {flag: stepper(layer, flag, weights) for flag in set(flags)}
    for t, training in enumerate(flags):
        set_variables(layer.trainable_variables, case, t)  # by the original's optimizer
        actual = run(steps[training], layer, case.arrays["x"][t], case.arrays["g"])
        for variable in [] if frozen else layer.non_trainable_variables:
            variable.assign(actual[variable.name])
        check(layer, case, t, actual)


def check(layer: BatchNormalization, case: Case, t: int, actual: dict[str, Array]) -> None:
    """Compares a step's y and gradients, and the state after it."""
    dtype = case.record["dtype"]
    tolerance = TOLERANCE.get(dtype, TOLERANCE["float32"])
    for name in ("y", *case.record["gradients"]):
        rounded = "16" in dtype and name in ("y", "dx")
        expected = as_ours(case, case.arrays[name][t], actual[name])
        assert actual[name].dtype == expected.dtype
        assert_close(actual[name], expected, HALF if rounded else tolerance)
    for variable in layer.non_trainable_variables:
        expected = as_ours(case, variables(case)[variable.name][t + 1], variable)
        assert_close(to_numpy(variable), expected, tolerance)


def set_variables(ours: list[Any], case: Case, t: int) -> None:
    for variable in ours:
        variable.assign(as_ours(case, variables(case)[variable.name][t], variable))


def variables(case: Case) -> dict[str, Array]:
    """The original's variables as ours hold them: debiased, with a count instead of weights."""
    result = dict(case.variables)
    for name in ("renorm_mean", "renorm_stddev"):
        if (weight := result.pop(f"{name}_weight", None)) is not None:
            result[name] = result[name] / np.where(weight > 0, weight, 1.0)[:, None]
            result["step"] = np.cumsum([0, *case.record["training"]])
    if case.record["kwargs"].get("zero_debias_moving_mean"):  # in inference it created no count
        result["step"] = result.pop("local_step", np.zeros(1 + len(case.record["training"])))
        result.pop("biased", None)  # the moving mean times 1 - m**t
    return result


def as_ours(case: Case, value: Array, ours: Any) -> Array:
    """Drops the axes of size 1 that virtual batches gave the originals' variables."""
    virtual = "virtual_batch_size" in case.record["kwargs"]
    return value.reshape(ours.shape) if virtual else value


@pytest.mark.parametrize("id", REPLAYED)
def test_replay(id: str) -> None:
    case = cases()[id]
    with precision(case.record["dtype"]):
        replay(case, layer_for(case, fused(case)))


def test_every_case_is_replayed() -> None:
    counts = Counter(id.partition("/")[0] for id in REPLAYED)
    assert counts == {"k1": 13, "k2": 20, "v1layers": 36, "tf1.13": 24, "tf1.15": 2}
    assert len(cases()) == len(REPLAYED) + 104


@pytest.mark.parametrize("id", [id for id in REPLAYED if "output_op" in cases()[id].record])
def test_the_rule_knows_the_kernel_that_ran(id: str) -> None:
    case = cases()[id]
    assert fused(case) == ("FusedBatchNorm" in case.record["output_op"])


@pytest.mark.parametrize("id", ["k2/r5", "v1layers/train_r4", "v1layers/r4_fusedFalse"])
def test_a_replay_can_fail(id: str) -> None:
    case = cases()[id]
    with pytest.raises(AssertionError, match="above the tolerance"):
        replay(case, layer_for(case, not fused(case)))
