"""Density ratios by telling samples apart: networks under any ratio loss, scikit-learn's classifiers, many classes."""
