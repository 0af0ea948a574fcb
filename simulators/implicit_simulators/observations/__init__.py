"""Real data that ships with the package, with its source."""
