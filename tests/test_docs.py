"""Runs the examples and the formulas of the docstrings."""

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
from batchnorm import functional, recipes, reference, spectral
from batchnorm.models import gan
from batchnorm.slots import condition, moving, pooled, renorm, schedule
from batchnorm.slots.renorm import Renorm
from batchnorm.stages import affine, moments, state
from batchnorm.stages.affine import Affine
from batchnorm.stages.moments import Moments
from batchnorm_app.evaluate import metrics
from tests import oracle
from tests.compare import assert_close

Array = npt.NDArray[Any]

EXACT = 1e-12
SINGLE = 1e-5  # for results in float32 from numbers of a few units

SOURCE = Path(batchnorm.__file__).parent
BACKENDS = {"tensorflow", "jax", "torch"}


def modules() -> dict[str, str]:
    """The text of every module that can be imported under this backend."""
    folders = (SOURCE, SOURCE.with_name("batchnorm_app"))
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    paths = {path.relative_to(SOURCE.parent): path for path in files}
    names = {".".join(short.with_suffix("").parts): path for short, path in paths.items()}
    other_backends = BACKENDS - {keras.backend.backend()}
    return {
        name.removesuffix(".__init__"): path.read_text("utf-8")
        for name, path in names.items()
        if not other_backends & {*name.split(".")}
    }


# Their networks are compiled for seconds on JAX, and have tests there.
NETWORKS = ("batchnorm.models", "batchnorm.blocks", "batchnorm_app")
EXAMPLES = [
    pytest.param(name, marks=pytest.mark.slow_on_jax) if name.startswith(NETWORKS) else name
    for name, text in modules().items()
    if ">>> " in text
]


@pytest.mark.parametrize("module", EXAMPLES)
def test_examples(module: str) -> None:
    report: list[str] = []
    runner, count = doctest.DocTestRunner(), 0
    for example in doctest.DocTestFinder().find(importlib.import_module(module)):
        count += len(example.examples)
        runner.run(example, out=report.append)
    assert count
    assert runner.summarize(verbose=False).failed == 0, "".join(report)


class Equation(NamedTuple):
    """One formula: a name or an expression, `=` or `+=`, and an expression."""

    lhs: str
    sign: str
    rhs: str

    def needs(self) -> set[str]:
        defines = self.sign == "=" and self.lhs.isidentifier()
        return names(self.rhs) if defines else names(self.lhs) | names(self.rhs)


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
    """The formulas before the arguments, one a line or several apart on a line."""
    head = re.split(r"\n\s*(?:Args|Attributes|Returns|Raises|Example):\n", docstring)[0]
    result = []
    for line in head.splitlines():
        for greek, name in GREEK.items():
            line = line.replace(greek, name)
        line = re.sub(r"Σ (.+?) / m\b", r"sum(\1) / m", line.strip())
        # Half a sentence may define a name: "with a = b, and so on".
        line = re.sub(r"^with (\w+ = .+?), .*", r"\1", line)
        for part in re.split(r"[;,]\s{2,}", line):
            if match := re.fullmatch(r"(.+?) (\+?=) (.+)", part):
                equation = Equation(*match.groups())
                if parses(equation.lhs) and parses(equation.rhs):
                    result.append(equation)
    return result


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


def value(expression: str, variables: Mapping[str, Any]) -> Any:
    tree = ast.fix_missing_locations(Calls().visit(ast.parse(expression, mode="eval")))
    functions = {f"call_{name}": function for name, function in FUNCTIONS.items()}
    return eval(compile(tree, expression, "eval"), functions, dict(variables))


def solve(
    docstring: str | None, instead: Mapping[str, Any] | None = None, **variables: Any
) -> dict[str, Any]:
    """Evaluates the formulas of a docstring, whatever their order; returns all variables.

    They may redefine a variable, but not one of `instead`. A formula with an expression on its
    left is a claim, and must hold.
    """
    instead = instead or {}
    formulas = equations(docstring or "")
    pending = [equation for equation in formulas if equation.lhs not in instead]
    assert pending, "there is no formula"
    variables = {name: exact(number) for name, number in {**variables, **instead}.items()}
    while pending:
        ready = [equation for equation in pending if equation.needs() <= variables.keys()]
        assert ready, f"{pending} need more than {sorted(variables)}"
        for equation in ready:
            right = value(equation.rhs, variables)
            if equation.sign == "+=":
                variables[equation.lhs] = variables[equation.lhs] + right
            elif equation.lhs.isidentifier():
                variables[equation.lhs] = right
            else:
                assert_close(value(equation.lhs, variables), right, EXACT)
        pending = [equation for equation in pending if equation not in ready]
    return variables


def exact(numbers: Any) -> Array:
    """Casts to float64, except for an array of integers, which may be indices."""
    values = np.asarray(numbers)
    return values if values.ndim and values.dtype.kind == "i" else values.astype(np.float64)


X = (np.random.default_rng(0).normal(3.0, 2.0, (8, 3)) * [1, 2, 3]).astype("float32")
GAMMA = np.array([0.5, 1.5, -2.0], "float32")
BETA = np.array([1.0, -1.0, 0.25], "float32")
MEAN = np.array([2.0, 7.0, 8.0], "float32")
VARIANCE = np.array([5.0, 10.0, 40.0], "float32")
EPSILON = 0.5  # large enough for its place in the formula to matter


def test_moments() -> None:
    w = np.array([1, 2, 0, 1, 1, 0.5, 3, 1], "float32")[:, None]
    formula = solve(moments.moments.__doc__, x=X, w=w)
    expected = oracle.batch_norm(X, weights=w[:, 0])
    assert_close(formula["mean"], expected.mean, EXACT)
    assert_close(formula["variance"], expected.variance, EXACT)
    measured = moments.moments(tensor(X), [0], tensor(w))
    assert_close(array(measured.mean), formula["mean"], SINGLE)
    assert_close(array(measured.variance), formula["variance"], SINGLE)


def test_centre() -> None:
    expected = oracle.batch_norm(X)
    solve(moments.centre.__doc__, x=X)
    # With the mean as it is, c is 0 and could stand anywhere: make m0 a bad one.
    formula = solve(moments.centre.__doc__, {"m0": expected.mean + 0.25}, x=X)
    assert_close(formula["mean"], expected.mean, EXACT)
    assert_close(formula["variance"], expected.variance, EXACT)
    deviation, measured = moments.centre(tensor(X), [0])
    assert_close(array(deviation - measured.residual), X - formula["mean"], SINGLE)
    assert_close(array(measured.rounded.mean), formula["mean"], SINGLE)
    assert_close(array(measured.variance), formula["variance"], SINGLE)


def test_merge() -> None:
    parts = [X[:1], X[1:4], X[4:]]
    measured = [
        Moments(float(len(part)), part.mean(0, np.float64), part.var(0, np.float64))
        for part in parts
    ]
    count, mean, variance = (np.stack(field) for field in zip(*measured, strict=True))
    variables: dict[str, Any] = {"n_i": count[:, None], "mean_i": mean, "variance_i": variance}
    formula = solve(moments.merge.__doc__, **variables)
    expected = oracle.batch_norm(X)
    assert_close(formula["count"], [8.0], EXACT)
    assert_close(formula["mean"], expected.mean, EXACT)
    assert_close(formula["variance"], expected.variance, EXACT)
    singles = [Moments(n, m.astype("float32"), v.astype("float32")) for n, m, v in measured]
    merged = moments.merge(*singles)
    assert_close(array(merged.mean), formula["mean"], SINGLE)
    assert_close(array(merged.variance), formula["variance"], SINGLE)


def test_pooled() -> None:
    parts = [X[:1], X[1:4], X[4:]]
    n_i = np.array([[float(len(part))] for part in parts])
    mean_i, variance_i = (np.stack([f(part, 0) for part in parts]) for f in (np.mean, np.var))
    formula = solve(pooled.Pooled.__doc__, n_i=n_i, mean_i=mean_i, variance_i=variance_i)
    values = {"moving_mean": MEAN, "moving_variance": VARIANCE, "moving_count": 0 * MEAN}
    advanced = {name: tensor(value) for name, value in values.items()}
    for batch in zip(n_i[:, 0], mean_i, variance_i, strict=True):
        advanced = pooled.Pooled().advance(advanced, Moments(*map(tensor, batch)), None)
    for name in ("mean", "variance"):
        assert_close(array(advanced[f"moving_{name}"]), formula[name], SINGLE)


NORMALIZING = {
    "layer": batchnorm.BatchNormalization.__doc__,
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
    variables: dict[str, Any] = {
        "x": X,
        "gamma": GAMMA,
        "beta": BETA,
        "epsilon": EPSILON,
        "m": len(X),
    }
    formula = solve(docstring, mean=expected.mean, variance=expected.variance, **variables)
    assert_close(formula["y"], expected.y, EXACT)
    assert_close(formula["mean"], expected.mean, EXACT)
    assert_close(formula["variance"], expected.variance, EXACT)


@pytest.mark.parametrize("training", [True, False])
def test_normalizing_is_done_so(training: bool) -> None:
    mean, variance = (X.mean(0), X.var(0)) if training else (MEAN, VARIANCE)
    variables: dict[str, Any] = {"x": X, "gamma": GAMMA, "beta": BETA, "epsilon": EPSILON}
    state = {"moving_mean": MEAN, "moving_variance": VARIANCE}
    for docstring, y in (
        (
            functional.batch_norm.__doc__,
            batchnorm.batch_norm(X, state, GAMMA, BETA, training=training, epsilon=EPSILON)[0],
        ),
        (batchnorm.BatchNormalization.__doc__, trained_layer()(X, training=training)),
    ):
        formula = solve(docstring, mean=mean, variance=variance, **variables)
        assert_close(array(y), formula["y"], SINGLE)


def test_then() -> None:
    a, b, c, e = GAMMA, BETA, VARIANCE, MEAN
    solve(affine.then.__doc__, x=X, a=a, b=b, c=c, e=e)
    scale, shift = affine.then(Affine(a, b), Affine(c, e))
    (claim,) = equations(affine.then.__doc__ or "")
    variables: dict[str, Any] = {
        "x": X,
        "a": a,
        "b": b,
        "c": c,
        "e": e,
        "scale": scale,
        "shift": shift,
    }
    step = quoted(Affine.__doc__)
    assert_close(value(step, variables), value(claim.lhs, variables), SINGLE)


@pytest.mark.parametrize("t", [1, 2, 7])
@pytest.mark.parametrize("kind", [moving.ZeroDebiased, moving.Cumulative])
def test_averages_that_count(kind: Any, t: int) -> None:
    options: dict[str, Any] = {"momentum": 0.75} if kind is moving.ZeroDebiased else {}
    formula = solve(kind.__doc__, **options, batch=X.mean(0), moving=MEAN, t=t)
    rate = kind(**options).rate(tensor(np.array(t - 1, "float32")))
    updated = state.update(tensor(MEAN), tensor(X.mean(0)), rate)
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
    formula = solve(moments.average.__doc__, n_g=n_g, mean_g=mean_g, variance_g=variance_g)
    parts = [tensor(numbers.astype("float32")) for numbers in (n_g, mean_g, variance_g)]
    measured = moments.average(Moments(*parts))
    assert_close(array(measured.mean), formula["mean"], SINGLE)
    assert_close(array(measured.variance), formula["variance"], SINGLE)


def test_given() -> None:
    variables: dict[str, Any] = {"x": X, "scale": GAMMA, "shift": BETA, "epsilon": EPSILON}
    formula = solve(condition.Given.__doc__, mean=X.mean(0), variance=X.var(0), **variables)
    layer = batchnorm.BatchNormalization(affine=condition.Given(), epsilon=EPSILON)
    y = layer(X, training=True, condition=(GAMMA, BETA))
    assert_close(array(y), formula["y"], SINGLE)


LABELS = np.array([2, 0, 0, 3, 2, 2, 0, 3])
ROWS = np.random.default_rng(1).normal(size=(2, 4, 3)).astype("float32")  # of gamma and of beta


def conditional(layer: Any, vectors: Array) -> Array:
    """Returns the training output for X of a conditional layer with the tables of ROWS."""
    if not layer.built:
        layer.build(X.shape, vectors.shape)
    for variable, value in zip(layer.trainable_variables, ROWS, strict=False):
        variable.assign(value)
    return array(layer(X, condition=vectors, training=True))


@pytest.mark.parametrize("kind", ["slot", "recipe"])
def test_per_class(kind: str) -> None:
    options: dict[str, Any] = {"epsilon": EPSILON}
    docstring = condition.PerClass.__doc__
    if kind == "slot":
        layer = batchnorm.BatchNormalization(affine=condition.PerClass(4), **options)
    else:
        docstring = recipes.ConditionalBatchNormalization.__doc__
        layer = recipes.ConditionalBatchNormalization(4, **options)
    variables: dict[str, Any] = {"x": X, "gamma": ROWS[0], "beta": ROWS[1], **options}
    mean, variance = X.mean(0, np.float64), X.var(0, np.float64)
    formula = solve(docstring, mean=mean, variance=variance, labels=LABELS, **variables)
    expected = oracle.batch_norm(X, epsilon=EPSILON).y * ROWS[0][LABELS] + ROWS[1][LABELS]
    assert_close(formula["y"], expected, EXACT)
    assert_close(conditional(layer, LABELS.astype("int32")), formula["y"], SINGLE)


def test_mixtures_of_classes() -> None:
    variables = {"labels": np.random.default_rng(2).dirichlet(np.ones(4), 8).astype("float32")}
    claims = re.findall(r"`(labels @ \w+)`", condition.PerClass.__doc__ or "")
    scale, shift = (
        value(claim, {**variables, "gamma": ROWS[0], "beta": ROWS[1]}) for claim in claims
    )
    layer = batchnorm.BatchNormalization(affine=condition.PerClass(4), epsilon=EPSILON)
    y = oracle.batch_norm(X, scale, shift, epsilon=EPSILON).y
    assert_close(conditional(layer, variables["labels"]), y, SINGLE)


@pytest.mark.parametrize("bias", [False, True])
def test_from_embedding(bias: bool) -> None:
    vectors = np.random.default_rng(2).normal(size=(8, 4)).astype("float32")
    biases = np.array([[0.5, -1.0, 2.0], [1.0, 0.25, -3.0]], "float32") * bias
    variables: dict[str, Any] = {"x": X, "gamma": ROWS[0], "beta": ROWS[1], "epsilon": EPSILON}
    variables |= {
        "mean": X.mean(0, np.float64),
        "variance": X.var(0, np.float64),
        "vectors": vectors,
    }
    variables |= {"gamma_bias": biases[0], "beta_bias": biases[1]}
    for offset in (1.0, 0.25):
        formula = solve(condition.FromEmbedding.__doc__, offset=offset, **variables)
        scale, shift = (vectors.astype("float64") @ table.astype("float64") for table in ROWS)
        gamma, beta = offset + scale + biases[0], shift + biases[1]
        assert_close(formula["y"], oracle.batch_norm(X, gamma, beta, epsilon=EPSILON).y, EXACT)
        slot = condition.FromEmbedding(offset=offset, bias=bias)
        layer = batchnorm.BatchNormalization(affine=slot, epsilon=EPSILON)
        layer.build(X.shape, vectors.shape)
        for name, value in (("gamma_bias", biases[0]), ("beta_bias", biases[1])) if bias else ():
            getattr(layer, name).assign(value)
        assert_close(conditional(layer, vectors), formula["y"], SINGLE)


def test_exponential() -> None:
    momentum = 0.75
    formula = solve(moving.Exponential.__doc__, momentum=momentum, batch=X.mean(0), moving=MEAN)
    expected = oracle.batch_norm(X, None, None, MEAN, momentum=momentum).moving_mean
    assert_close(formula["moving"], expected, SINGLE)
    rate = moving.Exponential(momentum).rate(None)
    updated = state.update(tensor(MEAN), tensor(X.mean(0)), rate)
    assert_close(array(updated), formula["moving"], SINGLE)
    variables = {"moving": MEAN, "batch": X.mean(0), "rate": rate}
    assert_close(value(quoted(state.update.__doc__), variables), formula["moving"], SINGLE)


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
    variables: dict[str, Any] = {"x": X, "mean": mean, "variance": variance, "epsilon": EPSILON}
    formula = solve(renorm.Renorm.__doc__, **variables, **running, **(unlimited | limits))
    expected = oracle.renorm(
        X, None, None, MEAN, VARIANCE**0.5, **running, **limits, epsilon=EPSILON
    )
    for name in ("r", "d", "y"):
        assert_close(formula[name], getattr(expected, name), EXACT)
    option = Renorm(**limits)
    measured = moments.centre(tensor(X), [0])[1].measured_from(tensor(running["renorm_mean"]))
    r, d = option.correction(measured, tensor(running["renorm_stddev"]), None, EPSILON)
    assert_close(array(r), formula["r"], SINGLE)
    assert_close(array(d), formula["d"], SINGLE)
    y, _ = batchnorm.batch_norm(X, state, training=True, epsilon=EPSILON, renorm=option)
    assert_close(array(y), formula["y"], SINGLE)


def test_spectral() -> None:
    kernel, u, bias = X[:3, :2], np.array([0.6, 0.8]), np.array([1.0, 2.0])
    formula = solve(spectral.SpectralNormalization.__doc__, x=X, kernel=kernel, u=u, bias=bias)
    layer = spectral.SpectralNormalization(keras.layers.Dense(2))
    layer.build(X.shape)
    variables = (layer.u, *layer.layer.variables)
    for variable, numbers in zip(variables, (u, kernel, bias), strict=True):
        variable.assign(numbers)
    assert_close(array(layer(X, training=True)), formula["y"], SINGLE)
    assert_close(array(layer.u), formula["u"], SINGLE)


def test_losses_of_a_gan() -> None:
    real, generated = X[:, 0], X[:, 1]
    losses: tuple[tuple[Any, tuple[Array, ...]], ...] = (
        (gan.discriminator_loss, (real, generated)),
        (gan.generator_loss, (generated,)),
    )
    for loss, scores in losses:
        names = inspect.signature(loss).parameters
        variables: dict[str, Any] = dict(zip(names, scores, strict=True))
        formula = solve(loss.__doc__, **variables)
        assert_close(array(loss(*map(tensor, scores))), formula["loss"], SINGLE)


def test_frechet_distance() -> None:
    other = X[:5] @ np.array([[2.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.1, 0.0, 1.5]]) - 1
    variables: dict[str, Any] = {"m": X.mean(0), "n": other.mean(0), "S": np.cov(X.T)}
    formula = solve(metrics.frechet_distance.__doc__, **variables, T=np.cov(other.T))
    assert_close(metrics.frechet_distance(X, other), formula["distance"], SINGLE)


def root(matrix: Array) -> Array:
    """The root of a product of two covariances, whose eigenvalues are not negative."""
    values, vectors = np.linalg.eig(matrix)
    result: Array = (vectors * np.sqrt(values)) @ np.linalg.inv(vectors)
    return result


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
    "batchnorm.slots.condition.FromEmbedding",
    "batchnorm.slots.condition.Given",
    "batchnorm.slots.condition.PerClass",
    "batchnorm.stages.affine.then",
    "batchnorm.functional.batch_norm",
    "batchnorm.layer.BatchNormalization",
    "batchnorm.models.gan.discriminator_loss",
    "batchnorm.models.gan.generator_loss",
    "batchnorm.slots.moving.Cumulative",
    "batchnorm.slots.moving.Exponential",
    "batchnorm.slots.moving.ZeroDebiased",
    "batchnorm.recipes.ConditionalBatchNormalization",
    "batchnorm.reference",
    "batchnorm.reference.batch_norm_infer",
    "batchnorm.reference.batch_norm_train",
    "batchnorm.slots.pooled.Pooled",
    "batchnorm.slots.renorm.Renorm",
    "batchnorm.slots.schedule.Ramp",
    "batchnorm.spectral.SpectralNormalization",
    "batchnorm.stages.moments.average",
    "batchnorm.stages.moments.centre",
    "batchnorm.stages.moments.merge",
    "batchnorm.stages.moments.moments",
    "batchnorm_app.evaluate.metrics.frechet_distance",
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
    documented = {name for module in modules().items() for name in with_formulas(*module)}
    assert documented == TESTED


def with_formulas(module: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            if equations(inspect.cleandoc(ast.get_docstring(node) or "")):
                yield module if isinstance(node, ast.Module) else f"{module}.{node.name}"


def trained_layer() -> Any:
    layer = batchnorm.BatchNormalization(epsilon=EPSILON)
    layer.build(X.shape)
    layer.set_weights([GAMMA, BETA, MEAN, VARIANCE])
    return layer


def quoted(docstring: str | None) -> str:
    """The first text in backquotes of a docstring."""
    match = re.search(r"`([^`]+)`", docstring or "")
    assert match
    return match[1]


def tensor(values: Array) -> Any:
    return keras.ops.convert_to_tensor(values)


def array(value: Any) -> Array:
    values: Array = keras.ops.convert_to_numpy(value)
    return values
