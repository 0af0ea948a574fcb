"""The same question to many methods at the same simulation budget."""
