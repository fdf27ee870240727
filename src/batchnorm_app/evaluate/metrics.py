"""Distances between two sets of features, and within one; NumPy alone."""

import numpy as np
import numpy.typing as npt

Features = npt.NDArray[np.floating]
Labels = npt.NDArray[np.integer]


def frechet_distance(a: Features, b: Features) -> float:
    """Returns the squared Frechet distance of the normal distributions with the sets' moments.

    With the means m and n and the unbiased covariances S and T of the sets:

        distance = sum((m - n)²) + trace(S + T - 2 * root(S @ T))

    where root(...) is the matrix with eigenvalues of at least 0 whose square is S @ T. The trace
    is computed as the squared difference between A and B after the best rotation, where S is AᵀA
    and T is BᵀB (Bhatia, Jain, Lim). So no root of an eigenvalue amplifies rounding, and sets that
    span fewer dimensions than they have columns need no special care.

    On features other than those of the Inception network of Heusel et al. this is not FID: the
    numbers cannot be compared. Few rows bias the distance upwards, so compare only distances
    between sets of the same sizes, beside the distance between two sets of real images.

    Args:
        a: `(N, D)`, `N` at least 2.
        b: `(M, D)`, `M` at least 2.

    Returns:
        A number of at least 0, in squared units of the features; 0 for equal moments, up to
        rounding.

    Raises:
        ValueError: a set does not have two dimensions, has fewer than 2 rows, another number of
            columns than the other set, or numbers that are not finite.

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
    a, b = _check("a", a), _check("b", b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"received a of shape {a.shape} and b of shape {b.shape}; both need the same number of "
            "columns."
        )
    factor_a, factor_b = _factor(a), _factor(b)
    u, _, vh = np.linalg.svd(factor_a @ factor_b.T)
    difference = factor_a - u @ vh @ factor_b
    return float(np.sum((a.mean(0) - b.mean(0)) ** 2) + np.sum(difference**2))


def diversity(features: Features, labels: Labels) -> float:
    """Returns the mean distance between images of one class, averaged over the classes.

    With the features f of the n images of a class, its mean distance is the sum of the Euclidean
    distances |f_i - f_j| over all pairs i < j, divided by the n (n - 1) / 2 pairs. Equal images
    have a diversity of 0, such as those of a generator with a single image for each class.

    Args:
        features: `(N, D)`.
        labels: `(N,)`. Classes with fewer than 2 images are left out.

    Returns:
        A number of at least 0, in units of the features.

    Raises:
        ValueError: features and labels differ in length, no class has 2 images, or features are
            not finite.

    Example:
        >>> diversity(np.array([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]), np.array([7, 7, 8]))
        5.0
    """
    features = _check("features", features)
    labels = np.asarray(labels)
    if labels.shape != features.shape[:1]:
        raise ValueError(
            f"received features of shape {features.shape} and labels of shape {labels.shape}; "
            "there must be one label for each row."
        )
    classes, counts = np.unique(labels, return_counts=True)
    repeated = classes[counts > 1]
    if not repeated.size:
        raise ValueError(
            f"received {len(labels)} images of {len(classes)} classes; at least one class needs 2 "
            "images, for there to be a distance between them."
        )
    return float(np.mean([_mean_distance(features[labels == label]) for label in repeated]))


def _mean_distance(rows: npt.NDArray[np.float64]) -> float:
    # Differences row by row: the faster |x|^2 + |y|^2 - 2 x.y would not be 0 between equal rows.
    pairs = len(rows) * (len(rows) - 1) / 2
    total = 0.0
    for index in range(1, len(rows)):
        difference = rows[:index] - rows[index]
        total += float(np.sqrt(np.einsum("nd,nd->n", difference, difference)).sum())
    return total / pairs


def _factor(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns a square matrix A of which AᵀA is the covariance."""
    triangle = np.linalg.qr((rows - rows.mean(0)) / np.sqrt(len(rows) - 1), mode="r")
    columns = rows.shape[1]
    return np.pad(triangle, ((0, columns - len(triangle)), (0, 0)))


def _check(name: str, features: Features) -> npt.NDArray[np.float64]:
    values = np.asarray(features, np.float64)
    if values.ndim != 2 or len(values) < 2 or values.shape[1] < 1:
        raise ValueError(
            f"received {name} of shape {values.shape}; it must be (N, D), with N at least 2 for "
            "there to be a covariance or a distance, and D at least 1."
        )
    invalid = np.argwhere(~np.isfinite(values))
    if len(invalid):
        row, column = invalid[0]
        raise ValueError(
            f"received {name} with {values[row, column]} in row {row}, column {column} "
            f"({len(invalid)} of {values.size} numbers are not finite); all must be finite."
        )
    return values
