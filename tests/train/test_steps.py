"""A step of two networks, as the same arithmetic in plain NumPy, on each backend."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from batchnorm import BatchNormalization
from batchnorm.train import steps
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, to_numpy

MOMENTUM, EPSILON = 0.8, 1e-3


class Two:
    """Two networks that take turns: tanh(x @ kernel + bias), and normalization with a kernel."""

    def __init__(self, optimizer: str) -> None:
        keras.utils.set_random_seed(3)
        self.first = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, "tanh")])
        self.second = keras.Sequential(
            [
                keras.Input((2,)),
                BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON),
                keras.layers.Dense(1, use_bias=False),
            ]
        )
        random = np.random.default_rng(0)
        for variable in (*self.first.trainable_variables, *self.second.trainable_variables):
            variable.assign(random.normal(0.5, 1.0, variable.shape))
        makes = {
            "sgd": lambda: keras.optimizers.SGD(0.1),
            "adam": lambda: keras.optimizers.Adam(0.1, beta_1=0.5, beta_2=0.9, epsilon=1e-4),
        }
        self.optimizers = [makes[optimizer](), makes[optimizer]()]
        self.losses = keras.Variable(0.0, trainable=False, name="losses", dtype="float32")
        for made, model in zip(self.optimizers, (self.first, self.second), strict=True):
            made.build(model.trainable_variables)
        owners = (self.first, self.second, *self.optimizers)
        self.variables = [v for owner in owners for v in owner.variables] + [self.losses]
        self.steps = steps.choose(self.variables)

    def step(self, x: Any, target: Any) -> tuple[Any, Any]:
        """The second learns from what the first made; then the first, through the second."""
        fixed = ops.stop_gradient(self.first(x, training=True))
        one = self.steps.minimize(
            lambda: self.loss(fixed, target), self.optimizers[1], self.second.trainable_variables
        )
        other = self.steps.minimize(
            lambda: -self.loss(self.first(x, training=True), target),
            self.optimizers[0],
            self.first.trainable_variables,
        )
        self.losses.assign_add(one + other)
        return one, other

    def loss(self, made: Any, target: Any) -> Any:
        return ops.mean(ops.square(self.second(made, training=True) - target))


class Adam:
    """Keras's, in NumPy."""

    def __init__(self) -> None:
        self.moments: dict[str, tuple[Any, Any]] = {}
        self.count = 0

    def __call__(self, values: dict[str, Array], gradients: dict[str, Array]) -> None:
        self.count += 1
        for name, gradient in gradients.items():
            m, v = self.moments.get(name, (0.0, 0.0))
            m, v = 0.5 * m + 0.5 * gradient, 0.9 * v + 0.1 * gradient**2
            self.moments[name] = m, v
            rate = 0.1 * np.sqrt(1 - 0.9**self.count) / (1 - 0.5**self.count)
            values[name] = values[name] - rate * m / (np.sqrt(v) + 1e-4)


class Descent:
    """Gradient descent in NumPy."""

    def __call__(self, values: dict[str, Array], gradients: dict[str, Array]) -> None:
        for name, gradient in gradients.items():
            values[name] = values[name] - 0.1 * gradient


class ByHand:
    """The same two networks in NumPy, float64, differentiated by hand."""

    def __init__(self, two: Two, optimizer: str) -> None:
        names = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "last")
        models = (two.first, two.second)
        # By name, as in the second network the moving statistics come last or between.
        found = {v.path.split("/")[-1]: v for model in models for v in model.layers[0].variables}
        found["last"] = two.second.layers[1].kernel
        self.values = {name: np.array(to_numpy(found[name]), "float64") for name in names}
        self.found = found
        makes: dict[str, Any] = {"sgd": Descent, "adam": Adam}
        self.first, self.second = makes[optimizer](), makes[optimizer]()
        self.losses = 0.0

    def step(self, x: Array, target: Array) -> tuple[float, float]:
        made = np.tanh(x @ self.values["kernel"] + self.values["bias"])
        one, gradients, _ = self.judged(made, target)
        self.second(self.values, gradients)
        other, _, along = self.judged(made, target)
        along = along * (1 - made**2)
        self.first(self.values, {"kernel": -x.T @ along, "bias": -along.sum(0)})
        self.losses += one - other
        return one, -other

    def judged(self, made: Array, target: Array) -> tuple[float, dict[str, Array], Array]:
        """The loss, its gradients in the second network's weights and in what it gets."""
        values = self.values
        mean, variance = made.mean(0), made.var(0)
        for name, batch in (("moving_mean", mean), ("moving_variance", variance)):
            values[name] = MOMENTUM * values[name] + (1 - MOMENTUM) * batch
        deviation = np.sqrt(variance + EPSILON)
        normal = (made - mean) / deviation
        y = normal * values["gamma"] + values["beta"]
        error = y @ values["last"] - target
        dy = 2 / error.size * error @ values["last"].T
        gradients = {
            "gamma": (dy * normal).sum(0),
            "beta": dy.sum(0),
            "last": y.T @ (2 / error.size * error),
        }
        dn = dy * values["gamma"]
        along = (dn - dn.mean(0) - normal * (dn * normal).mean(0)) / deviation
        return float((error**2).mean()), gradients, along


def batches(count: int, size: int = 8) -> list[tuple[Array, Array]]:
    random = np.random.default_rng(1)
    return [
        (
            random.normal(0.2, 1, (size, 3)).astype("float32"),
            random.normal(size=(size, 1)).astype("float32"),
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_steps_are_those_by_hand(optimizer: str) -> None:
    two = Two(optimizer)
    by_hand, run = ByHand(two, optimizer), two.steps.compiled(two.step)
    before = dict(by_hand.values)
    for x, target in batches(4):
        losses = [float(each) for each in run(x, target)]
        assert_close(losses, by_hand.step(x.astype("float64"), target), 2e-5)
        for name, variable in by_hand.found.items():
            assert_close(to_numpy(variable), by_hand.values[name], 5e-5)
    assert [int(each.iterations) for each in two.optimizers] == [4, 4]
    # What a step assigns to itself, outside of any loss, is kept too.
    assert float(two.losses) == pytest.approx(by_hand.losses, abs=1e-4)
    for name, value in before.items():
        assert np.abs(value - by_hand.values[name]).max() > 1e-3, name


def test_statistics_move_once_a_call() -> None:
    """Two calls in one loss are two; none of a call is lost, and none is counted twice."""
    two = Two("sgd")
    layer, weights = two.second.layers[0], two.second.trainable_variables
    x = np.array([[1.0, -2.0], [3.0, 2.0]], "float32")

    def step(x: Any) -> Any:
        def loss() -> Any:
            made = two.second(x, training=True), two.second(x + 1.0, training=True)
            return ops.mean(made[0]) + ops.mean(made[1])

        return two.steps.minimize(loss, two.optimizers[1], weights)

    run = two.steps.compiled(step)
    mean, variance = np.zeros(2), np.ones(2)
    for _ in range(3):
        run(x)
        for more in (0.0, 1.0):
            mean = 0.8 * mean + 0.2 * (np.array([2.0, 0.0]) + more)
            variance = 0.8 * variance + 0.2 * np.array([1.0, 4.0])
    assert_close(to_numpy(layer.moving_mean), mean, 1e-5)
    assert_close(to_numpy(layer.moving_variance), variance, 1e-5)


def test_what_is_not_listed_stays() -> None:
    two = Two("adam")
    (kernel,) = two.second.layers[1].trainable_variables
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([kernel])
    chosen = steps.choose([*two.variables, *optimizer.variables])

    def step(x: Any, target: Any) -> Any:
        return chosen.minimize(lambda: two.loss(two.first(x), target), optimizer, [kernel])

    before = {id(v): np.array(to_numpy(v)) for v in (*two.variables, *optimizer.variables)}
    run = chosen.compiled(step)
    for batch in batches(2):
        run(*batch)
    changed = [
        v for v in (*two.variables, *optimizer.variables) if (to_numpy(v) != before[id(v)]).any()
    ]
    layer = two.second.layers[0]
    known = [layer.moving_mean, layer.moving_variance, kernel]
    optimizers = {id(v) for v in optimizer.variables}
    assert {id(v) for v in changed} - optimizers == {id(v) for v in known}
    assert {id(optimizer.iterations), *(id(v) for v in changed)} & optimizers
    assert int(optimizer.iterations) == 2


def test_a_loss_is_that_before_the_step() -> None:
    two = Two("sgd")
    ((x, target),) = batches(1)

    def loss() -> float:
        return float(to_numpy(two.loss(two.first(x), ops.convert_to_tensor(target))))

    expected = loss()
    found, _ = two.steps.compiled(two.step)(x, target)
    assert float(found) == pytest.approx(expected, rel=1e-5)
    assert loss() != pytest.approx(expected, rel=1e-2)


def test_a_step_is_compiled_once() -> None:
    """But on PyTorch, where the code runs as it stands."""
    two, traces = Two("sgd"), []

    def step(x: Any, target: Any) -> Any:
        traces.append(x.shape)
        return two.step(x, target)

    run = two.steps.compiled(step)
    for batch in batches(5):
        run(*batch)
    assert len(traces) == (5 if BACKEND == "torch" else 1)
    # What is called again has the values of now, not those that were compiled.
    for variable in two.second.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    x, target = batches(1)[0]
    assert float(run(x, target)[0]) == pytest.approx(float((target**2).mean()), rel=1e-5)


def test_shapes_may_change() -> None:
    two = Two("adam")
    by_hand, run = ByHand(two, "adam"), two.steps.compiled(two.step)
    for size in (8, 5, 8, 2):
        x, target = batches(1, size)[0]
        losses = [float(each) for each in run(x, target)]
        assert_close(losses, by_hand.step(x.astype("float64"), target), 5e-5)
    for name, variable in by_hand.found.items():
        assert_close(to_numpy(variable), by_hand.values[name], 2e-4)


def test_a_step_runs_as_well_as_it_stands() -> None:
    """Uncompiled, as one debugs it."""
    compiled, bare = Two("adam"), Two("adam")
    run = compiled.steps.compiled(compiled.step)
    for batch in batches(2):
        expected = [float(each) for each in run(*batch)]
        found = bare.step(*map(ops.convert_to_tensor, batch))
        assert_close([float(each) for each in found], expected, 1e-5)
    for one, other in zip(bare.variables, compiled.variables, strict=True):
        assert_close(to_numpy(one), to_numpy(other), 1e-5)
