"""The SBI benchmark's ten tasks: our posteriors beside the published ones."""
