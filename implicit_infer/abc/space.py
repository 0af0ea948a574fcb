"""The prior in unconstrained space, where particles may be moved without leaving its support."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from implicit_simulators import Simulator, Stream, unconstrained


class UnconstrainedPrior:
    r"""The prior's density and bijection for :math:`\phi = T^{-1}(\theta)`, in double precision.

    .. math:: \log p(\phi) = \log p(T(\phi)) + \log \left| \det \frac{\partial T}{\partial \phi} \right|

    Args:
        simulator: The simulator whose prior it is.

    Raises:
        TypeError: If the prior has no density, or no continuous support.
    """

    def __init__(self, simulator: Simulator) -> None:
        self.prior: Any = simulator.prior
        self.transform = unconstrained(self.prior)
        if not callable(getattr(self.prior, "log_prob", None)):
            raise TypeError(f"prior: expected a distribution with log_prob; got {type(self.prior).__name__}")
        with Stream(0).forked():
            self.dtype = self.prior.sample((1,)).dtype

    def to(self, theta: Tensor) -> Tensor:
        """Unconstrained points of theta with shape (n, d)."""
        # a draw may round onto the edge of the support, which lies at infinity
        phi: Tensor = self.transform.inv(theta.double())
        return phi.nan_to_num(posinf=700.0, neginf=-700.0)

    def back(self, phi: Tensor) -> Tensor:
        """Parameters (n, d) of unconstrained points, in float32 as the prior's own draws are."""
        theta: Tensor = self.transform(phi)
        return theta.float()

    def log_prob(self, phi: Tensor) -> Tensor:
        """Log density at phi, with shape (n,); minus infinity where the parameters round out of the support."""
        theta = self.transform(phi)
        rounded = theta.to(self.dtype)
        inside = self.prior.support.check(rounded) & torch.isfinite(rounded).all(1)
        if not inside.any():
            return phi.new_full((len(phi),), -torch.inf)
        # evaluated at a legal point where outside: torch's distributions raise there
        legal = torch.where(inside[:, None], rounded, rounded[inside][:1])
        value = self.prior.log_prob(legal).double() + self.transform.log_abs_det_jacobian(phi, theta)
        return torch.where(inside, value, -torch.inf)
