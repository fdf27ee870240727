"""Batch normalization, whole, for Keras 3 on TensorFlow, JAX and PyTorch."""
