"""Learning by comparison on problems with known answers: the tables of docs/learning-benchmark.md."""
