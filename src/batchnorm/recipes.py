"""Named layers, one expression each."""

from typing import Any

import keras

from batchnorm.layer import BatchNormalization
from batchnorm.slots.condition import PerClass
from batchnorm.slots.ghost import Ghost
from batchnorm.slots.renorm import Renorm

Tensor = Any


def BatchRenormalization(renorm: Renorm | None = None, **options: Any) -> BatchNormalization:
    """Makes batch renormalization, whose training is close to inference: for small batches.

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
    """Makes batch normalization in groups of samples: the noise of small batches in large ones.

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


@keras.saving.register_keras_serializable(package="batchnorm")
class ConditionalBatchNormalization(BatchNormalization):
    """Batch normalization with one gamma and one beta per class, `layer(x, labels)`.

    y = (x - mean) / sqrt(variance + epsilon) * gamma[labels] + beta[labels]

    `BatchNormalization(affine=PerClass(classes))`, but the condition is the call's second argument.

    Args:
        classes: n, the number of classes.
        **options: those of `BatchNormalization`.

    Call arguments:
        inputs: as for `BatchNormalization`.
        condition: labels as for `PerClass`: `(N,)` or `(N, 1)`, integers in [0, n), or mixtures
            `(N, n)`, floating point.
        training: as for `BatchNormalization`, and likewise `mask` and `sample_weight`.

    Raises:
        ValueError: as for `BatchNormalization` and `PerClass`.

    Example:
        >>> import keras, numpy as np
        >>> layer = ConditionalBatchNormalization(10)
        >>> y = layer(np.ones((2, 4, 4, 3)), np.array([7, 0]), training=True)
        >>> [tuple(variable.shape) for variable in layer.trainable_variables]
        [(10, 3), (10, 3)]

    References:
        Dumoulin, Shlens, Kudlur 2017, "A learned representation for artistic style",
        arXiv:1610.07629, equation 5; Miyato and Koyama 2018, arXiv:1802.05637, for generators.
    """

    def __init__(self, classes: int, **options: Any) -> None:
        super().__init__(affine=PerClass(classes), **options)
        self.classes = int(classes)

    def call(  # type: ignore[override]  # the condition comes second in its calls
        self,
        inputs: Tensor,
        condition: Tensor | None = None,
        training: bool | None = None,
        mask: Tensor | None = None,
        sample_weight: Tensor | None = None,
    ) -> Tensor:
        """Normalizes the inputs; see the class."""
        return super().call(inputs, training, mask, sample_weight, condition)

    def get_config(self) -> dict[str, Any]:
        """Returns the options and the number of classes."""
        config = super().get_config()
        del config["affine"]
        return {"classes": self.classes, **config}
