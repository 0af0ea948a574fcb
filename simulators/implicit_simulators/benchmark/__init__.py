"""Tasks of the SBI benchmark (Lueckmann et al., 2021)."""
