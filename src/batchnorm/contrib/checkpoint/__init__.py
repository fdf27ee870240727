"""What `load_checkpoint` is made of: the file, the layers, and which goes to which."""
