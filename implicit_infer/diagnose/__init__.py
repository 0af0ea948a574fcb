"""Is the answer right: classifier two-sample tests and predictive checks."""
