"""Ratios as expansions in Gaussian kernels: closed forms and convex problems, no training loop."""
