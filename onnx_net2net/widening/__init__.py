"""Net2WiderNet: a Plan applied to a model."""
