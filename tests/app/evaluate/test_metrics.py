"""Distances between features, against closed forms and brute force."""

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from batchnorm_app.evaluate.metrics import diversity, frechet_distance

pytestmark = pytest.mark.no_backend

Array = npt.NDArray[np.float64]


def features_with(mean: Any, factor: Any, count: int = 50, seed: int = 0) -> Array:
    """Features whose mean is `mean` and whose covariance is factor @ factor.T, to rounding."""
    factor = np.asarray(factor, np.float64)
    x = np.random.default_rng(seed).normal(size=(count, len(factor)))
    x -= x.mean(0)
    white = x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T).reshape(len(factor), -1))).T
    features: Array = white @ factor.T + np.asarray(mean)
    return features


def rotation(size: int, seed: int = 0) -> Array:
    q: Array = np.linalg.qr(np.random.default_rng(seed).normal(size=(size, size)))[0]
    return q


def by_eigenvalues(a: Array, b: Array) -> float:
    """The definition, by the symmetric matrix S^(1/2) T S^(1/2) in place of S T."""
    s, t = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(s)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ t @ root).clip(0)).sum()
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(s + t) - 2 * cross)


def test_the_features_of_these_tests_have_the_moments_they_should() -> None:
    factor = np.array([[2.0, 0.5], [0.0, 3.0]])
    np.testing.assert_allclose(
        np.cov(features_with([5, 6], factor).T), factor @ factor.T, rtol=1e-12
    )
    np.testing.assert_allclose(features_with([5, 6], factor).mean(0), [5, 6], rtol=1e-12)


def test_one_dimension() -> None:
    """(m - n)^2 + (s - t)^2 for means m, n and standard deviations s, t."""
    a, b = features_with([3.0], [[2.0]]), features_with([-1.0], [[7.0]], count=20, seed=1)
    assert frechet_distance(a, b) == pytest.approx(16 + 25, rel=1e-12)


def test_shifted() -> None:
    a = features_with([100, 200, 300], rotation(3) * [1, 5, 0.1])
    assert frechet_distance(a, a + [1, 2, 2]) == pytest.approx(9, rel=1e-9)


def test_scaled() -> None:
    """By c about the mean: (c - 1)^2 times the trace of the covariance."""
    a = features_with([0, 0, 0], rotation(3) * [1, 5, 0.1])
    assert frechet_distance(a, 4 * a) == pytest.approx(9 * (1 + 25 + 0.01), rel=1e-12)


def test_commuting_covariances() -> None:
    axes = rotation(4)
    a = features_with([1, 2, 3, 4], axes * [1, 2, 3, 4])
    b = features_with([1, 2, 3, 6], axes * [4, 2, 1, 0.5], count=33, seed=1)
    assert frechet_distance(a, b) == pytest.approx(4 + 9 + 0 + 4 + 12.25, rel=1e-12)


def test_two_dimensions_that_do_not_commute() -> None:
    """There the trace of the root of M is sqrt(trace(M) + 2 sqrt(det(M)))."""
    s, t = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([[1.0, -0.5], [-0.5, 9.0]])
    assert not np.allclose(s @ t, t @ s)
    cross = np.sqrt(np.trace(s @ t) + 2 * np.sqrt(np.linalg.det(s @ t)))
    a, b = (
        features_with([1, 2], np.linalg.cholesky(covariance), seed=seed)
        for seed, covariance in enumerate((s, t))
    )
    assert frechet_distance(a, b) == pytest.approx(np.trace(s + t) - 2 * cross, rel=1e-12)


def test_many_dimensions() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=(300, 40)) @ rng.normal(size=(40, 40)) + 10
    b = rng.gamma(2.0, size=(200, 40)) @ rng.normal(size=(40, 40))
    expected = by_eigenvalues(a, b)
    assert expected > 100
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-10)
    # No order of the rows and no rotation of all features together changes it.
    assert frechet_distance(a[::-1] @ rotation(40), b @ rotation(40)) == pytest.approx(expected)
    # The eigenvalues of float32 features are computed in float64.
    singles = a.astype(np.float32), b.astype(np.float32)
    exact = frechet_distance(*(array.astype(np.float64) for array in singles))
    assert frechet_distance(*singles) == exact


@pytest.mark.parametrize("count", [2, 5, 20, 21, 300])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_a_set_has_no_distance_from_itself(count: int, scale: float) -> None:
    a = scale * np.random.default_rng(0).normal(3, 2, (count, 20))
    assert 0 <= frechet_distance(a, a) <= 1e-8
    assert 0 <= frechet_distance(a, np.random.default_rng(1).permutation(a)) <= 1e-8


def test_small_distances_are_not_lost_in_large_variances() -> None:
    a = features_with([0, 0, 0], rotation(3) * [1, 5, 0.1])
    assert frechet_distance(a, a * (1 + 1e-6)) == pytest.approx(1e-12 * 26.01, rel=1e-6)


def test_rank_deficient() -> None:
    """Sets within planes at a right angle: nothing of the one's variance is in the other's."""
    axes, rng = rotation(6), np.random.default_rng(0)
    a, b = rng.normal(size=(50, 2)) @ axes[:2], rng.normal(size=(30, 2)) @ axes[2:4]
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + a.var(0, ddof=1).sum()
    expected += b.var(0, ddof=1).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(a, 3 * a + 1) == pytest.approx(
        np.sum((2 * a.mean(0) + 1) ** 2) + 4 * a.var(0, ddof=1).sum(), rel=1e-12
    )


def test_fewer_rows_than_columns() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 8)), rng.normal(size=(40, 8)) * 2
    expected = by_eigenvalues(a, b)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(expected, rel=1e-6)


def test_without_any_variance() -> None:
    assert frechet_distance(np.full((3, 2), 5.0), np.full((4, 2), 2.0)) == pytest.approx(18)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.zeros((1, 3)), np.zeros((2, 3)), r"a of shape \(1, 3\).* N at least 2"),
        (np.zeros((2, 3)), np.zeros((0, 3)), r"b of shape \(0, 3\).* N at least 2"),
        (np.zeros((2, 3)), np.zeros(3), r"b of shape \(3,\)"),
        (np.zeros((2, 0)), np.zeros((2, 0)), "D at least 1"),
        (
            np.zeros((2, 3)),
            np.zeros((2, 4)),
            r"\(2, 3\) and b of shape \(2, 4\).*same number of columns",
        ),
        (np.zeros((2, 2)), np.array([[0, 1], [np.nan, 1]]), "b with nan in row 1, column 0"),
        (np.array([[0, -np.inf], [0, np.inf]]), np.zeros((2, 2)), r"a with -inf .*\(2 of 4 num"),
    ],
)
def test_refused(a: Array, b: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)


def brute_force(features: Array, labels: npt.NDArray[np.int64]) -> float:
    means = []
    for label in set(labels.tolist()):
        rows = [
            row for row, other_label in zip(features, labels, strict=True) if other_label == label
        ]
        pairs = [float(np.linalg.norm(x - y)) for x, y in itertools.combinations(rows, 2)]
        if pairs:
            means.append(sum(pairs) / len(pairs))
    return sum(means) / len(means)


def test_diversity_against_all_pairs() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice([0, 1, 2, 7, 9], size=60, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    labels[labels == 9] = 2
    labels[0] = 9  # alone
    features = rng.normal(100, 1 + labels[:, None], (60, 5))
    assert diversity(features, labels) == pytest.approx(brute_force(features, labels), rel=1e-12)
    assert diversity(features, labels) == diversity(features - 100 + 100, labels)


def test_diversity_by_hand() -> None:
    """3, 4 and 5 within one class, 20 within another: large classes do not count for more."""
    features = np.array([[0, 0], [3, 0], [0, 4], [0, 0], [12, 16], [99, 99]], np.float64)
    labels = np.array([0, 0, 0, 1, 1, 2])
    assert diversity(features, labels) == pytest.approx((4 + 20) / 2, rel=1e-15)
    assert diversity(2 * features, labels) == pytest.approx(24, rel=1e-15)


def test_images_that_are_all_the_same_have_no_diversity() -> None:
    row = np.random.default_rng(0).normal(1000, 1, (1, 50))
    assert diversity(np.repeat(row, 7, 0), np.zeros(7, np.int64)) == 0


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (np.zeros((3, 2)), np.array([0, 1, 2]), "3 images of 3 classes; at least one class needs"),
        (np.zeros((3, 2)), np.array([0, 1]), r"labels of shape \(2,\)"),
        (np.zeros((3, 2)), np.zeros((3, 1)), r"labels of shape \(3, 1\)"),
        (np.zeros(3), np.zeros(3), r"features of shape \(3,\)"),
        (np.full((3, 2), np.nan), np.zeros(3), "6 of 6 numbers are not finite"),
    ],
)
def test_diversity_refused(features: Array, labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        diversity(features, labels)
