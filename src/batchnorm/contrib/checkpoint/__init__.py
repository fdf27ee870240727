"""The parts of `load_checkpoint`: the file, the model's layers, and the matching of both."""
