"""Approximate Bayesian computation beside its peers: the tables of docs/abc-benchmark.md."""
