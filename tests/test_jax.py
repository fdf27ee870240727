"""JAX's transformations in docs/layer.md's table that tests/kernels/test_jax.py lacks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from batchnorm import BatchNormalization, ConditionalBatchNormalization, Ghost, batch_norm
from batchnorm.stages.labels import mixtures, rows
from tests import oracle
from tests.compare import assert_close
from tests.differentiate import BACKEND, Array, to_numpy
from tests.process import output_of

if BACKEND != "jax":
    pytest.skip("JAX's transformations", allow_module_level=True)

import jax
from jax import export as jax_export
from jax import numpy as jnp

export: Any = jax_export  # untyped
jax_: Any = jax

STATE = {"moving_mean": jnp.zeros(3), "moving_variance": jnp.ones(3)}
NUMPY = {name: np.asarray(value) for name, value in STATE.items()}


def draw(*shape: int, mean: float = 1.5) -> Array:
    return np.random.default_rng(0).normal(mean, 2.0, shape).astype("float32")


def forward(x: Any, **options: Any) -> Any:
    return batch_norm(x, STATE, training=True, **options)


def loss(x: Any) -> Any:
    return jnp.sum(jnp.sin(forward(x)[0]))


def test_second_derivatives_along_all_directions() -> None:
    """The Hessian is symmetric, and its rows are the differences of gradients."""
    x, gradient = draw(4, 3), jax.jit(jax.grad(loss))
    hessian = to_numpy(jax.jit(jax.hessian(loss))(x)).reshape(12, 12)
    assert_close(hessian, hessian.T, 1e-5)
    step = np.float32(1e-2)
    for place in (0, 7):
        change = step * np.eye(12, dtype="float32")[place].reshape(4, 3)
        difference = (gradient(x + change) - gradient(x - change)) / (2 * step)
        assert_close(hessian[place], to_numpy(difference).reshape(12), 1e-3)
    forwards = to_numpy(jax.jit(jax.jacfwd(loss))(x))
    assert_close(forwards, to_numpy(gradient(x)), 1e-5)


def test_a_scan_carries_the_state() -> None:
    batches = np.stack([draw(4, 3), draw(4, 3) * 2 + 1])

    def body(state: Any, x: Any) -> Any:
        y, state = batch_norm(x, state, training=True)
        return state, y

    after, ys = jax.jit(lambda xs: jax.lax.scan(body, STATE, xs))(batches)
    state: Any = NUMPY
    for x, y in zip(batches, ys, strict=True):
        right = oracle.step(x, state, rate=0.01)
        assert_close(to_numpy(y), right.y, 1e-5)
        state = right.state
    for name, value in state.items():
        assert_close(to_numpy(after[name]), value, 1e-6)


EXPORTED: dict[str, tuple[str, dict[str, Any]]] = {
    "training": ("n, 5, 3", {"training": True}),
    "inference": ("n, 5, 3", {}),
    "ghosts": ("n, 5, 3", {"training": True, "statistics": Ghost(4)}),
    "sizes beside the batch": ("n, m, 3", {"training": True}),
}


@pytest.mark.parametrize("name", EXPORTED)
def test_an_exported_function_at_other_sizes(name: str) -> None:
    sizes, options = EXPORTED[name]
    run = jax.jit(lambda x: batch_norm(x, STATE, **options))
    shape = export.symbolic_shape(sizes)
    exported = export.export(run)(jax_.ShapeDtypeStruct(shape, jnp.float32))
    exported = export.deserialize(exported.serialize())
    for samples in (7, 70):
        x = draw(samples, 5, 3)
        y, new = exported.call(x)
        ghost = (4, False) if "statistics" in options else None
        right = oracle.step(x, NUMPY, training="training" in options, ghost=ghost, rate=0.01)
        assert_close(to_numpy(y), right.y, 1e-5)
        for key, value in right.state.items():
            assert_close(to_numpy(new[key]), value, 1e-6)


def test_an_exported_gradient_at_other_sizes() -> None:
    gradient = jax.jit(jax.grad(loss))
    shape = export.symbolic_shape("n, m, 3")
    exported = export.export(gradient)(jax_.ShapeDtypeStruct(shape, jnp.float32))
    for sizes in ((7, 5), (70, 130)):
        x = draw(*sizes, 3, mean=300.0)
        y = oracle.step(x, NUMPY).y
        right = oracle.step_gradients(x, np.cos(y), NUMPY)[0]
        assert_close(to_numpy(exported.call(x)), right, 1e-5)


def test_parts_on_devices_are_batches_of_their_own_and_a_shared_array_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Two devices need a process of their own."""
    code = """if True:
        import jax, numpy as np
        from jax import numpy as jnp
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from batchnorm import Ghost, batch_norm
        state = {"moving_mean": jnp.zeros(3), "moving_variance": jnp.ones(3)}
        call = jax.jit(lambda x: batch_norm(x, state, training=True)[0])
        x = jnp.asarray(np.random.default_rng(0).normal(1.5, 2, (8, 5, 3)).astype("float32"))
        joint, parts = call(x), jnp.concatenate([call(x[:4]), call(x[4:])])
        assert abs(joint - parts).max() > 1e-2
        for kind in (AxisType.Auto, AxisType.Explicit):
            mesh = jax.make_mesh((2,), ("d",), axis_types=(kind,))
            shared = jax.device_put(x, NamedSharding(mesh, P("d")))
            assert abs(jax.jit(call)(shared) - joint).max() < 1e-5
            loss = lambda x: jnp.sum(call(x) ** 3)
            assert abs(jax.jit(jax.grad(loss))(shared) - jax.grad(loss)(x)).max() < 1e-4
            ghosts = lambda x: batch_norm(x, state, training=True, statistics=Ghost(4))[0]
            assert abs(jax.jit(ghosts)(shared) - parts).max() < 1e-5
            mapped = jax.shard_map(call, mesh=mesh, in_specs=P("d"), out_specs=P("d"))
            assert abs(jax.jit(mapped)(shared) - parts).max() < 1e-5
        assert abs(jax.pmap(call)(x.reshape(2, 4, 5, 3)).reshape(x.shape) - parts).max() < 1e-5
    """
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    output_of(code, folder=tmp_path)


WIDE = [0, 2**32 + 1]


@pytest.mark.parametrize("labels", [np.array(WIDE), WIDE, np.array(WIDE, "uint64")], ids=str)
def test_labels_of_more_than_32_bits(labels: Any) -> None:
    """JAX would truncate the second label to class 1."""
    x = np.zeros((2, 3), "float32")
    calls: list[Any] = [lambda: rows(np.eye(4), labels), lambda: mixtures(labels, 4)]
    layer = BatchNormalization(affine=ConditionalBatchNormalization(4).affine)
    calls.append(lambda: layer(x, condition=labels))
    if not isinstance(labels, list):  # which Keras refuses by position
        calls.append(lambda: ConditionalBatchNormalization(4)(x, labels))
    for call in calls:
        with pytest.raises(ValueError, match=r"place 1 holds 4294967297"):
            call()


class Foreign:
    """Another framework's tensor, as far as NumPy sees it."""

    dtype = np.dtype("int64")

    def __init__(self, labels: list[int]) -> None:
        self.labels = np.array(labels, self.dtype)
        self.shape = self.labels.shape

    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return self.labels


def test_tensors_of_another_framework_are_read_before_they_are_converted() -> None:
    with pytest.raises(ValueError, match=r"place 1 holds 4294967297"):
        rows(np.eye(4), Foreign(WIDE))
    assert to_numpy(rows(np.eye(4), Foreign([3, 1])))[0].tolist() == [0, 0, 0, 1]
