"""Learning in implicit generative models: fit simulators, estimate density ratios, compare methods."""
