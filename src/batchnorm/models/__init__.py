"""Reference models, one file for each paper."""
