"""Reference models, one paper a file."""
