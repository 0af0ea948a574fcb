"""Networks that draw: how they are made, and how they are fitted to data by comparison or by likelihood."""

from implicit_infer.generators.learned import Learned

__all__ = ["Learned"]
