"""How fast batch normalization is, beside its peers and the machine's memory, in the same run."""
