"""Kernels of TensorFlow, fastest first; README.md beside this file explains them."""

from batchnorm.kernels.tensorflow import composed, cpu

KERNELS = (cpu, composed)
