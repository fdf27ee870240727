import copy
import functools
import importlib
import importlib.util
import inspect
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from batchnorm.contrib.tensorflow.arg_scope import (
    add_arg_scope,
    arg_scope,
    arg_scoped_arguments,
    current_arg_scope,
    has_arg_scope,
)

pytestmark = pytest.mark.no_backend

Call = tuple[Any, ...]


@add_arg_scope
def convolve(x: int, filters: int, stride: int = 1, activation: str = "relu") -> Call:
    """Convolves."""
    local = (x, filters, stride, activation)
    return local


@add_arg_scope
def dense(x: int, units: int, activation: str = "relu", *, bias: bool = True) -> Call:
    return x, units, activation, bias


@add_arg_scope
def anything(*args: Any, **kwargs: Any) -> tuple[Call, dict[str, Any]]:
    return args, kwargs


def plain(x: int, stride: int = 1) -> int:
    return x


class Model:
    @add_arg_scope
    def layer(self, x: int, stride: int = 1) -> Call:
        return self, x, stride


def test_a_decorated_function_is_as_before() -> None:
    def original(x: int, stride: int = 1) -> int:
        """Its docstring."""
        return x

    decorated = add_arg_scope(original)
    assert decorated.__name__ == "original" and decorated.__doc__ == "Its docstring."
    assert decorated.__module__ == __name__ and decorated.__qualname__ == original.__qualname__
    assert inspect.signature(decorated) == inspect.signature(original)
    assert repr(decorated) == repr(original)
    assert add_arg_scope(decorated) is decorated
    assert convolve(1, 2) == (1, 2, 1, "relu")
    assert pickle.loads(pickle.dumps(convolve)) is convolve
    assert copy.deepcopy({"normalizer_fn": convolve})["normalizer_fn"] is convolve


def test_defaults_of_several_functions() -> None:
    with arg_scope([convolve, dense], activation="elu"):
        assert convolve(1, 2) == (1, 2, 1, "elu")
        assert dense(1, 2) == (1, 2, "elu", True)
    assert convolve(1, 2) == (1, 2, 1, "relu")


def test_what_a_call_passes_wins() -> None:
    with arg_scope((convolve,), stride=2, activation="elu"):
        assert convolve(1, 2, stride=3) == (1, 2, 3, "elu")
        assert convolve(1, 2, 3) == (1, 2, 3, "elu")
        assert convolve(1, filters=2, activation="relu") == (1, 2, 2, "relu")


def test_required_and_keyword_only_arguments() -> None:
    with arg_scope([dense], units=7, bias=False):
        assert dense(1) == (1, 7, "relu", False)  # type: ignore[call-arg]
        assert dense(1, 2) == (1, 2, "relu", False)


def test_a_function_of_any_arguments() -> None:
    with arg_scope([anything], rate=1, args=2):
        assert anything(0, rate=3) == ((0,), {"rate": 3, "args": 2})


def test_scopes_nest() -> None:
    with arg_scope([convolve], stride=2, activation="elu"):
        with arg_scope([convolve], stride=3), arg_scope([dense], bias=False):
            assert convolve(1, 2) == (1, 2, 3, "elu")
            assert dense(1, 2) == (1, 2, "relu", False)
        assert convolve(1, 2) == (1, 2, 2, "elu")
        assert dense(1, 2) == (1, 2, "relu", True)


def test_a_scope_ends_with_an_error() -> None:
    with pytest.raises(KeyError), arg_scope([convolve], stride=2):
        raise KeyError
    assert current_arg_scope() == {} and convolve(1, 2) == (1, 2, 1, "relu")


def test_a_scope_is_used_again() -> None:
    with arg_scope([convolve], stride=2) as outer, arg_scope([dense], bias=False) as both:
        assert current_arg_scope() == both
        assert [*both.values()] == [{"stride": 2}, {"bias": False}]
    with arg_scope([convolve], activation="elu"):
        with arg_scope(outer) as again:
            assert again == outer and convolve(1, 2) == (1, 2, 2, "relu")
            with arg_scope([convolve], stride=5):
                assert convolve(1, 2) == (1, 2, 5, "relu")
        with arg_scope(both):
            assert dense(1, 2) == (1, 2, "relu", False)
        with arg_scope({}):
            assert convolve(1, 2) == (1, 2, 1, "relu")
        assert convolve(1, 2) == (1, 2, 1, "elu")
    assert [*outer.values()] == [{"stride": 2}]


def test_a_scope_as_a_decorator() -> None:
    @arg_scope([convolve], stride=2)
    def network() -> Call:
        return convolve(1, 2)

    assert network() == network() == (1, 2, 2, "relu")


def test_methods() -> None:
    model = Model()
    with arg_scope([Model.layer], stride=2):
        assert model.layer(1) == (model, 1, 2)


def test_two_functions_of_one_name() -> None:
    def make() -> Callable[..., int]:
        @add_arg_scope
        def layer(stride: int = 1) -> int:
            return stride

        return layer

    first, second = make(), make()
    with arg_scope([first], stride=2):
        assert (first(), second()) == (2, 1)


def test_whoever_wraps_a_function_has_its_scope() -> None:
    @functools.wraps(convolve)
    def wrapped(*args: Any, **kwargs: Any) -> Call:
        return convolve(*args, **kwargs)

    with arg_scope([wrapped], stride=2):
        assert wrapped(1, 2) == convolve(1, 2) == (1, 2, 2, "relu")


def test_threads_do_not_disturb_each_other() -> None:
    both, seen = threading.Barrier(2, timeout=10), {}

    def work(stride: int) -> None:
        with arg_scope([convolve], stride=stride):
            both.wait()
            seen[stride] = convolve(0, 0)[2]
            both.wait()

    threads = [threading.Thread(target=work, args=(stride,)) for stride in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {2: 2, 3: 3} and current_arg_scope() == {}


def test_what_a_scope_can_set() -> None:
    assert arg_scoped_arguments(convolve) == ("stride", "activation")
    assert arg_scoped_arguments(dense) == ("activation", "bias")
    assert arg_scoped_arguments(anything) == ()
    assert has_arg_scope(convolve) and not has_arg_scope(plain) and not has_arg_scope(None)
    with pytest.raises(ValueError, match="plain of .* is not decorated"):
        arg_scoped_arguments(plain)


@pytest.mark.parametrize(
    ("functions", "arguments", "error", "text"),
    [
        (convolve, {"stride": 2}, TypeError, "takes a list .* received <function convolve"),
        ("convolve", {}, TypeError, "received 'convolve'"),
        ([convolve, plain], {"stride": 2}, ValueError, "^plain of tests.* is not decorated"),
        ([convolve, None], {"stride": 2}, ValueError, "^None of .* is not decorated"),
        ({}, {"stride": 2}, ValueError, "used again .* received stride"),
        ([convolve], {"strides": 2}, TypeError, "^convolve has no .*'strides'. .*called 'stride'"),
        ([convolve], {"strid": 2}, TypeError, "^convolve has no .*'strid'. Did you .*'stride'"),
        (
            [convolve, dense],
            {"stride": 2},
            TypeError,
            "^dense has no .* takes x, units, activation",
        ),
        ([dense], {"qqq": 2}, TypeError, "no argument 'qqq'. It takes"),
    ],
)
def test_errors(
    functions: Any, arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text), arg_scope(functions, **arguments):
        pytest.fail("within the scope")
    assert current_arg_scope() == {}


def fake_slim() -> ModuleType:
    """A stand-in for tf_slim.ops.arg_scope, with the functions that ours calls."""
    module = ModuleType("tf_slim.ops.arg_scope")
    seen: set[str] = set()
    stack: list[dict[str, Any]] = [{}]

    def key(function: Any) -> Any:
        return getattr(function, "_key_op", str(function))

    @contextmanager
    def scope(functions: list[Any], **arguments: Any) -> Iterator[None]:
        assert all(key(function) in seen for function in functions)
        stack.append(stack[-1] | {key(function): arguments for function in functions})
        yield
        stack.pop()

    def add(function: Any) -> None:
        assert callable(function) and function.__code__
        seen.add(key(function))

    vars(module).update(
        arg_scope=scope,
        add_arg_scope=add,
        current_arg_scope=lambda: stack[-1],
        has_arg_scope=lambda function: key(function) in seen,
    )
    return module


@pytest.fixture(params=["fake", "installed"])
def slim(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """tf_slim's arg_scope, imported after the functions above were decorated."""
    name = "tf_slim.ops.arg_scope"
    if request.param == "fake":
        monkeypatch.setitem(sys.modules, name, fake_slim())
        return sys.modules[name]
    if importlib.util.find_spec("tf_slim") is None:
        pytest.skip("tf_slim is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def test_tf_slims_scope(slim: Any) -> None:
    with slim.arg_scope([convolve, dense], activation="elu"):
        assert convolve(1, 2) == (1, 2, 1, "elu")
        assert convolve(1, 2, 3, "tanh") == (1, 2, 3, "tanh")
        assert dense(1, 2, activation="tanh") == (1, 2, "tanh", True)
    assert convolve(1, 2) == (1, 2, 1, "relu")


@pytest.mark.parametrize("ours_first", [True, False])
def test_our_scope_wins_over_tf_slims(slim: Any, ours_first: bool) -> None:
    ours = arg_scope([convolve], activation="elu")
    slim_scope = slim.arg_scope([convolve], activation="tanh", stride=2)
    outer, inner = (ours, slim_scope) if ours_first else (slim_scope, ours)
    with outer, inner:
        assert convolve(1, 2) == (1, 2, 2, "elu")
        assert convolve(1, 2, stride=3) == (1, 2, 3, "elu")


def test_functions_that_are_decorated_after_tf_slim_came(slim: Any) -> None:
    @add_arg_scope
    def late(stride: int = 1) -> int:
        return stride

    with slim.arg_scope([late], stride=2):
        assert late() == 2
    assert late() == 1


def test_tf_slim_is_not_imported_for_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "tf_slim"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "tf_slim").mkdir()
    (tmp_path / "tf_slim" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)

    @add_arg_scope
    def layer(stride: int = 1) -> int:
        return stride

    with arg_scope([layer], stride=2):
        assert layer() == 2
    with pytest.raises(RuntimeError):
        importlib.import_module("tf_slim")
