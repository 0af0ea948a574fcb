"""Ratios of far-apart distributions, through distributions that lie between them."""
