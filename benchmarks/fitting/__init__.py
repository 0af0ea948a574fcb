"""Fits of simulators on problems with known answers: the tables of docs/fitting-benchmark.md."""
