"""From a model to its axes: how they run through the graph, and what pins them."""
