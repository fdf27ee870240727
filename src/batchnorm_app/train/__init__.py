"""Training runs: what the command line does, without the command line."""
