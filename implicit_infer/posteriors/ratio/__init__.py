"""What posteriors by ratio share: what networks see, and how they are trained, sampled and checked."""
