"""How well density ratios are learned, by ours and by their peers, on problems whose ratio is known.

``python -m benchmarks.ratios`` from the top of the repository (``make bench-ratios``) measures what is not measured
yet; ``python -m benchmarks.ratios summary`` says what came out.
"""
