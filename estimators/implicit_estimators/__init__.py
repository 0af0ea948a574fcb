"""What tells two sample sets apart: divergences, ratios, critics and distances, on tensors alone."""
