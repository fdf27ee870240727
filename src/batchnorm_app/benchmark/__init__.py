"""Benchmarks of batch normalization against other layers and the machine's memory bandwidth."""
