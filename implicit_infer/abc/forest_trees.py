r"""Forests as tensors: regression trees grown by scikit-learn, kept as arrays, and the weights they give to a bank.

A tree puts an observation into a leaf, with those simulations of its bootstrap sample whose summaries fell there. Over
B trees this weighs the simulations by

.. math:: w_i(s_o) = \frac1B \sum_{b=1}^B \frac{n_i^{(b)}\, 1\{\ell_b(s_i) = \ell_b(s_o)\}}
    {\sum_j n_j^{(b)}\, 1\{\ell_b(s_j) = \ell_b(s_o)\}},

with :math:`n_i^{(b)}` how often simulation i was drawn for tree b. They sum to one.

References:
    | Random forests (Breiman, 2001)
    | https://doi.org/10.1023/A:1010933404324
    | Quantile regression forests (Meinshausen, 2006; there every simulation counts once in every tree)
    | https://jmlr.org/papers/v7/meinshausen06a.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from implicit_infer.progress import Bar

Targets = Callable[[np.random.Generator], Tensor]
"""What one tree predicts, with shape (n, t), from the tree's own random numbers."""


@dataclass(frozen=True)
class Growth:
    """How trees are grown.

    Args:
        trees: Number of trees.
        leaf: The fewest different simulations in a leaf.
        columns: Share of the summaries that a split chooses from, in (0, 1]; None takes a third, as regression forests
            do, but at least two.

    Raises:
        ValueError: If a number is out of its range.
    """

    trees: int = 300
    leaf: int = 5
    columns: float | None = None

    def __post_init__(self) -> None:
        for name in ("trees", "leaf"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a positive int; got {getattr(self, name)}")
        if self.columns is not None and not 0 < self.columns <= 1:
            raise ValueError(f"columns: expected a number in (0, 1] or None; got {self.columns}")

    def tried(self, summaries: int) -> int:
        """How many summaries a split chooses from."""
        wanted = summaries / 3 if self.columns is None else self.columns * summaries
        return min(summaries, max(2 if self.columns is None else 1, round(wanted)))


class Trees:
    """A grown forest.

    Attributes:
        feature: The summary that each node of each tree splits, with shape (B, nodes); -1 at leaves.
        threshold: Where; at most this goes left.
        left: The node to the left, with shape (B, nodes).
        right: The node to the right.
        leaves: The leaf of every simulation, with shape (B, n).
        counts: How often each was drawn, with shape (B, n).
    """

    def __init__(self, parts: dict[str, list[np.ndarray]]) -> None:
        def padded(name: str, empty: float) -> Tensor:
            widest = max(map(len, parts[name]))
            rows = [np.pad(row, (0, widest - len(row)), constant_values=empty) for row in parts[name]]
            return torch.as_tensor(np.stack(rows))

        self.feature = padded("feature", -1).long()
        self.threshold = padded("threshold", 0)
        self.left, self.right = padded("left", 0).long(), padded("right", 0).long()
        self.leaves = torch.as_tensor(np.stack(parts["leaves"]))
        self.counts = torch.as_tensor(np.stack(parts["counts"]))

    @classmethod
    def grow(cls, features: Tensor, targets: Targets, growth: Growth, seed: int, bar: Bar) -> Trees:
        """Grow trees of least squares on summaries with shape (n, k); each on a bootstrap sample of its own."""
        from sklearn.tree import DecisionTreeRegressor

        x = np.asarray(features.detach().cpu(), dtype=np.float32)
        n = len(x)
        names = ("feature", "threshold", "left", "right", "leaves", "counts")
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for b in range(growth.trees):
            random = np.random.default_rng([seed, b])
            counts = np.bincount(random.integers(n, size=n), minlength=n)
            tree = DecisionTreeRegressor(
                min_samples_leaf=growth.leaf,
                max_features=growth.tried(x.shape[1]),
                random_state=int(random.integers(2**31)),
            )
            wanted = targets(random).double().cpu().numpy()
            tree.fit(x, wanted, sample_weight=counts.astype(np.float64))
            grown = tree.tree_
            arrays = (grown.feature, grown.threshold, grown.children_left, grown.children_right)
            for name, array in zip(names, arrays, strict=False):
                parts[name].append(np.array(array))
            parts["leaves"].append(tree.apply(x).astype(np.int32))
            parts["counts"].append(counts.clip(0, 255).astype(np.uint8))
            bar.update(1)
        # scikit-learn marks leaves by -2 and their children by -1
        parts["feature"] = [np.where(row < 0, -1, row) for row in parts["feature"]]
        parts["left"] = [row.clip(0) for row in parts["left"]]
        parts["right"] = [row.clip(0) for row in parts["right"]]
        return cls(parts)

    def apply(self, features: Tensor) -> Tensor:
        """The leaf of summaries with shape (q, k) in every tree, with shape (B, q)."""
        trees = torch.arange(len(self.feature))[:, None]
        x = features.float().cpu()
        node = torch.zeros((len(trees), len(x)), dtype=torch.int64)
        rows = torch.arange(len(x)).expand_as(node)
        while True:
            split = self.feature[trees, node]
            inner = split >= 0
            if not inner.any():
                return node
            below = x[rows, split.clamp_min(0)].double() <= self.threshold[trees, node]
            node = torch.where(inner, torch.where(below, self.left[trees, node], self.right[trees, node]), node)

    def weights(self, features: Tensor) -> Tensor:
        """Weights of the simulations for one observation's summaries with shape (k,), with shape (n,), float64."""
        leaf = self.apply(features[None])
        shared = (self.leaves == leaf) * self.counts.double()
        return (shared / shared.sum(1, keepdim=True)).mean(0)

    def out_of_bag(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions of values (n, t) by the trees that did not see a row, (n, t), and which rows have any, (n,)."""
        values = values.double()
        total = torch.zeros_like(values)
        trees = torch.zeros(len(values), dtype=torch.float64)
        for leaves, counts in zip(self.leaves.long(), self.counts.double(), strict=True):
            size = int(leaves.max()) + 1
            sums = torch.zeros(size, values.shape[1], dtype=torch.float64).index_add_(
                0, leaves, values * counts[:, None]
            )
            mass = torch.zeros(size, dtype=torch.float64).index_add_(0, leaves, counts)
            unseen = counts == 0
            total[unseen] += (sums / mass.clamp_min(1)[:, None])[leaves[unseen]]
            trees[unseen] += 1
        return total / trees.clamp_min(1)[:, None], trees > 0

    def explained(self, values: Tensor) -> Tensor:
        r"""Share of the variance of values (n, t) that the forest predicts out of bag, :math:`R^2`, with shape (t,)."""
        found, some = self.out_of_bag(values)
        values = values.double()[some]
        error = (values - found[some]).square().mean(0)
        return 1 - error / values.var(0, correction=0).clamp_min(1e-300)
