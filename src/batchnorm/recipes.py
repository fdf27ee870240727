"""Named layers, one expression each."""

from typing import Any

from batchnorm.ghost import Ghost
from batchnorm.layer import BatchNormalization
from batchnorm.renorm import Renorm


def BatchRenormalization(renorm: Renorm | None = None, **options: Any) -> BatchNormalization:
    """Batch normalization that trains on almost what it will infer with: for small batches.

    Args:
        renorm: the limits of the correction; `None` for `Renorm.paper()`.
        **options: those of `BatchNormalization`.

    Returns:
        `BatchNormalization(renorm=renorm, **options)`.

    Example:
        >>> BatchRenormalization(Renorm(rmax=3.0, dmax=5.0)).renorm.rmax
        3.0

    References:
        Ioffe 2017, "Batch Renormalization", arXiv:1702.03275.
    """
    return BatchNormalization(renorm=renorm or Renorm.paper(), **options)


def GhostBatchNormalization(size: int, strided: bool = False, **options: Any) -> BatchNormalization:
    """Batch normalization in groups of samples: the noise of small batches in large ones.

    Args:
        size: samples in a group.
        strided: as for `Ghost`.
        **options: those of `BatchNormalization`.

    Returns:
        `BatchNormalization(statistics=Ghost(size, strided), **options)`.

    Example:
        >>> GhostBatchNormalization(32).statistics
        Ghost(size=32, strided=False)

    References:
        Hoffer, Hubara, Soudry 2017, "Train longer, generalize better", arXiv:1705.08741.
    """
    return BatchNormalization(statistics=Ghost(size, strided), **options)
