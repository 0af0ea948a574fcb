"""Critics that are trained."""
