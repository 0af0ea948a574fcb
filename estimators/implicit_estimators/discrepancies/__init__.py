"""Critics with nothing to train."""
