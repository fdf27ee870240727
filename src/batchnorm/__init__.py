"""Batch normalization, whole, for Keras 3 on TensorFlow, JAX and PyTorch."""

from importlib.metadata import version

from batchnorm.blocks import BasicBlock, BottleneckBlock, ConditionalResidualBlock, ResidualBlock
from batchnorm.condition import FromEmbedding, Given, PerClass
from batchnorm.functional import batch_norm, state_names
from batchnorm.ghost import Ghost
from batchnorm.layer import BatchNormalization
from batchnorm.moving import Cumulative, Exponential, ZeroDebiased
from batchnorm.recipes import (
    BatchRenormalization,
    ConditionalBatchNormalization,
    GhostBatchNormalization,
)
from batchnorm.renorm import Renorm
from batchnorm.schedule import Ramp
from batchnorm.spectral import SpectralNormalization
from batchnorm.statistics import Moments, merge, moments

__all__ = [
    "BasicBlock",
    "BatchNormalization",
    "BatchRenormalization",
    "BottleneckBlock",
    "ConditionalBatchNormalization",
    "ConditionalResidualBlock",
    "Cumulative",
    "Exponential",
    "FromEmbedding",
    "Ghost",
    "GhostBatchNormalization",
    "Given",
    "Moments",
    "PerClass",
    "Ramp",
    "Renorm",
    "ResidualBlock",
    "SpectralNormalization",
    "ZeroDebiased",
    "batch_norm",
    "merge",
    "moments",
    "state_names",
]
__version__ = version("batchnorm")
