"""Ratios by way of densities: plug-in ratios, their corrections, and ratios in a flow's coordinates."""
