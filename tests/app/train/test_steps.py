"""A training step of two networks against the same arithmetic in NumPy, on each backend."""

from typing import Any

import keras
import numpy as np
import pytest
from keras import ops

from batchnorm import BatchNormalization
from batchnorm_app.train import steps
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, to_numpy

MOMENTUM, EPSILON = 0.8, 1e-3


class TwoNetworks:
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
        optimizers = {
            "sgd": lambda: keras.optimizers.SGD(0.1),
            "adam": lambda: keras.optimizers.Adam(0.1, beta_1=0.5, beta_2=0.9, epsilon=1e-4),
        }
        self.optimizers = [optimizers[optimizer](), optimizers[optimizer]()]
        self.losses = keras.Variable(0.0, trainable=False, name="losses", dtype="float32")
        for features, model in zip(self.optimizers, (self.first, self.second), strict=True):
            features.build(model.trainable_variables)
        owners = (self.first, self.second, *self.optimizers)
        self.variables = [v for owner in owners for v in owner.variables] + [self.losses]
        self.steps = steps.choose(self.variables)

    def step(self, x: Any, target: Any) -> tuple[Any, Any]:
        """Trains the second network on outputs of the first, then the first through the second."""
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

    def loss(self, features: Any, target: Any) -> Any:
        return ops.mean(ops.square(self.second(features, training=True) - target))


class Adam:
    """Keras's Adam in NumPy."""

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

    def __init__(self, two: TwoNetworks, optimizer: str) -> None:
        names = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "last")
        models = (two.first, two.second)
        # By name, because the order of the second network's variables depends on the backend.
        by_name = {v.path.split("/")[-1]: v for model in models for v in model.layers[0].variables}
        by_name["last"] = two.second.layers[1].kernel
        self.values = {name: np.array(to_numpy(by_name[name]), "float64") for name in names}
        self.variables_by_name = by_name
        optimizers: dict[str, Any] = {"sgd": Descent, "adam": Adam}
        self.first, self.second = optimizers[optimizer](), optimizers[optimizer]()
        self.losses = 0.0

    def step(self, x: Array, target: Array) -> tuple[float, float]:
        features = np.tanh(x @ self.values["kernel"] + self.values["bias"])
        one, gradients, _ = self.loss_and_gradients(features, target)
        self.second(self.values, gradients)
        other, _, dx = self.loss_and_gradients(features, target)
        dx = dx * (1 - features**2)
        self.first(self.values, {"kernel": -x.T @ dx, "bias": -dx.sum(0)})
        self.losses += one - other
        return one, -other

    def loss_and_gradients(
        self, features: Array, target: Array
    ) -> tuple[float, dict[str, Array], Array]:
        """Returns the loss, and its gradients by the second network's weights and by its input."""
        values = self.values
        mean, variance = features.mean(0), features.var(0)
        for name, batch in (("moving_mean", mean), ("moving_variance", variance)):
            values[name] = MOMENTUM * values[name] + (1 - MOMENTUM) * batch
        deviation = np.sqrt(variance + EPSILON)
        normal = (features - mean) / deviation
        y = normal * values["gamma"] + values["beta"]
        error = y @ values["last"] - target
        dy = 2 / error.size * error @ values["last"].T
        gradients = {
            "gamma": (dy * normal).sum(0),
            "beta": dy.sum(0),
            "last": y.T @ (2 / error.size * error),
        }
        dn = dy * values["gamma"]
        dx = (dn - dn.mean(0) - normal * (dn * normal).mean(0)) / deviation
        return float((error**2).mean()), gradients, dx


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
def test_steps_equal_those_by_hand(optimizer: str) -> None:
    two = TwoNetworks(optimizer)
    by_hand, run = ByHand(two, optimizer), two.steps.compile(two.step)
    before = dict(by_hand.values)
    for x, target in batches(4):
        losses = [float(value) for value in run(x, target)]
        assert_close(losses, by_hand.step(x.astype("float64"), target), 2e-5)
        for name, variable in by_hand.variables_by_name.items():
            assert_close(to_numpy(variable), by_hand.values[name], 5e-5)
    assert [int(value.iterations) for value in two.optimizers] == [4, 4]
    # Assignments of a step outside of any loss take effect, too.
    assert float(two.losses) == pytest.approx(by_hand.losses, abs=1e-4)
    for name, value in before.items():
        assert np.abs(value - by_hand.values[name]).max() > 1e-3, name


def test_statistics_move_once_a_call() -> None:
    """Two calls in one loss are two; none of a call is lost, and none is counted twice."""
    two = TwoNetworks("sgd")
    layer, weights = two.second.layers[0], two.second.trainable_variables
    x = np.array([[1.0, -2.0], [3.0, 2.0]], "float32")

    def step(x: Any) -> Any:
        def loss() -> Any:
            features = two.second(x, training=True), two.second(x + 1.0, training=True)
            return ops.mean(features[0]) + ops.mean(features[1])

        return two.steps.minimize(loss, two.optimizers[1], weights)

    run = two.steps.compile(step)
    mean, variance = np.zeros(2), np.ones(2)
    for _ in range(3):
        run(x)
        for offset in (0.0, 1.0):
            mean = 0.8 * mean + 0.2 * (np.array([2.0, 0.0]) + offset)
            variance = 0.8 * variance + 0.2 * np.array([1.0, 4.0])
    assert_close(to_numpy(layer.moving_mean), mean, 1e-5)
    assert_close(to_numpy(layer.moving_variance), variance, 1e-5)


def test_variables_that_are_not_listed_keep_their_values() -> None:
    two = TwoNetworks("adam")
    (kernel,) = two.second.layers[1].trainable_variables
    optimizer = keras.optimizers.Adam(0.1)
    optimizer.build([kernel])
    chosen_steps = steps.choose([*two.variables, *optimizer.variables])

    def step(x: Any, target: Any) -> Any:
        return chosen_steps.minimize(lambda: two.loss(two.first(x), target), optimizer, [kernel])

    before = {id(v): np.array(to_numpy(v)) for v in (*two.variables, *optimizer.variables)}
    run = chosen_steps.compile(step)
    for batch in batches(2):
        run(*batch)
    changed = [
        v for v in (*two.variables, *optimizer.variables) if (to_numpy(v) != before[id(v)]).any()
    ]
    layer = two.second.layers[0]
    expected = [layer.moving_mean, layer.moving_variance, kernel]
    optimizers = {id(v) for v in optimizer.variables}
    assert {id(v) for v in changed} - optimizers == {id(v) for v in expected}
    assert {id(optimizer.iterations), *(id(v) for v in changed)} & optimizers
    assert int(optimizer.iterations) == 2


def test_the_loss_is_that_before_the_step() -> None:
    two = TwoNetworks("sgd")
    ((x, target),) = batches(1)

    def loss() -> float:
        return float(to_numpy(two.loss(two.first(x), ops.convert_to_tensor(target))))

    expected = loss()
    loss_value, _ = two.steps.compile(two.step)(x, target)
    assert float(loss_value) == pytest.approx(expected, rel=1e-5)
    assert loss() != pytest.approx(expected, rel=1e-2)


def test_a_step_is_compiled_once() -> None:
    """Except on PyTorch, where the code runs eagerly."""
    two, traces = TwoNetworks("sgd"), []

    def step(x: Any, target: Any) -> Any:
        traces.append(x.shape)
        return two.step(x, target)

    run = two.steps.compile(step)
    for batch in batches(5):
        run(*batch)
    assert len(traces) == (5 if BACKEND == "torch" else 1)
    # A later call reads the current values, not those at compilation.
    for variable in two.second.trainable_variables:
        variable.assign(np.zeros(variable.shape))
    x, target = batches(1)[0]
    assert float(run(x, target)[0]) == pytest.approx(float((target**2).mean()), rel=1e-5)


def test_shapes_may_change() -> None:
    two = TwoNetworks("adam")
    by_hand, run = ByHand(two, "adam"), two.steps.compile(two.step)
    for size in (8, 5, 8, 2):
        x, target = batches(1, size)[0]
        losses = [float(value) for value in run(x, target)]
        assert_close(losses, by_hand.step(x.astype("float64"), target), 5e-5)
    for name, variable in by_hand.variables_by_name.items():
        assert_close(to_numpy(variable), by_hand.values[name], 2e-4)


def test_a_step_also_runs_eagerly() -> None:
    """Uncompiled, as in debugging."""
    compiled, bare = TwoNetworks("adam"), TwoNetworks("adam")
    run = compiled.steps.compile(compiled.step)
    for batch in batches(2):
        expected = [float(value) for value in run(*batch)]
        losses = bare.step(*map(ops.convert_to_tensor, batch))
        assert_close([float(value) for value in losses], expected, 1e-5)
    for one, other in zip(bare.variables, compiled.variables, strict=True):
        assert_close(to_numpy(one), to_numpy(other), 1e-5)
