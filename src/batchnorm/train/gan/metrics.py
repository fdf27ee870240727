"""How far two sets of features lie apart, and how far those within a set do; NumPy alone."""

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


def frechet_distance(a: Features, b: Features) -> float:
    """The squared Frechet distance of the two normal distributions with the sets' moments.

    With the means m and n and the unbiased covariances S and T of the sets:

        distance = sum((m - n)²) + trace(S + T - 2 * root(S @ T))

    where root(...) is the matrix, of eigenvalues from 0, whose square is S @ T. The trace is
    computed as what the best rotation leaves of the difference between A and B, where S is AᵀA and
    T is BᵀB (Bhatia, Jain, Lim). So no root is taken of an eigenvalue that is not 0 for rounding
    alone, and sets that fill fewer dimensions than they have columns are as good as others.

    On features other than those of the Inception network of Heusel et al. this must not be called
    FID: the numbers have nothing in common. The distance is biased upwards by few rows, so compare
    only distances between sets of the same sizes, beside that between two sets of real images.

    Args:
        a: `(N, D)`, `N` at least 2.
        b: `(M, D)`, `M` at least 2.

    Returns:
        A number from 0, in squared units of the features; 0 for equal moments, up to rounding.

    Raises:
        ValueError: a set has not two dimensions, fewer than 2 rows, other columns than the other
            set, or numbers that are not finite.

    Example:
        >>> square = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> round(frechet_distance(square, square + [3.0, 4.0]), 9)
        25.0

    References:
        Dowson and Landau 1982, "The Frechet distance between multivariate normal distributions";
        Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter 2017, "GANs trained by a two time-scale
        update rule converge to a local Nash equilibrium", equation (6); Bhatia, Jain, Lim 2019,
        "On the Bures-Wasserstein distance between positive definite matrices".
    """
    a, b = _checked("a", a), _checked("b", b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"received a of shape {a.shape} and b of shape {b.shape}; both need the same columns."
        )
    factor_a, factor_b = _factor(a), _factor(b)
    left, _, right = np.linalg.svd(factor_a @ factor_b.T)
    difference = factor_a - left @ right @ factor_b
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.sum(difference**2))


def diversity(features: Features, labels: Labels) -> float:
    """How far images of one class lie apart: their mean distance, then its mean over the classes.

    With the features f of the n images of a class, its mean distance is the sum of the Euclidean
    distances |f_i - f_j| over all pairs i < j, divided by the n (n - 1) / 2 pairs. Images that are
    all the same have a diversity of 0, as those of a generator that knows one image a class.

    Args:
        features: `(N, D)`.
        labels: `(N,)`. Classes with fewer than 2 images are left out.

    Returns:
        A number from 0, in units of the features.

    Raises:
        ValueError: features and labels do not belong together, no class has 2 images, or there
            are features that are not finite.

    Example:
        >>> diversity(np.array([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]), np.array([7, 7, 8]))
        5.0
    """
    features = _checked("features", features)
    labels = np.asarray(labels)
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"received features of shape {features.shape} and labels of shape {labels.shape}; "
            "there must be one label for each row."
        )
    classes, counts = np.unique(labels, return_counts=True)
    several = classes[counts > 1]
    if not several.size:
        raise ValueError(
            f"received {len(labels)} images of {len(classes)} classes; at least one class needs 2 "
            "images, for there to be a distance between them."
        )
    return float(np.mean([_mean_distance(features[labels == each]) for each in several]))


def _mean_distance(rows: npt.NDArray[np.float64]) -> float:
    # Differences row by row: the faster |x|^2 + |y|^2 - 2 x.y would not be 0 between equal rows.
    pairs = len(rows) * (len(rows) - 1) / 2
    total = 0.0
    for index in range(1, len(rows)):
        difference = rows[:index] - rows[index]
        total += float(np.sqrt(np.einsum("nd,nd->n", difference, difference)).sum())
    return total / pairs


def _factor(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A square matrix A of which AᵀA is the covariance."""
    triangle = np.linalg.qr((rows - rows.mean(0)) / np.sqrt(len(rows) - 1), mode="r")
    columns = rows.shape[1]
    return np.pad(triangle, ((0, columns - len(triangle)), (0, 0)))


def _checked(name: str, features: Features) -> npt.NDArray[np.float64]:
    values = np.asarray(features, np.float64)
    if values.ndim != 2 or len(values) < 2 or values.shape[1] < 1:
        raise ValueError(
            f"received {name} of shape {values.shape}; it must be (N, D), with N at least 2 for "
            "there to be a covariance or a distance, and D at least 1."
        )
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"received {name} with {values[row, column]} in row {row}, column {column} "
            f"({len(wrong)} of {values.size} numbers are not finite); all must be finite."
        )
    return values
