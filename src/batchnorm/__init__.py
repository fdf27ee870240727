"""Batch normalization, whole, for Keras 3 on TensorFlow, JAX and PyTorch."""

from importlib.metadata import version

from batchnorm.functional import batch_norm
from batchnorm.layer import BatchNormalization
from batchnorm.moving import Exponential
from batchnorm.statistics import Moments, merge, moments

__all__ = ["BatchNormalization", "Exponential", "Moments", "batch_norm", "merge", "moments"]
__version__ = version("batchnorm")
