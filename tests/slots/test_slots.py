"""All pairs of slot values: the function and the layer against the oracle."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from batchnorm import (
    BatchNormalization,
    Cumulative,
    Exponential,
    FromEmbedding,
    Ghost,
    Given,
    PerClass,
    Ramp,
    Renorm,
    ZeroDebiased,
    batch_norm,
    state_names,
)
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import (
    BACKEND,
    MODES,
    Array,
    Function,
    compiled,
    gradients,
    precision,
    tensors,
    to_numpy,
)

TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-5, "float64": 1e-12}
# Their values at whole steps are exact in float32, in which a Ramp computes.
FADES, GROWS, CLIMBS = Ramp(0.5, 0.75, 0, 8), Ramp(1.0, 2.0, 0, 8), Ramp(0.0, 0.5, 0, 8)

# A value's name, the value, and its counterpart in the oracle, at step t where it depends on it.
SLOTS: dict[str, dict[str, Any]] = {
    "input": {  # shape and axis; neither 2 nor 3 divides 7, and 3 does not divide 8
        "rank 2": ((7, 3), -1),
        "rank 3": ((8, 5, 3), -1),
        "rank 4": ((8, 2, 3, 4), -1),
        "rank 5": ((8, 2, 3, 2, 3), -1),
        "channels first": ((8, 3, 2, 4), 1),
        "two axes": ((8, 3, 2, 4), (1, 3)),
    },
    "statistics": {
        "none": (None, None),
        "Ghost(2)": (Ghost(2), (2, False)),
        "Ghost(3)": (Ghost(3), (3, False)),
        "strided": (Ghost(3, strided=True), (3, True)),
    },
    "weights": {name: name for name in ("none", "mask", "sample_weight", "both")},
    "moving": {  # its first step, its rate at t, whether it is unbiased
        "Exponential": (Exponential(0.9), 5, lambda t: 0.1, False),
        "unbiased": (Exponential(0.9, unbiased=True), 5, lambda t: 0.1, True),
        "ZeroDebiased": (ZeroDebiased(0.9), 0, lambda t: 0.1 / (1 - 0.9 ** (t + 1)), False),
        "ZeroDebiased at 3": (ZeroDebiased(0.9), 3, lambda t: 0.1 / (1 - 0.9 ** (t + 1)), False),
        "mean debiased": (
            ZeroDebiased(0.9, unbiased=True, variance=False),
            3,
            lambda t: (0.1 / (1 - 0.9 ** (t + 1)), 0.1),
            True,
        ),
        "Cumulative": (Cumulative(), 2, lambda t: 1 / (t + 1), False),
        "schedule": (Exponential(FADES), 4, lambda t: 0.5 - t / 32, False),
    },
    "renorm": {  # rmin, rmax, dmax and the rate at t
        "none": (None, lambda t: None),
        "unlimited": (Renorm(), lambda t: (None, None, None, 0.01)),
        "limits": (Renorm(0.8, 1.2, 0.1, momentum=0.8), lambda t: (0.8, 1.2, 0.1, 0.2)),
        "schedules": (
            Renorm(rmax=GROWS, dmax=CLIMBS, momentum=FADES),
            lambda t: (1 / (1 + t / 8), 1 + t / 8, t / 16, 0.5 - t / 32),
        ),
    },
    "adjustment": {name: name for name in ("none", "number", "channel", "sample", "full")},
    "affine": {  # computes gamma and beta from a condition; None where they are arguments
        **dict.fromkeys(("none", "number", "channel", "sample", "map")),
        "per class": PerClass(3),
        "mixture": PerClass(3),
        "embedding": FromEmbedding(offset=0.5),
    },
    "dtype": {name: name for name in TOLERANCE},
    "activation": {"none": None, "relu": keras.activations.relu},
}
DTYPE, AFFINE = list(SLOTS).index("dtype"), list(SLOTS).index("affine")
Row = tuple[str, ...]  # the name of a value for each slot
PLAIN: Row = ("rank 4", "none", "none", "Exponential", "none", "none", "channel", "float32", "none")


def needed(values: Sequence[Sequence[str]], size: int) -> set[Any]:
    """Returns all combinations of `size` slots, with a value for each."""
    named = [[(slot, name) for name in names] for slot, names in zip(SLOTS, values, strict=True)]
    combinations = itertools.combinations(named, size)
    return {choice for slots in combinations for choice in itertools.product(*slots)}


def covering(values: Sequence[Sequence[str]], size: int) -> list[Row]:
    """Returns few rows that cover all combinations, by greedy choice among random rows."""
    draw, rows, missing = random.Random(0), [], needed(values, size)
    while missing:
        choice = dict(min(missing))
        pool = [
            tuple(
                choice.get(slot) or draw.choice(names)
                for slot, names in zip(SLOTS, values, strict=True)
            )
            for _ in range(100)
        ]
        held = [missing & needed([[name] for name in row], size) for row in pool]
        best = max(range(len(pool)), key=lambda index: len(held[index]))
        rows.append(pool[best])
        missing -= held[best]
    return rows


VALUES = [tuple(values) for values in SLOTS.values()]
PAIRS = covering(VALUES, 2)
FULL = covering([[name for name in names if name != "none"] for names in VALUES], 1)
SOME = [*FULL, *covering(VALUES, 1)]  # for slower tests: every value, and all slots at once
ONE = [  # one slot away from the plain one
    (*PLAIN[:place], name, *PLAIN[place + 1 :])
    for place, names in enumerate(VALUES)
    for name in names
    if name != PLAIN[place] and name != "map"  # such a scale is an array like x itself
]


def test_every_pair_of_values_occurs() -> None:
    pairs = {pair for row in PAIRS for pair in itertools.combinations(enumerate(row), 2)}
    sizes = [len(values) for values in VALUES]
    assert len(pairs) == sum(a * b for a, b in itertools.combinations(sizes, 2))
    assert len({value for row in SOME for value in enumerate(row)}) == sum(sizes)


class Case:
    """A row as a test case: arrays, the options of `batch_norm` and those of the oracle."""

    def __init__(self, row: Row) -> None:
        self.row, self.random = dict(zip(SLOTS, row, strict=True)), np.random.default_rng(0)
        self.dtype = self.row["dtype"]
        self.wide = "float64" if self.dtype == "float64" else "float32"
        self.shape, axis = self.value("input")
        statistics, self.ghost = self.value("statistics")
        moving, self.first, self.rate, self.unbiased = self.value("moving")
        renorm, self.limits = self.value("renorm")
        axes = axis if isinstance(axis, tuple) else (axis,)
        self.axes = [index % len(self.shape) for index in axes]
        self.adjusted = self.pair("adjustment")
        self.affine = dict(zip(("gamma", "beta"), self.pair("affine"), strict=False))
        self.conditional = self.value("affine")
        self.condition = self.drawn() if self.conditional else {}
        self.weights = self.weigh()
        self.names = state_names(moving, renorm)
        self.state = {
            name: self.held(self.random.uniform(0.5, 2.0, self.per("channel")), self.wide)
            for name in self.names
            if name != "step"
        }
        self.x, self.dy = (self.held(self.random.normal(m, 2.0, self.shape)) for m in (1.5, 0.0))
        self.options = {
            "axis": axis,
            "statistics": statistics,
            "moving": moving,
            "renorm": renorm,
            "adjustment": (lambda shape: self.adjusted) if self.adjusted else None,
            "activation": self.value("activation"),
        }

    def value(self, slot: str) -> Any:
        return SLOTS[slot][self.row[slot]]

    def held(self, values: Array, dtype: str | None = None) -> Array:
        """Returns the values rounded to the dtype."""
        return to_numpy(ops.cast(values, dtype or self.dtype))

    def per(self, kind: str) -> tuple[int, ...]:
        """The shape of a value per channel, per sample, or per sample of the rank of x."""
        full = tuple(n if place in self.axes else 1 for place, n in enumerate(self.shape))
        if kind == "map":
            return tuple(self.shape)
        channel = full if len(self.axes) > 1 else (self.shape[self.axes[0]],)
        if kind in ("number", "channel"):
            return channel if kind == "channel" else ()
        if kind in ("per class", "mixture", "embedding"):
            return (3, *channel[len(self.axes) > 1 :])  # as many rows as there are classes
        return (self.shape[0], *(full[1:] if kind == "full" or len(channel) > 1 else channel))

    def pair(self, slot: str) -> tuple[Array, ...]:
        """A scale and a shift; neither for none."""
        if self.row[slot] == "none":
            return ()
        shape = self.per(self.row[slot])
        # Of maps the second is one for all samples.
        second = (1, *shape[1:]) if self.row[slot] == "map" else shape
        scale, shift = self.random.normal(1.0, 0.3, shape), self.random.normal(0.0, 0.3, second)
        return self.held(scale, self.wide), self.held(shift, self.wide)

    def drawn(self) -> dict[str, Array]:
        """A condition: the number of a class, shares of all, or a vector for each sample."""
        samples, kind = self.shape[0], self.row["affine"]
        if kind == "per class":
            return {"condition": self.random.integers(0, 3, samples).astype("int32")}
        shares = self.random.dirichlet(np.ones(3), samples)
        vectors = self.random.normal(0.0, 0.5, (samples, 3))
        return {"condition": self.held(shares if kind == "mixture" else vectors, self.wide)}

    def parts(self) -> Array:
        """The share of each row of gamma and beta in a sample, (N, rows)."""
        condition = self.condition["condition"]
        return np.eye(3)[condition] if condition.ndim == 1 else condition.astype("float64")

    def exact(self) -> dict[str, Array]:
        """Gamma and beta for the oracle, one row per sample."""
        if not self.conditional:
            return self.affine
        offsets = {"gamma": getattr(self.conditional, "offset", 0.0), "beta": 0.0}
        return {
            name: offsets[name] + np.tensordot(self.parts(), value.astype("float64"), 1)
            for name, value in self.affine.items()
        }

    def scaled(self, inputs: Any) -> dict[str, Any]:
        """Gamma and beta as `batch_norm` takes them, from the tensors that have their names."""
        own = {name: inputs[name] for name in self.affine}
        if not self.conditional:
            return own
        return dict(zip(own, self.conditional(inputs["condition"], *own.values()), strict=True))

    def own_gradients(self, gradients: tuple[Array, ...]) -> list[Array]:
        """The gradients in x, gamma, beta and the condition, from those in x and in `exact`."""
        if not self.conditional:
            return [gradient for gradient in gradients if gradient is not None]
        dx, *slopes = gradients
        result = [dx, *(np.tensordot(self.parts().T, slope, 1) for slope in slopes)]
        if self.row["affine"] != "per class":
            rows = zip(slopes, self.affine.values(), strict=True)
            flat = ((a.reshape(len(a), -1), b.reshape(len(b), -1)) for a, b in rows)
            result.append(np.sum([a @ b.astype("float64").T for a, b in flat], axis=0))
        return result

    def weigh(self) -> dict[str, Array]:
        """The mask hides all of a first group of 2."""
        measured = [n for place, n in enumerate(self.shape) if place not in self.axes]
        floats = np.maximum(self.random.normal(0.8, 0.6, measured), 0.0)
        weights = {
            "mask": np.array([0, 0, 1, 1, 1, 0, 1, 1], bool)[: self.shape[0]],
            "sample_weight": self.held(floats, self.wide),
        }
        chosen = (*weights,) if self.value("weights") == "both" else (self.value("weights"),)
        return {name: value for name, value in weights.items() if name in chosen}

    def oracle_options(self, t: int, training: bool) -> dict[str, Any]:
        """The oracle's options at a step."""
        product = np.ones(())
        for value in self.weights.values():
            lacking = len(self.shape) - len(self.axes) - value.ndim
            product = product * value.astype("float64").reshape(value.shape + (1,) * lacking)
        return {
            "axis": self.options["axis"],
            "training": training,
            "weights": product,
            "ghost": self.ghost,
            "rate": self.rate(t),
            "unbiased": self.unbiased,
            "renorm": self.limits(t),
            "adjustment": self.adjusted or None,
        }

    def check(self, y: Any, state: Any, expected: oracle.Step, step: int) -> None:
        """Compares y and the state, of which the step is not the oracle's."""
        assert keras.backend.standardize_dtype(y.dtype) == self.dtype
        activated = np.maximum(expected.y, 0.0) if self.value("activation") else expected.y
        assert_close(to_numpy(y), activated, TOLERANCE[self.dtype])
        for name in self.names:
            value = step if name == "step" else expected.state[name]
            actual = to_numpy(state[name])
            assert actual.dtype == ("int32" if name == "step" else self.wide)
            assert_close(actual, value, TOLERANCE[self.wide])


def run(case: Case, mode: str, training: bool) -> Any:
    """y, the new state, and the gradients of sum(y * dy) in x, gamma, beta and the condition."""
    arrays: dict[str, Any] = {"x": case.x, "dy": case.dy, "step": np.int32(case.first)}
    arrays |= case.state | case.weights | case.affine | case.condition
    inputs = dict(zip(arrays, tensors([*arrays.values()]), strict=True))
    floats = {name for name, value in arrays.items() if value.dtype != "int32"}
    sought = [name for name in ("x", *case.affine, *case.condition) if name in floats]

    def forward(values: Any) -> Any:
        arguments = {name: values[name] for name in case.weights} | case.scaled(values)
        return batch_norm(values["x"], values, training=training, **arguments, **case.options)

    def loss(*variables: Any) -> Any:
        y = forward(inputs | dict(zip(sought, variables, strict=True)))[0]
        return ops.sum(ops.cast(y, case.wide) * ops.cast(inputs["dy"], case.wide))

    def step(values: Any) -> Any:
        return *forward(values), gradients(loss, *(values[name] for name in sought))

    return compiled(step, mode)(inputs)


def check(row: Row, mode: str, training: bool = True) -> None:
    """Compares y, the new state and all gradients."""
    case = Case(row)
    options = case.oracle_options(case.first, training)
    expected = oracle.step(case.x, case.state, **case.exact(), **options)
    # Where relu is 0; and at its kink, where rounding decides between two derivatives.
    edge, hidden = (case.value("activation") is not None) & np.array(
        [abs(expected.y) < 1e-3, expected.y <= 0]
    )
    case.dy[edge] = 0
    y, state, actual_gradients = run(case, mode, training)
    case.check(y, state, expected, case.first + training)
    dy = np.where(hidden, 0.0, case.dy.astype("float64"))
    exact_gradients: Any = oracle.step_gradients(case.x, dy, case.state, **case.exact(), **options)
    dx, *rest = case.own_gradients(exact_gradients)
    assert_close(to_numpy(actual_gradients[0]), dx, TOLERANCE[case.dtype])
    for actual, exact in zip(actual_gradients[1:], rest, strict=True):
        # A sum of products of y, each with the error of one.
        assert_close(to_numpy(actual), exact, 4 * TOLERANCE[case.wide])


# Eager JAX compiles operation by operation, which takes longer.
FIRST = "jit" if BACKEND == "jax" else "eager"


@pytest.mark.parametrize("row", [*PAIRS, *FULL], ids="-".join)
def test_oracle(row: Row) -> None:
    with precision(row[DTYPE]):
        check(row, FIRST)


@pytest.mark.parametrize("row", SOME, ids="-".join)
def test_oracle_in_inference(row: Row) -> None:
    with precision(row[DTYPE]):
        check(row, FIRST, training=False)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != FIRST])
@pytest.mark.parametrize("row", FULL[:1] if BACKEND == "jax" else SOME, ids="-".join)
def test_oracle_in_other_modes(row: Row, mode: str) -> None:
    with precision(row[DTYPE]):
        check(row, mode)


# A layer's own gamma and beta are per channel, or rows for conditions, or there are none.
OWN = [(row, False) for row in SOME if row[AFFINE] not in ("number", "sample", "map")]
FROM_CALL = [(row, True) for row in SOME if row[AFFINE] in ("number", "channel", "sample", "map")]


@pytest.mark.parametrize(("row", "from_call"), [*OWN, *FROM_CALL], ids=str)
def test_layer(row: Row, from_call: bool) -> None:
    with precision(row[DTYPE]):
        case = Case(row)
        own = row[AFFINE] != "none" and not from_call
        affine = {"affine": Given()} if from_call else {"center": own, "scale": own}
        affine |= {"affine": case.conditional} if case.conditional else {}
        layer = BatchNormalization(**case.options, **affine, dtype=case.dtype)
        layer.build(case.shape, *(value.shape for value in case.condition.values()))
        named = {variable.name: variable for variable in layer.variables}
        values = {**case.state, **case.affine, "step": case.first}
        for name, variable in named.items():
            variable.assign(values[name])
        seen: dict[str, Any] = {**case.weights, **case.condition}
        seen |= {"condition": tensors([*case.affine.values()])} if from_call else {}
        state, step = case.state, case.first
        # Three steps, then frozen, then in inference.
        calls = ((1.0, True, True), (2.0, True, True), (0.5, True, True), (1.0, True, False))
        for scale, training, layer.trainable in (*calls, (1.0, False, True)):
            x, recorded = case.x * case.x.dtype.type(scale), training and layer.trainable
            y = layer(*tensors([x]), training=training, **seen)
            expected = oracle.step(x, state, **case.exact(), **case.oracle_options(step, recorded))
            state, step = expected.state, step + recorded
            case.check(y, named, expected, step)


@pytest.mark.parametrize(("policy", "factor"), [("float32", 1.0), ("mixed_float16", 70_000.0)])
def test_a_mask_that_keras_propagates(policy: str, factor: float) -> None:
    inputs, weights = keras.Input((5, 3)), keras.Input((5,))
    masked = keras.layers.Masking(dtype=policy)(inputs)
    layer = BatchNormalization(moving=ZeroDebiased(), dtype=policy)
    model = keras.Model([inputs, weights], layer(masked, sample_weight=weights))
    draw = np.random.default_rng(0)
    shown = np.arange(5) < np.array([[5], [3], [1], [0]])
    x = draw.normal(1.5, 2.0, (4, 5, 3)).astype("float16").astype("float32") * shown[..., None]
    w = draw.uniform(0.1, 1.0, (4, 5)).astype("float32") * np.float32(factor)  # not in float16
    state = {"moving_mean": np.zeros(3), "moving_variance": np.ones(3)}
    expected = oracle.step(x, state, weights=w * shown.astype("float64"), rate=1.0)
    y = model(tensors([x, w]), training=True)
    assert_close(to_numpy(y), expected.y, TOLERANCE[layer.compute_dtype])
    for name, value in expected.state.items():
        assert_close(to_numpy(getattr(layer, name)), value, 1e-5)


def saved_sizes(function: Function, x: Any) -> list[int]:
    """Sizes of the arrays saved for the gradient in x that are no smaller than x."""
    size = to_numpy(x).size
    if BACKEND == "jax":
        import jax

        saved = {id(leaf): leaf.size for leaf in jax.tree.leaves(jax.vjp(function, x)[1])}
    else:
        import torch

        saved = {}

        def pack(tensor: Any) -> Any:
            storage = tensor.untyped_storage()
            saved[storage.data_ptr()] = storage.nbytes() // tensor.itemsize
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            assert function(x.requires_grad_()).requires_grad
    return [count for count in saved.values() if count >= size]


@pytest.mark.skipif(BACKEND == "tensorflow", reason="TensorFlow does not show what it keeps")
@pytest.mark.parametrize("row", ONE, ids="-".join)
def test_what_backward_needs_is_one_array_like_x(row: Row) -> None:
    with precision(row[DTYPE]):
        case = Case(row)
        own = case.affine | case.condition
        scaled = case.scaled(dict(zip(own, tensors([*own.values()]), strict=True)))
        options = {**case.options, **case.weights, **scaled}
        state = {**case.state, "step": np.int32(case.first)}
        sizes = saved_sizes(
            lambda x: batch_norm(x, state, training=True, **options)[0], *tensors([case.x])
        )
    short = case.ghost and case.shape[0] % case.ghost[0]
    # The positions hidden by relu or a weight of 0 are saved too, as booleans; on JAX with zeros.
    hides = row[-1] == "relu" or case.weights or short
    assert len(sizes) == 1 or (hides and len(sizes) <= {"torch": 2, "jax": 3}[BACKEND])
