"""Residual blocks, with any normalization in them."""

from batchnorm.blocks.preactivation import BasicBlock, BottleneckBlock
from batchnorm.blocks.residual import ConditionalResidualBlock, ResidualBlock

__all__ = ["BasicBlock", "BottleneckBlock", "ConditionalResidualBlock", "ResidualBlock"]
