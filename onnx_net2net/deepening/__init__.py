"""Net2DeeperNet: where layers can go, what they are, and a Plan applied to a model."""
