"""`contrib.batch_norm`: every argument with every other, against the oracle."""

import itertools
import random
from typing import Any

import keras
import numpy as np
import pytest

from tests import oracle
from tests.compare import assert_close
from tests.differentiate import Array

if keras.backend.backend() != "tensorflow":
    pytest.skip("graph code is TensorFlow's", allow_module_level=True)

import tensorflow.compat.v1 as tf

from tests.contrib.graphs import Layer, session

TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-5, "float64": 1e-12}
# Half precision does not hold deviations of 2 about so much.
MEAN = {"float16": 1.5, "bfloat16": 1.5, "float32": 1e4, "float64": 1e2}
DECAY, RENORM_DECAY = 0.75, 0.875  # exact in float32, which a tensor of them is

ARGUMENTS: dict[str, dict[str, Any]] = {
    "inputs": {  # shape, whether sizes are unknown to the graph, data_format
        "rank 2": ((6, 3), False, "NHWC"),
        "rank 3": ((5, 4, 3), True, "NHWC"),
        "rank 4": ((5, 2, 3, 4), False, "NHWC"),
        "rank 3 NCHW": ((5, 3, 4), False, "NCHW"),
        "rank 4 NCHW": ((5, 4, 2, 3), True, "NCHW"),
        "rank 5 NCHW": ((4, 3, 2, 3, 2), True, "NCHW"),
    },
    "dtype": {name: name for name in TOLERANCE},
    "is_training": {name: name for name in ("True", "fed")},
    "affine": {"none": "", "beta": "center", "gamma": "scale", "both": "center scale"},
    "fused": {"None": None, "False": False},
    "decay": {"number": False, "tensor": True},
    "epsilon": {"default": 1e-3, "0": 0.0, "0.25": 0.25},
    "batch_weights": {name: name for name in ("none", "floats", "fed")},
    "zero_debias": {"no": False, "yes": True},
    "renorm": {name: name for name in ("none", "unlimited", "limits", "fed")},
    "adjustment": {name: name for name in ("none", "channel", "sample", "full")},
    "updates": {"UPDATE_OPS": "update_ops", "custom": "mine", "None": None},
}
Row = tuple[str, ...]  # the name of a value for each argument


def covering() -> list[Row]:
    """Returns few rows that contain every pair of values: always the best of some random ones."""
    draw, rows = random.Random(0), []
    values = [
        [(place, name) for name in options] for place, options in enumerate(ARGUMENTS.values())
    ]
    pairs = itertools.combinations(values, 2)
    missing = {pair for two in pairs for pair in itertools.product(*two)}
    while missing:
        required = dict(min(missing))
        drawn = [
            tuple(
                required.get(place) or draw.choice([*options])
                for place, options in enumerate(names)
            )
            for names in [ARGUMENTS.values()] * 60
        ]
        held = [missing & {*itertools.combinations(enumerate(row), 2)} for row in drawn]
        best = max(range(len(drawn)), key=lambda index: len(held[index]))
        rows.append(drawn[best])
        missing -= held[best]
    return rows


class Trial:
    """The layer of a row, the inputs of a step, and the results that the oracle expects."""

    def __init__(self, row: Row) -> None:
        self.random = np.random.default_rng(0)
        chosen = dict(zip(ARGUMENTS, row, strict=True))
        self.chosen = {name: ARGUMENTS[name][value] for name, value in chosen.items()}
        self.shape, unknown, data_format = self.chosen["inputs"]
        self.dtype = self.chosen["dtype"]
        self.wide = "float64" if self.dtype == "float64" else "float32"
        self.axis = 1 if data_format == "NCHW" else len(self.shape) - 1
        self.channels = self.shape[self.axis]
        self.fed: dict[str, Any] = {}  # placeholders by name
        static = [n if place == self.axis else None for place, n in enumerate(self.shape)]
        self.adjusted = self.adjustment()
        self.layer = Layer(
            static if unknown else self.shape,
            self.dtype,
            gradients=True,
            data_format=data_format,
            decay=tf.constant(DECAY) if self.chosen["decay"] else DECAY,
            center="center" in self.chosen["affine"],
            scale="scale" in self.chosen["affine"],
            epsilon=self.chosen["epsilon"],
            updates_collections=self.chosen["updates"],
            is_training=self.training(),
            batch_weights=self.weights(),
            fused=self.chosen["fused"],
            zero_debias_moving_mean=self.chosen["zero_debias"],
            adjustment=(lambda shape: self.adjusted) if self.adjusted else None,
            **self.renorm(),
        )
        offsets = {name: MEAN[self.dtype] for name in ("moving_mean", "renorm_mean")}
        self.layer.load(
            **{
                name: self.random.uniform(0.5, 2.0, self.channels) + offsets.get(name, 0.0)
                for name in self.layer.variables
                if name not in ("biased", "local_step")
            }
        )

    def training(self) -> Any:
        if self.chosen["is_training"] == "fed":
            self.fed["is_training"] = tf.placeholder(tf.bool)
            return self.fed["is_training"]
        return True

    def weights(self) -> Any:
        self.w: Any = np.array([0.5, 0.0, 2.0, 1.25, 3.0, 0.75])[: self.shape[0]]
        if self.chosen["batch_weights"] == "fed":
            self.w = np.array([2, 0, 1, 3, 1, 4])[: self.shape[0]]
            self.fed["weights"] = tf.placeholder(tf.int32, [None])
            return self.fed["weights"]
        if self.chosen["batch_weights"] == "none":
            self.w = None
        return self.w

    def renorm(self) -> dict[str, Any]:
        kind = self.chosen["renorm"]
        self.clipping: dict[str, float] = {}
        if kind == "limits":
            self.clipping = {"rmin": 0.875, "rmax": 1.125, "dmax": 0.25}
        if kind == "fed":
            self.clipping = {"rmax": 1.0, "dmax": 0.0}
            self.fed |= {name: tf.placeholder(tf.float32, []) for name in self.clipping}
        limits = {name: self.fed.get(name, value) for name, value in self.clipping.items()}
        return {
            "renorm": kind != "none",
            "renorm_clipping": limits or None,
            "renorm_decay": tf.constant(RENORM_DECAY) if self.chosen["decay"] else RENORM_DECAY,
        }

    def adjustment(self) -> tuple[Array, Array] | None:
        n, c = self.shape[0], self.channels
        shapes: dict[str, Any] = {"channel": (c,), "sample": (n, c)}
        shapes["full"] = [
            n if k == 0 else c if k == self.axis else 1 for k in range(len(self.shape))
        ]
        if self.chosen["adjustment"] == "none":
            return None
        size = shapes[self.chosen["adjustment"]]
        drawn = self.random.uniform(0.5, 1.5, size), self.random.normal(0.0, 0.5, size)
        return tuple(array.astype(self.wide) for array in drawn)

    def unbiased(self) -> bool:
        """True if contrib ran a fused kernel, which records n / (n - 1) times as much."""
        unfused = ("batch_weights", "renorm", "adjustment")
        if self.chosen["fused"] is False or any(self.chosen[name] != "none" for name in unfused):
            return False
        own = self.chosen["zero_debias"] or self.chosen["updates"] != "update_ops"
        single = self.dtype != "float64"  # tf.layers did not fuse float64
        rules = {2: True, 3: False, 4: own or single, 5: single and not own}
        return bool(rules[len(self.shape)])

    def options(self, training: bool) -> dict[str, Any]:
        limits = tuple(self.clipping.get(name) for name in ("rmin", "rmax", "dmax"))
        return {
            "axis": self.axis,
            "training": training,
            "epsilon": self.chosen["epsilon"],
            "weights": self.w,
            "unbiased": self.unbiased(),
            "renorm": (*limits, 1 - RENORM_DECAY) if self.chosen["renorm"] != "none" else None,
            "adjustment": self.adjusted,
        }

    def expected(self, x: Array, before: dict[str, Array], training: bool) -> oracle.Step:
        """Returns the expected step; the rates of the mean and of the variance may differ."""
        state = {
            name: value
            for name, value in before.items()
            if name not in ("gamma", "beta", "biased", "local_step")
        }
        affine: Any = {name: before.get(name) for name in ("gamma", "beta")}
        options = self.options(training)
        t, decay = float(before.get("local_step", 0)) + training, DECAY if training else 1.0
        plain = 1 - decay
        rates = (plain / (1 - DECAY**t) if "biased" in before and training else plain, plain)
        y, state = oracle.step(x, state, **affine, **options, rate=rates)
        if "biased" in before:
            batch = oracle.step(x, state, **options, rate=1.0).state["moving_mean"]
            biased = decay * before["biased"] + plain * batch
            state |= {"local_step": np.asarray(t), "biased": biased}
        return oracle.Step(y, state)

    def feed(self, step: int, training: bool) -> dict[Any, Any]:
        if self.chosen["renorm"] == "fed":
            self.clipping = {"rmax": 1.0 + step / 16, "dmax": step / 8}
        values = {"is_training": training, "weights": self.w, **self.clipping}
        return {self.fed[name]: value for name, value in values.items() if name in self.fed}

    def check(self, step: int, training: bool) -> None:
        """Compares y, the gradients and all variables after a step."""
        drawn = self.random.normal(size=(2, *self.shape))
        drawn[0] = drawn[0] * 2.0 / (1 + step) + MEAN[self.dtype]
        x, dy = drawn.astype(tf.as_dtype(self.dtype).as_numpy_dtype)
        feed, before = self.feed(step, training), self.layer.state()
        y, gradients = self.layer.differentiate(x, dy, feed)
        expected = self.expected(x, before, training)
        assert y.dtype == x.dtype
        assert_close(y, expected.y, TOLERANCE[self.dtype])
        after = self.layer.state()
        for name, value in {**before, **expected.state}.items():
            assert after[name].dtype == ("float32" if name == "local_step" else self.wide)
            assert_close(after[name], value, TOLERANCE[self.wide])
        state = {name: before[name] for name in expected.state if name in before}
        affine: Any = {name: before.get(name) for name in ("gamma", "beta")}
        exact: Any = oracle.step_gradients(x, dy, state, **affine, **self.options(training))
        for name, gradient in zip(("x", "gamma", "beta"), exact, strict=True):
            assert (gradient is None) == (name not in gradients)
            if gradient is not None:
                tolerance = TOLERANCE[self.dtype] if name == "x" else 4 * TOLERANCE[self.wide]
                assert_close(gradients[name], gradient, tolerance)


ROWS = covering()


def test_every_pair_of_values_occurs() -> None:
    pairs = {pair for row in ROWS for pair in itertools.combinations(enumerate(row), 2)}
    sizes = [len(values) for values in ARGUMENTS.values()]
    assert len(pairs) == sum(a * b for a, b in itertools.combinations(sizes, 2))


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_oracle(row: Row) -> None:
    with session():
        trial = Trial(row)
        mixed = trial.chosen["is_training"] != "True"
        for step, training in enumerate((True, not mixed, True, not mixed)):
            trial.check(step, training)
