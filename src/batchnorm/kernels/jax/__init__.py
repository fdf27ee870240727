"""Kernels of JAX, fastest first."""

from batchnorm.kernels.jax import cpu

KERNELS = (cpu,)
