r"""Normalizing flows on white rows, trained by maximum likelihood: what flow ratios and featurised ratios share.

A flow starts as the identity, so before any training its density is the standard normal, and after training it is one
that held-out rows found more likely.

References:
    | Neural Spline Flows (Durkan, Bekasov, Murray and Papamakarios, 2019)
    | https://arxiv.org/abs/1906.04032
    | Masked Autoregressive Flow for Density Estimation (Papamakarios, Pavlakou and Murray, 2017)
    | https://arxiv.org/abs/1705.07057
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from implicit_estimators.networks.train import History, Progress, evaluate, train
from implicit_estimators.seeds import forked

FLOWS = ("nsf", "maf")
"""Kinds of flow: rational-quadratic splines, and affine maps."""
REACH = 1e4
"""Values beyond this pass a flow as they are: far out, where no rows were, both kinds should do no more than that."""


class WhiteFlow(nn.Module):
    """An invertible map of k columns to standard normal ones.

    Args:
        kind: A name in ``FLOWS``.
        width: k.
        transforms: How many autoregressive maps follow one another.
        hidden: Widths of the hidden layers of each.
        bins: Bins of each spline.
        seed: Seed of the initial weights.
        device: Where they lie.
    """

    def __init__(
        self,
        kind: str,
        width: int,
        transforms: int,
        hidden: Sequence[int],
        bins: int,
        seed: int,
        device: torch.device | str,
    ) -> None:
        super().__init__()
        import zuko

        settings = {"transforms": transforms, "hidden_features": tuple(hidden)}
        with forked(seed):
            if kind == "nsf":
                self.flow = zuko.flows.NSF(width, bins=bins, **settings)
            else:
                self.flow = zuko.flows.MAF(width, **settings)
        self.start_over()
        self.to(device)

    def start_over(self) -> None:
        """Make the map the identity."""
        for transform in self.flow.transform.transforms:
            if hasattr(transform, "hyper"):  # permutations have none
                for parameter in transform.hyper[-1].parameters():
                    nn.init.zeros_(parameter)

    def map(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """The standard normal columns, with shape (n, k), and the log-determinant, with shape (n,), in float64."""
        if not len(w):
            return w.double(), w.new_zeros(0).double()
        near = w.clamp(-REACH, REACH)
        z, log_determinant = self.flow().transform.call_and_ladj(near.float())
        return z.double() + (w.double() - near.double()), log_determinant.double()

    def log_density(self, w: Tensor) -> Tensor:
        """At w of shape (n, k), with shape (n,), in float64."""
        z, log_determinant = self.map(w)
        return log_determinant - 0.5 * z.square().sum(1) - 0.5 * z.shape[1] * math.log(2 * math.pi)

    def forward(self, w: Tensor) -> Tensor:
        """Log-density for training, in float32."""
        return self.flow().log_prob(w)

    def learn(
        self,
        rows: Sequence[Tensor],
        held_out: Sequence[Tensor],
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        patience: int,
        seed: int,
        progress: Progress | None,
    ) -> History:
        """Maximise the mean log-density over sets of white rows, which all count the same.

        Weights are averaged over the steps, those of the best epoch on the rows held out are kept, and if not even
        these are more likely there than under the identity, the map stays the identity.
        """

        def loss(*batch: Tensor, generator: torch.Generator) -> Tensor:
            return -torch.stack([self(w).mean() for w in batch]).mean()

        learning, judging = ([(w.clamp(-REACH, REACH).float(),) for w in sets] for sets in (rows, held_out))
        nothing = evaluate(self, loss, judging)
        history = train(
            self,
            loss,
            learning,
            validation=judging,
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            patience=patience,
            average=0.99,
            seed=seed,
            progress=progress,
        )
        if not history.best < nothing:
            self.start_over()
        self.requires_grad_(False).eval()
        return history


def check_flow(kind: str, transforms: int, hidden: Sequence[int], bins: int, validation: float) -> None:
    """Refuse settings that no flow has.

    Raises:
        ValueError: If one is out of its range.
    """
    if kind not in FLOWS:
        raise ValueError(f"flow: expected one of {', '.join(FLOWS)}; got {kind!r}")
    if transforms < 1 or bins < 2 or not hidden or min(hidden) < 1:
        raise ValueError(
            f"transforms, hidden, bins: expected positive ints and at least 2 bins; got {transforms}, {tuple(hidden)}, "
            f"{bins}"
        )
    if not 0 < validation < 1:
        raise ValueError(f"validation: expected a share inside (0, 1); got {validation}")
