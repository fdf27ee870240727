"""Complete batch normalization for Keras 3, on TensorFlow, JAX and PyTorch."""

from importlib.metadata import version

from batchnorm.blocks import BasicBlock, BottleneckBlock, ConditionalResidualBlock, ResidualBlock
from batchnorm.functional import batch_norm, state_names
from batchnorm.layer import BatchNormalization
from batchnorm.recipes import (
    BatchRenormalization,
    ConditionalBatchNormalization,
    GhostBatchNormalization,
)
from batchnorm.slots.condition import FromEmbedding, Given, PerClass
from batchnorm.slots.ghost import Ghost
from batchnorm.slots.moving import Cumulative, Exponential, ZeroDebiased
from batchnorm.slots.pooled import Pooled
from batchnorm.slots.renorm import Renorm
from batchnorm.slots.schedule import Ramp
from batchnorm.spectral import SpectralNormalization
from batchnorm.stages.moments import Moments, merge, moments

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
    "Pooled",
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
