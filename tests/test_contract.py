"""The layer's contract with the installed Keras layer that it replaces."""

import ast
import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

import batchnorm
from batchnorm import Exponential, layer
from tests.compare import assert_close

Array = npt.NDArray[Any]

OURS: Any = batchnorm.BatchNormalization
KERAS: Any = keras.layers.BatchNormalization

# Of the design: each is None by default, and then all is as in Keras.
SLOTS = {"statistics", "moving", "adjustment", "affine", "activation"}
# The last but two is Keras's hook for a layer that reads other files than its own; the last two
# refuse arguments of other names, and show slots.
OVERRIDDEN = {"__init__", "build", "call", "get_config", "load_own_variables"}
OVERRIDDEN |= {"__call__", "__repr__"}


def test_the_name_and_the_base() -> None:
    # Keras finds a layer in a file by the name of its class.
    assert OURS.__name__ == KERAS.__name__ == "BatchNormalization"
    assert OURS.__bases__ == (KERAS,)
    assert isinstance(OURS(), KERAS)


def test_the_constructor_is_kerass_and_slots() -> None:
    reference, ours = parameters(KERAS), parameters(OURS)
    assert ours[: len(reference)] == reference
    slots = ours[len(reference) :]
    assert {name for name, _, _ in slots} <= SLOTS
    assert all(default is None for _, _, default in slots)
    last = list(inspect.signature(OURS).parameters.values())[-1]
    assert last.kind is inspect.Parameter.VAR_KEYWORD


def test_call_begins_as_kerass() -> None:
    reference, ours = parameters(KERAS.call), parameters(OURS.call)
    assert ours[: len(reference)] == reference
    assert {name for name, _, _ in ours[len(reference) :]} <= {"sample_weight", "condition"}


def test_few_methods_are_overridden() -> None:
    written = {name for name in vars(OURS) if name not in vars(type("Empty", (), {}))}
    written -= {"__annotations__", "__static_attributes__", "__firstlineno__"}
    assert {name for name in written if hasattr(KERAS, name)} == OVERRIDDEN


def reaches_into_the_base(source: str) -> list[str]:
    """Returns the uses of the base's `call` and private names, which a module must not make."""
    base = KERAS(renorm=True)
    base(np.zeros((2, 3), "float32"), training=True)
    reached = []
    for node in ast.walk(ast.parse(source)):
        names = [node.attr] if isinstance(node, ast.Attribute) else []
        # A private name may come as text, too: getattr(self, "_moments").
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [node.value]
        private = [n for n in names if n.startswith("_") and not n.endswith("__")]
        reached += [name for name in private if hasattr(base, name)]
        if isinstance(node, ast.Attribute) and node.attr == "call":
            receiver = ast.unparse(node.value)
            if receiver.startswith("super(") or receiver.endswith("BatchNormalization"):
                reached.append(f"{receiver}.call")
    return reached


def test_nothing_private_of_the_base_is_named() -> None:
    assert reaches_into_the_base(inspect.getsource(layer)) == []


@pytest.mark.parametrize(
    "source",
    [
        "y = super().call(x)",
        "y = super(BatchNormalization, self).call(x)",
        "y = keras.layers.BatchNormalization.call(self, x)",
        "mean, variance = self._moments(x, mask)",
        "self._reduction_axes = [0]",
        "mean = getattr(self, '_renorm_correction_and_moments')",
        "super()._update_renorm_statistics(mean, variance)",
    ],
)
def test_a_reach_into_the_base_would_be_found(source: str) -> None:
    assert len(reaches_into_the_base(source)) == 1


@pytest.mark.parametrize("renorm", [False, True])
def test_nothing_of_the_bases_call_runs(renorm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Any, inputs: Any, *arguments: Any, **named: Any) -> None:
        raise AssertionError("this belongs to the base")

    private = [n for n in vars(KERAS) if n.startswith("_") and not n.endswith("__")]
    for name in ["call", *private]:
        if callable(getattr(KERAS, name)):
            monkeypatch.setattr(KERAS, name, refuse)
    ours = OURS(renorm=renorm)
    for training in (True, False):
        ours(images(), training=training, mask=np.ones(images().shape[:1], bool))
    with pytest.raises(AssertionError, match="belongs to the base"):
        KERAS(renorm=renorm)(images())


@pytest.mark.parametrize("axis", [-1, 1])
@pytest.mark.parametrize("renorm", [True, False])
@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("center", [True, False])
def test_the_weights_are_kerass(center: bool, scale: bool, renorm: bool, axis: int) -> None:
    options = {"center": center, "scale": scale, "renorm": renorm, "axis": axis, "name": "layer"}
    ours, reference = built(OURS(**options)), built(KERAS(**options))
    assert [facts(weight) for weight in ours.weights] == [facts(w) for w in reference.weights]
    assert [facts(weight) for weight in ours.variables] == [facts(w) for w in reference.variables]
    assert (ours.gamma is not None, ours.beta is not None) == (scale, center)


def test_the_default_owns_four_variables() -> None:
    names = ["gamma", "beta", "moving_mean", "moving_variance"]
    for ours in (built(OURS()), built(OURS(moving=Exponential(0.9)))):
        assert [variable.name for variable in ours.variables] == names
        ours(images(), training=True)
        assert [variable.name for variable in ours.variables] == names


def test_the_weights_obey_the_bases_arguments() -> None:
    options = {
        "gamma_initializer": keras.initializers.Constant(3.0),
        "beta_initializer": "ones",
        "moving_mean_initializer": keras.initializers.Constant(5.0),
        "moving_variance_initializer": keras.initializers.Constant(4.0),
        "gamma_regularizer": keras.regularizers.L1(0.5),
        "beta_regularizer": keras.regularizers.L2(0.25),
        "gamma_constraint": keras.constraints.NonNeg(),
        "beta_constraint": keras.constraints.MaxNorm(2.0),
    }
    ours, reference = built(OURS(**options)), built(KERAS(**options))
    for weight, expected in zip(ours.weights, reference.weights, strict=True):
        assert_close(array(weight), array(expected), 0)
        assert weight.constraint is expected.constraint
    assert_close([array(loss) for loss in ours.losses], [3 * 1.5, 3 * 0.25], 1e-6)
    assert_close([array(loss) for loss in reference.losses], [3 * 1.5, 3 * 0.25], 1e-6)


def test_inference_is_the_default() -> None:
    ours = filled(OURS())
    before = ours.get_weights()
    assert_close(array(ours(images())), array(ours(images(), training=False)), 0)
    assert_unchanged(ours, before)


def test_untrainable_means_inference() -> None:
    ours = filled(OURS())
    inferred = array(ours(images(), training=False))
    ours.trainable = False
    before = ours.get_weights()
    assert_close(array(ours(images(), training=True)), inferred, 0)
    assert_unchanged(ours, before)
    assert not ours.trainable_weights
    assert_close(array(filled(OURS(trainable=False))(images(), training=True)), inferred, 0)


def test_trainable_may_be_toggled() -> None:
    ours = filled(OURS())
    trained = array(ours(images(), training=True))
    ours.trainable = False
    assert np.abs(array(ours(images(), training=True)) - trained).max() > 0.1
    ours.trainable = True
    before = ours.get_weights()
    assert_close(array(ours(images(), training=True)), trained, 0)
    assert [w.name for w in ours.trainable_weights] == ["gamma", "beta"]
    moved = [not np.array_equal(a, b) for a, b in zip(before, ours.get_weights(), strict=True)]
    assert moved == [False, False, True, True]


def test_frozen_layers_stay_as_they_are_in_fit() -> None:
    model = keras.Sequential([keras.Input((5, 3)), OURS(), keras.layers.Dense(2), OURS()])
    for member in model.layers:
        if isinstance(member, KERAS):
            member.trainable = False
    before = [member.get_weights() for member in model.layers]
    model.compile("sgd", "mse")
    model.fit(images(), np.ones((4, 5, 2), "float32"), verbose=0)
    assert_unchanged(model.layers[0], before[0])
    assert_unchanged(model.layers[2], before[2])
    assert not np.array_equal(model.layers[1].get_weights()[0], before[1][0])


@pytest.mark.parametrize("renorm", [False, True])
def test_momentum_may_be_changed(renorm: bool) -> None:
    ours, reference = OURS(renorm=renorm), KERAS(renorm=renorm)
    for member in (ours, reference):
        member(images(), training=True)
        member.momentum = 0.5
        member(images(), training=True)
    assert_close(array(ours.moving_mean), array(reference.moving_mean), 1e-6)
    assert_close(array(ours.moving_variance), array(reference.moving_variance), 1e-6)
    # From 0: a hundredth of the way to the mean, then half of the rest.
    mean = images().mean((0, 1))
    assert_close(array(ours.moving_mean), mean * (1 - 0.99 * 0.5), 1e-6)
    assert ours.get_config()["momentum"] == 0.5


def test_epsilon_may_be_changed() -> None:
    ours = filled(OURS())
    ours.epsilon = 3.0
    assert_close(array(ours(images())), array(filled(KERAS(epsilon=3.0))(images())), 1e-6)


def test_moving_statistics_may_be_assigned() -> None:
    ours = built(OURS(center=False, scale=False, epsilon=0.0))
    ours.moving_mean.assign([1.0, 2.0, 3.0])
    ours.moving_variance.assign([4.0, 16.0, 64.0])
    assert_close(array(ours(images())), (images() - [1, 2, 3]) / [2, 4, 8], 1e-6)


def test_weights_may_be_set() -> None:
    source, target = filled(KERAS()), built(OURS())
    target.set_weights(source.get_weights())
    assert_close(array(target(images())), array(source(images())), 1e-6)


@contextlib.contextmanager
def doubles() -> Iterator[None]:
    """Lets JAX make float64 arrays, which it otherwise makes float32."""
    if keras.backend.backend() != "jax":
        yield
        return
    import jax

    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("renorm", [False, True])
@pytest.mark.parametrize(
    "policy, computed, stored",
    [
        ("float16", "float16", "float32"),
        ("bfloat16", "bfloat16", "float32"),
        ("mixed_float16", "float16", "float32"),
        ("mixed_bfloat16", "bfloat16", "float32"),
        ("float32", "float32", "float32"),
        ("float64", "float64", "float64"),
    ],
)
def test_dtypes(policy: str, computed: str, stored: str, renorm: bool) -> None:
    with doubles():
        ours = OURS(dtype=policy, renorm=renorm)
        # Keras casts floats before they come in, and leaves integers to the layer.
        for x in (images(), images().astype("int32")):
            for training in (True, False):
                y = ours(keras.ops.convert_to_tensor(x), training=training)
                assert keras.backend.standardize_dtype(y.dtype) == computed
        assert {weight.dtype for weight in ours.weights} == {stored}
        values = {keras.backend.standardize_dtype(weight.value.dtype) for weight in ours.weights}
        assert values == {stored}
        assert ours.dtype_policy.name == policy
        assert ours.compute_dtype == KERAS(dtype=policy).compute_dtype
        assert OURS.from_config(ours.get_config()).dtype_policy.name == policy


def test_the_policy_of_the_process() -> None:
    keras.config.set_dtype_policy("bfloat16")
    try:
        ours = built(OURS())
    finally:
        keras.config.set_dtype_policy("float32")
    assert ours.dtype_policy.name == "bfloat16"
    assert {weight.dtype for weight in ours.weights} == {"float32"}


def test_a_failed_build_leaves_the_policy() -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise RuntimeError("no such weight")

    ours = OURS(dtype="float16", gamma_initializer=fail)
    with pytest.raises(RuntimeError, match="no such weight"):
        ours.build((None, 3))
    assert ours.dtype_policy.name == "float16"


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Returns name, kind and default of each parameter but the last, `**kwargs`."""
    values = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in values if p.kind is not p.VAR_KEYWORD]


def facts(variable: Any) -> tuple[Any, ...]:
    return variable.path, tuple(variable.shape), variable.dtype, variable.trainable


def images() -> Array:
    return np.random.default_rng(0).normal(3.0, 2.0, (4, 5, 3)).astype("float32")


def array(tensor: Any) -> Array:
    values: Array = keras.ops.convert_to_numpy(tensor)
    return values


def built(one: Any) -> Any:
    one.build((None, 3, 3))
    return one


def filled(one: Any) -> Any:
    """Returns the layer with a different number in every place, positive as a variance must be."""
    rng = np.random.default_rng(1)
    for weight in built(one).weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    return one


def assert_unchanged(one: Any, before: list[Array]) -> None:
    for weight, old in zip(one.get_weights(), before, strict=True):
        assert weight.tobytes() == old.tobytes()
