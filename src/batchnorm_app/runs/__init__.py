"""Folders of training runs: settings, checkpoints, history, the trained model."""
