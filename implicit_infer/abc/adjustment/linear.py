r"""Local-linear regression adjustment: what a wide tolerance moved is moved back along a line.

Near the observation :math:`\phi = a + B^\top (s - s_o) + \text{error}`; subtracting the fitted slope moves each
accepted parameter to where it would be at :math:`s = s_o`:

.. math:: \phi_i^* = \phi_i - \hat B^\top (s_i - s_o), \qquad
    \hat B \text{ by least squares with weights } w_i \left(1 - (d_i / \delta)^2\right).

It is done in unconstrained space, so that no adjusted parameter leaves the prior's support. The Epanechnikov weights,
zero for the farthest one, stay with the particles.

References:
    | Approximate Bayesian computation in population genetics (Beaumont, Zhang & Balding, 2002)
    | https://doi.org/10.1093/genetics/162.4.2025
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_infer.abc.adjustment.base import Adjustment, enough, epanechnikov, moved, offsets


@dataclass(frozen=True)
class LocalLinear(Adjustment):
    r"""One weighted linear regression (Beaumont et al., 2002).

    Args:
        heteroscedastic: Whether the residuals are rescaled too, by a linear regression of the logarithm of their
            squares (Blum & François, 2010): :math:`\phi_i^* = \hat m(s_o) + \hat\sigma(s_o) / \hat\sigma(s_i) \,
            (\phi_i - \hat m(s_i))`.
    """

    heteroscedastic: bool = False

    def adjust(
        self,
        phi: Tensor,
        features: Tensor,
        observed: Tensor,
        distances: Tensor,
        log_weights: Tensor,
        seed: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """See :class:`Adjustment`."""
        offset, weights = offsets(features, observed), epanechnikov(distances, log_weights)
        enough(weights, offset.shape[1], "linear")
        design = torch.cat([torch.ones_like(offset[:, :1]), offset], dim=1)
        root = weights.sqrt()[:, None]

        def regressed(targets: Tensor) -> tuple[Tensor, Tensor]:
            # gelsd: summaries may be collinear, and the shortest solution is then as good as any
            driver = "gelsd" if targets.device.type == "cpu" else None
            solution = torch.linalg.lstsq(root * design, root * targets, driver=driver).solution
            return design @ solution, solution[0]

        return moved(phi.double(), regressed, self.heteroscedastic), weights.log()
