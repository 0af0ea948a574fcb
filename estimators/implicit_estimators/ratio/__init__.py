"""Density-ratio estimators: ``fit(p, q)``, ``log_ratio(x)``, ``check()``."""
