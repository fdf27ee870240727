"""The command `batchnorm` and everything that it does."""
