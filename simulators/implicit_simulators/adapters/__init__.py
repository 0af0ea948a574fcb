"""A user's own program as a simulator."""
