"""Finished results as pictures and pages."""
