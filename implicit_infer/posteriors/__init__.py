"""Posteriors: by ratio, by adversarial training, by density."""
