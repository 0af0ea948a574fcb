"""The few fast ways to run a stochastic program."""
