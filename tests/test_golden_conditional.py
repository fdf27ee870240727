"""Conditional layers against the published formula, differentiated by PyTorch in float64."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from keras import ops

from batchnorm import BatchNormalization, Exponential, FromEmbedding, PerClass
from tests.compare import assert_close
from tests.differentiate import BACKEND, compiled, gradients, precision, tensors, to_numpy
from tests.golden import FOLDER, Case, conditional

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason=f"the golden numbers are not here: {FOLDER} is absent"
)

# The rest are blocks of convolutions and conditional layers.
REPLAYED = [id for id in conditional() if id.startswith("cbn")]
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}
# The layer's inputs and parameters, and their keys in the file.
NAMES = {
    "inputs": ("x",),
    "condition": ("labels", "soft_labels", "cond"),
    "gamma": ("gamma", "w_gamma"),
    "beta": ("beta", "w_beta"),
}


def named(case: Case, name: str) -> str:
    """The key of an array in the file."""
    (key,) = (key for key in NAMES.get(name, (name,)) if key in case.arrays)
    return key


def layer_for(case: Case, unbiased: bool, dtype: str) -> BatchNormalization:
    """The layer of the case, with its weights and moving statistics."""
    record, arrays = case.record, case.arrays
    linear = record["kind"] == "cbn_linear"
    layer = BatchNormalization(
        epsilon=record["epsilon"],
        moving=Exponential(record["decay"], unbiased=unbiased),
        affine=FromEmbedding(offset=record["gamma_offset"])
        if linear
        else PerClass(record["num_classes"]),
        dtype=dtype,
    )
    layer.build(arrays["x"].shape, arrays[named(case, "condition")].shape)
    for variable in layer.variables:
        assert variable.dtype == dtype
        variable.assign(arrays[named(case, variable.name)])
    return layer


def run(layer: BatchNormalization, training: bool, values: dict[str, Any], g: Any) -> Any:
    """Returns y, the moving statistics after it, and by name the gradients of sum(y * g)."""
    fixed = [variable.value for variable in layer.non_trainable_variables]
    floats = [name for name, value in values.items() if "int" not in str(value.dtype)]

    def step(values: dict[str, Any]) -> Any:
        def forward(*sought: Any) -> Any:
            arguments = values | dict(zip(floats, sought, strict=True))
            options = {"training": training, "condition": arguments["condition"]}
            weights = [arguments["gamma"], arguments["beta"]]
            return layer.stateless_call(weights, fixed, arguments["inputs"], **options)

        sought = [values[name] for name in floats]
        y, state = forward(*sought)
        return y, state, gradients(lambda *sought: ops.sum(forward(*sought)[0] * g), *sought)

    # Outside jit, JAX compiles operation by operation, which takes longer.
    y, state, slopes = compiled(step, "jit" if BACKEND == "jax" else "eager")(values)
    return y, state, dict(zip(floats, slopes, strict=True))


def replay(case: Case, unbiased: bool, dtype: str, training: bool) -> None:
    """Fails where a step of the layer differs from that of the case."""
    layer, arrays, tolerance = layer_for(case, unbiased, dtype), case.arrays, TOLERANCE[dtype]
    inputs, condition, g = (arrays[named(case, name)] for name in ("inputs", "condition", "g"))
    by_index = condition.dtype == "int64"
    cast = [inputs.astype(dtype), condition.astype("int32" if by_index else dtype), g.astype(dtype)]
    inputs, condition, g = tensors(cast)
    values = {"inputs": inputs, "condition": condition}
    values |= {variable.name: variable.value for variable in layer.trainable_variables}
    y, state, slopes = run(layer, training, values, g)
    assert slopes.keys() == values.keys() - ({"condition"} if by_index else set())
    assert_close(to_numpy(y), arrays["y"], tolerance)
    kind = "unbiased" if unbiased else "biased"
    for value, name in zip(state, ("moving_mean", f"moving_variance_{kind}"), strict=True):
        assert_close(to_numpy(value), arrays[f"new/{name}"], tolerance)
    for name, gradient in slopes.items():
        # The file has no gradient of the shares of a mixture.
        if (key := f"grad/{named(case, name)}") != "grad/soft_labels":
            assert_close(to_numpy(gradient), arrays[key], tolerance)


KINDS = [("float64", False), ("float32", True), ("float32", False), ("float64", True)]


# JAX compiles every case for a second.
@pytest.mark.parametrize(("dtype", "unbiased"), KINDS[:2] if BACKEND == "jax" else KINDS)
@pytest.mark.parametrize("id", REPLAYED)
def test_replay(id: str, dtype: str, unbiased: bool) -> None:
    case = conditional()[id]
    with precision(dtype):
        replay(case, unbiased, dtype, case.record["training"])


def test_every_case_is_replayed() -> None:
    counts = Counter(conditional()[id].record["kind"] for id in REPLAYED)
    assert counts == {"cbn": 7, "cbn_linear": 3}
    assert {id.partition("/")[0] for id in conditional()} == {"cbn", "cbn_linear", "block"}
    gradients = {name for id in REPLAYED for name in conditional()[id].arrays if "grad/" in name}
    names = ("x", "gamma", "beta", "w_gamma", "w_beta", "cond")
    assert gradients == {f"grad/{name}" for name in names}


def test_a_class_that_does_not_occur_has_no_gradient() -> None:
    case = conditional()["cbn/r4_train"]
    assert 2 not in case.arrays["labels"]
    for name in ("gamma", "beta"):
        rows = np.abs(case.arrays[f"grad/{name}"]).sum(-1)
        assert (rows > 0).tolist() == [True, True, False, True, True]


@pytest.mark.parametrize(
    ("id", "wrong"),
    [
        ("cbn/r5_train", "condition"),
        ("cbn/soft_train", "condition"),
        ("cbn_linear/train", "gamma"),
        ("cbn_linear/train_offset0", "offset"),
        ("cbn/r3_train", "unbiased"),
        ("cbn/r4_train", "training"),
    ],
)
def test_a_replay_can_fail(id: str, wrong: str) -> None:
    case, training = conditional()[id], True
    record, arrays = dict(case.record), dict(case.arrays)
    if wrong in ("condition", "gamma"):
        arrays[named(case, wrong)] = arrays[named(case, wrong)][::-1].copy()
    elif wrong == "offset":
        record["gamma_offset"] = 1.0
    elif wrong == "unbiased":
        arrays["new/moving_variance_biased"] = arrays["new/moving_variance_unbiased"]
    else:
        training = False
    with pytest.raises(AssertionError, match="above the tolerance"):
        replay(Case(record, arrays, {}), False, "float32", training)
