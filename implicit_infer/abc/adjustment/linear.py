r"""Regression adjustment: correct accepted parameters for not matching the observation exactly.

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

import torch
from torch import Tensor

from implicit_infer.abc.distances import inverse, robust_scale

ENOUGH = 5
"""Accepted simulations for each coefficient: of k on f coefficients a regression explains f / k of pure noise."""


def local_linear(
    phi: Tensor, features: Tensor, observed: Tensor, distances: Tensor, log_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Adjust accepted parameters by one weighted linear regression.

    Args:
        phi: Accepted parameters in unconstrained space, with shape (k, d).
        features: Their summaries, with shape (k, f).
        observed: The observation's summaries, with shape (f,).
        distances: Distances to the observation, with shape (k,).
        log_weights: Log weights that the particles have already, with shape (k,).

    Returns:
        Adjusted parameters (k, d) and their log weights (k,).

    Raises:
        ValueError: If there are too few particles for the regression.
    """
    factor = inverse(robust_scale(features))
    offset = ((features - observed) * factor)[:, factor > 0].double()
    epanechnikov = (
        1 - (distances.double() / distances.max()) ** 2 if distances.max() > 0 else torch.ones_like(phi[:, 0])
    )
    weights = log_weights.double().softmax(0) * epanechnikov
    if int((weights > 0).sum()) <= offset.shape[1] + 1:
        raise ValueError(
            f"adjust: linear adjustment on {offset.shape[1]} summaries needs more than {offset.shape[1] + 2} accepted "
            f"simulations; got {len(phi)}: keep more, use fewer summaries, or adjust='none'"
        )
    design = torch.cat([torch.ones_like(offset[:, :1]), offset], dim=1)
    root = weights.sqrt()[:, None]
    # gelsd: summaries may be collinear, and the shortest solution is then as good as any
    slope = torch.linalg.lstsq(root * design, root * phi.double(), driver="gelsd").solution[1:]
    return phi - offset @ slope, weights.log()


def overfitted(accepted: int, summaries: int) -> str:
    """What to say when a regression has few simulations for each summary; empty when it has enough."""
    if accepted >= ENOUGH * (summaries + 1):
        return ""
    return (
        f"linear adjustment regresses on {summaries} summaries from {accepted} simulations, which makes the posterior "
        f"too narrow; keep at least {ENOUGH * (summaries + 1)}"
    )
