"""Values that a user passes to an argument of the layer, one file a slot."""
