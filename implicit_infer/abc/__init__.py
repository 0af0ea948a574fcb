"""Approximate Bayesian computation: keep the simulations that look like the data."""
