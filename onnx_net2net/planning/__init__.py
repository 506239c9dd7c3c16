"""From a request to a Plan."""
