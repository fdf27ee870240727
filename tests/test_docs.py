"""What the docstrings say is run: their examples, and their formulas."""

import ast
import doctest
import importlib
import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt
import pytest

import batchnorm
from batchnorm import (
    affine,
    condition,
    functional,
    layer,
    moving,
    recipes,
    reference,
    renorm,
    schedule,
    spectral,
    statistics,
)
from batchnorm.affine import Affine
from batchnorm.models import gan
from batchnorm.renorm import Renorm
from batchnorm.statistics import Moments
from batchnorm.train.gan import metrics
from tests import oracle
from tests.compare import assert_close

Array = npt.NDArray[Any]

EXACT = 1e-12
SINGLE = 1e-5  # for what is computed in float32 from numbers of a few units

SOURCE = Path(batchnorm.__file__).parent
BACKENDS = {"tensorflow", "jax", "torch"}


def modules() -> dict[str, str]:
    """The text of every module that can be imported under this backend."""
    paths = {path.relative_to(SOURCE.parent): path for path in sorted(SOURCE.rglob("*.py"))}
    names = {".".join(short.with_suffix("").parts): path for short, path in paths.items()}
    others = BACKENDS - {keras.backend.backend()}
    return {
        name.removesuffix(".__init__"): path.read_text("utf-8")
        for name, path in names.items()
        if not others & {*name.split(".")}
    }


@pytest.mark.parametrize("module", [name for name, text in modules().items() if ">>> " in text])
def test_examples(module: str) -> None:
    report: list[str] = []
    runner, found = doctest.DocTestRunner(), 0
    for example in doctest.DocTestFinder().find(importlib.import_module(module)):
        found += len(example.examples)
        runner.run(example, out=report.append)
    assert found
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


class Equation(NamedTuple):
    """One formula: a name or an expression, `=` or `+=`, and an expression."""

    left: str
    sign: str
    right: str

    def needs(self) -> set[str]:
        defines = self.sign == "=" and self.left.isidentifier()
        return names(self.right) if defines else names(self.left) | names(self.right)


GREEK = {
    "E[x]": "μ",
    "Var[x]": "σ²",
    "σ²": "variance",
    "μ": "mean",
    "γ (": "gamma * (",
    "√": "sqrt",
    "ε": "epsilon",
    "β": "beta",
    ")²": ")**2",
}


def equations(docstring: str) -> list[Equation]:
    """The formulas that stand before the arguments, a line or the parts of a line."""
    head = re.split(r"\n\s*(?:Args|Attributes|Returns|Raises|Example):\n", docstring)[0]
    found = []
    for line in head.splitlines():
        for greek, name in GREEK.items():
            line = line.replace(greek, name)
        line = re.sub(r"Σ (.+?) / m\b", r"sum(\1) / m", line.strip())
        # Half a sentence may define a name: "with a = b, and so on".
        line = re.sub(r"^with (\w+ = .+?), .*", r"\1", line)
        for part in re.split(r"[;,]\s{2,}", line):
            if match := re.fullmatch(r"(.+?) (\+?=) (.+)", part):
                equation = Equation(*match.groups())
                if parses(equation.left) and parses(equation.right):
                    found.append(equation)
    return found


def parses(expression: str) -> bool:
    try:
        ast.parse(expression, mode="eval")
    except SyntaxError:
        return False
    return True


def names(expression: str) -> set[str]:
    tree = ast.parse(expression, mode="eval")
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n not in calls}


FUNCTIONS = {
    "abs": np.abs,
    "sum": lambda values: np.sum(values, axis=0),
    "mean": lambda values: np.mean(values, axis=0),
    "sqrt": np.sqrt,
    "trace": np.trace,
    "root": lambda matrix: root(matrix),
    "clip": np.clip,
    "maximum": np.maximum,
}


class Calls(ast.NodeTransformer):
    """Keeps the function `mean` apart from the number `mean`."""

    def visit_Call(self, node: ast.Call) -> ast.Call:
        self.generic_visit(node)
        node.func = ast.Name(f"call_{ast.unparse(node.func)}", ast.Load())
        return node


def value(expression: str, known: Mapping[str, Any]) -> Any:
    tree = ast.fix_missing_locations(Calls().visit(ast.parse(expression, mode="eval")))
    functions = {f"call_{name}": function for name, function in FUNCTIONS.items()}
    return eval(compile(tree, expression, "eval"), functions, dict(known))


def solve(
    docstring: str | None, instead: Mapping[str, Any] | None = None, **known: Any
) -> dict[str, Any]:
    """All that the formulas define, in whatever order they stand.

    They may redefine what is known, but not what is given instead of them. A formula with an
    expression on its left is a claim, and must hold.
    """
    instead = instead or {}
    left = [each for each in equations(docstring or "") if each.left not in instead]
    assert left, "there is no formula"
    known = {name: exact(given) for name, given in {**known, **instead}.items()}
    while left:
        ready = [equation for equation in left if equation.needs() <= known.keys()]
        assert ready, f"{left} need more than {sorted(known)}"
        for equation in ready:
            right = value(equation.right, known)
            if equation.sign == "+=":
                known[equation.left] = known[equation.left] + right
            elif equation.left.isidentifier():
                known[equation.left] = right
            else:
                assert_close(value(equation.left, known), right, EXACT)
        left = [equation for equation in left if equation not in ready]
    return known


def exact(given: Any) -> Array:
    """In float64, but for an array of whole numbers, which may be indices."""
    values = np.asarray(given)
    return values if values.ndim and values.dtype.kind == "i" else values.astype(np.float64)


X = (np.random.default_rng(0).normal(3.0, 2.0, (8, 3)) * [1, 2, 3]).astype("float32")
GAMMA = np.array([0.5, 1.5, -2.0], "float32")
BETA = np.array([1.0, -1.0, 0.25], "float32")
MEAN = np.array([2.0, 7.0, 8.0], "float32")
VARIANCE = np.array([5.0, 10.0, 40.0], "float32")
EPSILON = 0.5  # large enough for its place in the formula to matter


def test_moments() -> None:
    w = np.array([1, 2, 0, 1, 1, 0.5, 3, 1], "float32")[:, None]
    formula = solve(statistics.moments.__doc__, x=X, w=w)
    expected = oracle.batch_norm(X, weights=w[:, 0])
    assert_close(formula["mean"], expected.mean, EXACT)
    assert_close(formula["variance"], expected.variance, EXACT)
    measured = statistics.moments(tensor(X), [0], tensor(w))
    assert_close(array(measured.mean), formula["mean"], SINGLE)
    assert_close(array(measured.variance), formula["variance"], SINGLE)


def test_centre() -> None:
    expected = oracle.batch_norm(X)
    solve(statistics.centre.__doc__, x=X)
    # With the mean as it is, c is 0 and could stand anywhere: make m0 a bad one.
    formula = solve(statistics.centre.__doc__, {"m0": expected.mean + 0.25}, x=X)
    assert_close(formula["mean"], expected.mean, EXACT)
    assert_close(formula["variance"], expected.variance, EXACT)
    deviation, (_, residual, measured) = statistics.centre(tensor(X), [0])
    assert_close(array(deviation - residual), X - formula["mean"], SINGLE)
    assert_close(array(measured.mean), formula["mean"], SINGLE)
    assert_close(array(measured.variance), formula["variance"], SINGLE)


def test_merge() -> None:
    parts = [X[:1], X[1:4], X[4:]]
    measured = [
        Moments(float(len(part)), part.mean(0, np.float64), part.var(0, np.float64))
        for part in parts
    ]
    count, mean, variance = (np.stack(each) for each in zip(*measured, strict=True))
    known: dict[str, Any] = {"n_i": count[:, None], "mean_i": mean, "variance_i": variance}
    formula = solve(statistics.merge.__doc__, **known)
    expected = oracle.batch_norm(X)
    assert_close(formula["count"], [8.0], EXACT)
    assert_close(formula["mean"], expected.mean, EXACT)
    assert_close(formula["variance"], expected.variance, EXACT)
    singles = [Moments(n, m.astype("float32"), v.astype("float32")) for n, m, v in measured]
    merged = statistics.merge(*singles)
    assert_close(array(merged.mean), formula["mean"], SINGLE)
    assert_close(array(merged.variance), formula["variance"], SINGLE)


NORMALIZING = {
    "layer": layer.BatchNormalization.__doc__,
    "function": functional.batch_norm.__doc__,
    "from scratch": reference.__doc__,
    "train from scratch": reference.batch_norm_train.__doc__,
    "infer from scratch": reference.batch_norm_infer.__doc__,
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("docstring", NORMALIZING.values(), ids=NORMALIZING)
def test_normalizing(docstring: str, training: bool) -> None:
    expected = oracle.batch_norm(X, GAMMA, BETA, MEAN, VARIANCE, epsilon=EPSILON, training=training)
    if docstring == reference.__doc__ and not training:
        pytest.skip("this one defines the moments of the batch, too")
    known: dict[str, Any] = {"x": X, "gamma": GAMMA, "beta": BETA, "epsilon": EPSILON, "m": len(X)}
    formula = solve(docstring, mean=expected.mean, variance=expected.variance, **known)
    assert_close(formula["y"], expected.y, EXACT)
    assert_close(formula["mean"], expected.mean, EXACT)
    assert_close(formula["variance"], expected.variance, EXACT)


@pytest.mark.parametrize("training", [True, False])
def test_normalizing_is_done_so(training: bool) -> None:
    mean, variance = (X.mean(0), X.var(0)) if training else (MEAN, VARIANCE)
    known: dict[str, Any] = {"x": X, "gamma": GAMMA, "beta": BETA, "epsilon": EPSILON}
    state = {"moving_mean": MEAN, "moving_variance": VARIANCE}
    for docstring, y in (
        (
            functional.batch_norm.__doc__,
            batchnorm.batch_norm(X, state, GAMMA, BETA, training=training, epsilon=EPSILON)[0],
        ),
        (layer.BatchNormalization.__doc__, trained_layer()(X, training=training)),
    ):
        formula = solve(docstring, mean=mean, variance=variance, **known)
        assert_close(array(y), formula["y"], SINGLE)


def test_then() -> None:
    a, b, c, e = GAMMA, BETA, VARIANCE, MEAN
    solve(affine.then.__doc__, x=X, a=a, b=b, c=c, e=e)
    scale, shift = affine.then(Affine(a, b), Affine(c, e))
    (claim,) = equations(affine.then.__doc__ or "")
    known: dict[str, Any] = {"x": X, "a": a, "b": b, "c": c, "e": e, "scale": scale, "shift": shift}
    step = quoted(Affine.__doc__)
    assert_close(value(step, known), value(claim.left, known), SINGLE)


@pytest.mark.parametrize("t", [1, 2, 7])
@pytest.mark.parametrize("kind", [moving.ZeroDebiased, moving.Cumulative])
def test_averages_that_count(kind: Any, t: int) -> None:
    options: dict[str, Any] = {"momentum": 0.75} if kind is moving.ZeroDebiased else {}
    formula = solve(kind.__doc__, **options, batch=X.mean(0), moving=MEAN, t=t)
    rate = kind(**options).rate(tensor(np.array(t - 1, "float32")))
    updated = moving.update(tensor(MEAN), tensor(X.mean(0)), rate)
    assert_close(array(updated), formula["moving"], SINGLE)


def test_ramp() -> None:
    limits: dict[str, Any] = {"first": 1.0, "last": 3.0, "begin": 10, "end": 30}
    for step in (0, 10, 15, 30, 99):
        formula = solve(schedule.Ramp.__doc__, **limits, step=step)
        assert_close(array(schedule.Ramp(**limits)(step)), formula["value"], SINGLE)


def test_average() -> None:
    groups = [X[:2], X[2:5], X[5:]]
    n_g = np.array([[2.0], [3.0], [3.0]])
    mean_g, variance_g = (np.stack([f(g, 0) for g in groups]) for f in (np.mean, np.var))
    formula = solve(statistics.average.__doc__, n_g=n_g, mean_g=mean_g, variance_g=variance_g)
    parts = [tensor(each.astype("float32")) for each in (n_g, mean_g, variance_g)]
    measured = statistics.average(Moments(*parts))
    assert_close(array(measured.mean), formula["mean"], SINGLE)
    assert_close(array(measured.variance), formula["variance"], SINGLE)


def test_given() -> None:
    known: dict[str, Any] = {"x": X, "scale": GAMMA, "shift": BETA, "epsilon": EPSILON}
    formula = solve(condition.Given.__doc__, mean=X.mean(0), variance=X.var(0), **known)
    made = batchnorm.BatchNormalization(affine=condition.Given(), epsilon=EPSILON)
    y = made(X, training=True, condition=(GAMMA, BETA))
    assert_close(array(y), formula["y"], SINGLE)


LABELS = np.array([2, 0, 0, 3, 2, 2, 0, 3])
ROWS = np.random.default_rng(1).normal(size=(2, 4, 3)).astype("float32")  # of gamma and of beta


def conditional(made: Any, vectors: Array) -> Array:
    """What such a layer with these rows makes of X in training."""
    if not made.built:
        made.build(X.shape, vectors.shape)
    for variable, value in zip(made.trainable_variables, ROWS, strict=False):
        variable.assign(value)
    return array(made(X, condition=vectors, training=True))


@pytest.mark.parametrize("kind", ["slot", "recipe"])
def test_per_class(kind: str) -> None:
    options: dict[str, Any] = {"epsilon": EPSILON}
    docstring = condition.PerClass.__doc__
    if kind == "slot":
        made = batchnorm.BatchNormalization(affine=condition.PerClass(4), **options)
    else:
        docstring = recipes.ConditionalBatchNormalization.__doc__
        made = recipes.ConditionalBatchNormalization(4, **options)
    known: dict[str, Any] = {"x": X, "gamma": ROWS[0], "beta": ROWS[1], **options}
    mean, variance = X.mean(0, np.float64), X.var(0, np.float64)
    formula = solve(docstring, mean=mean, variance=variance, labels=LABELS, **known)
    expected = oracle.batch_norm(X, epsilon=EPSILON).y * ROWS[0][LABELS] + ROWS[1][LABELS]
    assert_close(formula["y"], expected, EXACT)
    assert_close(conditional(made, LABELS.astype("int32")), formula["y"], SINGLE)


def test_mixtures_of_classes() -> None:
    known = {"labels": np.random.default_rng(2).dirichlet(np.ones(4), 8).astype("float32")}
    claims = re.findall(r"`(labels @ \w+)`", condition.PerClass.__doc__ or "")
    scale, shift = (value(each, {**known, "gamma": ROWS[0], "beta": ROWS[1]}) for each in claims)
    made = batchnorm.BatchNormalization(affine=condition.PerClass(4), epsilon=EPSILON)
    y = oracle.batch_norm(X, scale, shift, epsilon=EPSILON).y
    assert_close(conditional(made, known["labels"]), y, SINGLE)


@pytest.mark.parametrize("bias", [False, True])
def test_from_embedding(bias: bool) -> None:
    vectors = np.random.default_rng(2).normal(size=(8, 4)).astype("float32")
    biases = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -3.0]], "float32") * bias
    known: dict[str, Any] = {"x": X, "gamma": ROWS[0], "beta": ROWS[1], "epsilon": EPSILON}
    known |= {"mean": X.mean(0, np.float64), "variance": X.var(0, np.float64), "vectors": vectors}
    known |= {"gamma_bias": biases[0], "beta_bias": biases[1]}
    for offset in (1.0, 0.25):
        formula = solve(condition.FromEmbedding.__doc__, offset=offset, **known)
        scale, shift = (vectors.astype("float64") @ each.astype("float64") for each in ROWS)
        gamma, beta = offset + scale + biases[0], shift + biases[1]
        assert_close(formula["y"], oracle.batch_norm(X, gamma, beta, epsilon=EPSILON).y, EXACT)
        slot = condition.FromEmbedding(offset=offset, bias=bias)
        made = batchnorm.BatchNormalization(affine=slot, epsilon=EPSILON)
        made.build(X.shape, vectors.shape)
        for name, value in (("gamma_bias", biases[0]), ("beta_bias", biases[1])) if bias else ():
            getattr(made, name).assign(value)
        assert_close(conditional(made, vectors), formula["y"], SINGLE)


def test_exponential() -> None:
    momentum = 0.75
    formula = solve(moving.Exponential.__doc__, momentum=momentum, batch=X.mean(0), moving=MEAN)
    expected = oracle.batch_norm(X, None, None, MEAN, momentum=momentum).moving_mean
    assert_close(formula["moving"], expected, SINGLE)
    rate = moving.Exponential(momentum).rate(None)
    updated = moving.update(tensor(MEAN), tensor(X.mean(0)), rate)
    assert_close(array(updated), formula["moving"], SINGLE)
    known = {"moving": MEAN, "batch": X.mean(0), "rate": rate}
    assert_close(value(quoted(moving.update.__doc__), known), formula["moving"], SINGLE)


@pytest.mark.parametrize(
    "limits",
    [
        {},
        {"rmin": 0.9, "rmax": 1.1, "dmax": 0.05},
        {"rmin": 1.0},
        {"rmin": 0.0, "rmax": 1.0},
        {"dmax": 0.0},
    ],
    ids=str,
)
def test_renorm(limits: dict[str, Any]) -> None:
    state = {"moving_mean": MEAN, "moving_variance": VARIANCE, "moving_stddev": VARIANCE**0.5}
    state |= {"renorm_mean": MEAN + 1, "renorm_stddev": VARIANCE**0.5 + 0.5}
    running: dict[str, Any] = {name: state[name] for name in ("renorm_mean", "renorm_stddev")}
    mean, variance = oracle.batch_norm(X)[1:3]
    unlimited = {"rmin": 0.0, "rmax": np.inf, "dmax": np.inf}
    known: dict[str, Any] = {"x": X, "mean": mean, "variance": variance, "epsilon": EPSILON}
    formula = solve(renorm.Renorm.__doc__, **known, **running, **(unlimited | limits))
    expected = oracle.renorm(
        X, None, None, MEAN, VARIANCE**0.5, **running, **limits, epsilon=EPSILON
    )
    for name in ("r", "d", "y"):
        assert_close(formula[name], getattr(expected, name), EXACT)
    option = Renorm(**limits)
    measured = statistics.centre(tensor(X), [0])[1].about(tensor(running["renorm_mean"]))
    r, d = option.correction(measured, tensor(running["renorm_stddev"]), None, EPSILON)
    assert_close(array(r), formula["r"], SINGLE)
    assert_close(array(d), formula["d"], SINGLE)
    y, _ = batchnorm.batch_norm(X, state, training=True, epsilon=EPSILON, renorm=option)
    assert_close(array(y), formula["y"], SINGLE)


def test_spectral() -> None:
    kernel, u, bias = X[:3, :2], np.array([0.6, 0.8]), np.array([1.0, 2.0])
    formula = solve(spectral.SpectralNormalization.__doc__, x=X, kernel=kernel, u=u, bias=bias)
    made = spectral.SpectralNormalization(keras.layers.Dense(2))
    made.build(X.shape)
    for variable, known in zip((made.u, *made.layer.variables), (u, kernel, bias), strict=True):
        variable.assign(known)
    assert_close(array(made(X, training=True)), formula["y"], SINGLE)
    assert_close(array(made.u), formula["u"], SINGLE)


def test_losses_of_a_gan() -> None:
    real, made = X[:, 0], X[:, 1]
    losses = ((gan.discriminator_loss, (real, made)), (gan.generator_loss, (made,)))
    for loss, scores in losses:
        formula = solve(loss.__doc__, real=real, made=made)
        assert_close(array(loss(*map(tensor, scores))), formula["loss"], SINGLE)


def test_frechet_distance() -> None:
    other = X[:5] @ np.array([[2.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.1, 0.0, 1.5]]) - 1
    known: dict[str, Any] = {"m": X.mean(0), "n": other.mean(0), "S": np.cov(X.T)}
    formula = solve(metrics.frechet_distance.__doc__, **known, T=np.cov(other.T))
    assert_close(metrics.frechet_distance(X, other), formula["distance"], SINGLE)


def root(matrix: Array) -> Array:
    """The root of a product of two covariances, whose eigenvalues are from 0."""
    values, vectors = np.linalg.eig(matrix)
    made: Array = (vectors * np.sqrt(values)) @ np.linalg.inv(vectors)
    return made


@pytest.mark.parametrize(
    "docstring",
    [
        "y = (x - mean) / (sqrt(variance) + epsilon) * gamma + beta",
        "y = (x - mean) / sqrt(variance + epsilon) * (gamma + beta)",
        "y = (x - mean) / sqrt(variance) * gamma + beta",
        "y = x / sqrt(variance + epsilon) * gamma + beta",
        "Normalizes.",
    ],
)
def test_a_wrong_formula_would_be_found(docstring: str) -> None:
    with pytest.raises(AssertionError):
        test_normalizing(docstring, True)


def test_a_wrong_claim_would_be_found() -> None:
    with pytest.raises(AssertionError):
        solve("(x * a + b) * c = x * (a * c) + b", x=X, a=2.0, b=3.0, c=4.0)


# Every docstring that has a formula, and so a test above.
TESTED = {
    "batchnorm.condition.FromEmbedding",
    "batchnorm.condition.Given",
    "batchnorm.condition.PerClass",
    "batchnorm.affine.then",
    "batchnorm.functional.batch_norm",
    "batchnorm.layer.BatchNormalization",
    "batchnorm.models.gan.discriminator_loss",
    "batchnorm.models.gan.generator_loss",
    "batchnorm.moving.Cumulative",
    "batchnorm.moving.Exponential",
    "batchnorm.moving.ZeroDebiased",
    "batchnorm.recipes.ConditionalBatchNormalization",
    "batchnorm.reference",
    "batchnorm.reference.batch_norm_infer",
    "batchnorm.reference.batch_norm_train",
    "batchnorm.renorm.Renorm",
    "batchnorm.schedule.Ramp",
    "batchnorm.spectral.SpectralNormalization",
    "batchnorm.statistics.average",
    "batchnorm.statistics.centre",
    "batchnorm.statistics.merge",
    "batchnorm.statistics.moments",
    "batchnorm.train.gan.metrics.frechet_distance",
}
# Those of graph code are in tests/contrib/test_formulas.py.
if keras.backend.backend() == "tensorflow":
    TESTED |= {
        "batchnorm.contrib.tensorflow.batch_norm.batch_norm",
        "batchnorm.contrib.tensorflow.initializers.variance_scaling_initializer",
        "batchnorm.contrib.tensorflow.initializers.xavier_initializer",
        "batchnorm.contrib.tensorflow.regularizers.l1_l2_regularizer",
        "batchnorm.contrib.tensorflow.regularizers.l1_regularizer",
        "batchnorm.contrib.tensorflow.regularizers.l2_regularizer",
    }


def test_no_formula_goes_untested() -> None:
    found = {name for module in modules().items() for name in with_formulas(*module)}
    assert found == TESTED


def with_formulas(module: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            if equations(inspect.cleandoc(ast.get_docstring(node) or "")):
                yield module if isinstance(node, ast.Module) else f"{module}.{node.name}"


def trained_layer() -> Any:
    made = batchnorm.BatchNormalization(epsilon=EPSILON)
    made.build(X.shape)
    made.set_weights([GAMMA, BETA, MEAN, VARIANCE])
    return made


def quoted(docstring: str | None) -> str:
    """The first thing in a docstring that stands in backquotes."""
    match = re.search(r"`([^`]+)`", docstring or "")
    assert match
    return match[1]


def tensor(values: Array) -> Any:
    return keras.ops.convert_to_tensor(values)


def array(value: Any) -> Array:
    values: Array = keras.ops.convert_to_numpy(value)
    return values
