"""Kernels of PyTorch, fastest first."""

from batchnorm.kernels.torch import cpu

KERNELS = (cpu,)
