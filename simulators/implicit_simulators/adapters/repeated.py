r"""Several independent draws of one simulator at one theta as one x, of a fixed or of a random number.

.. math:: x = (x_1, \ldots, x_m), \quad x_i \mid \theta \sim p(x \mid \theta) \text{ independently}
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from implicit_simulators.base import Simulator, as_tensor
from implicit_simulators.failures import regrouped
from implicit_simulators.streams import Stream


class Repeated(Simulator):
    r"""Draws ``most`` observations of ``simulator`` at each theta, or a random number of them.

    With a fixed number, x has shape (most, \*event_shape of the simulator), and ``points`` says that these are
    independent and of one law. With ``fewest``, each simulation holds between ``fewest`` and ``most`` draws, any number
    alike, so that what is learned answers for every number: x then has shape (most, k + 1), each row the k entries of a
    draw and 1, or zeros where there is no draw. An observation is given as the draws that there are, and
    :meth:`encode` brings it into that shape.

    Summaries are the mean and the standard deviation over the draws of the simulator's own summaries, which do not
    depend on their order; a network that shall see more takes ``embedding="set"``.

    Each draw is a simulation of the wrapped simulator: a budget of n costs up to n times ``most`` of them.

    Args:
        simulator: What draws one of them.
        most: How many draws, m.
        fewest: The smallest number where it is random; ``most`` if None.

    Raises:
        TypeError: If ``simulator`` is no simulator, or a number no int.
        ValueError: If the numbers are not in 1 <= fewest <= most.

    Example:
        >>> from implicit_simulators.benchmark import GaussianLinear
        >>> Repeated(GaussianLinear(2), 5).simulate([[0.0, 1.0]], seed=0).shape
        torch.Size([1, 5, 2])
        >>> Repeated(GaussianLinear(2), 5, fewest=1).encode([[0.5, -0.5]]).shape
        torch.Size([5, 3])
    """

    def __init__(self, simulator: Simulator, most: int, fewest: int | None = None) -> None:
        if not isinstance(simulator, Simulator):
            raise TypeError(f"simulator: expected a Simulator; got {type(simulator).__name__}")
        for argument, value in (("most", most), ("fewest", most if fewest is None else fewest)):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{argument}: expected an int; got {type(value).__name__}")
        if not 1 <= (most if fewest is None else fewest) <= most:
            raise ValueError(f"most, fewest: expected 1 <= fewest <= most; got {most}, {fewest}")
        self.simulator, self.most = simulator, most
        self.fewest = most if fewest is None else fewest
        self.masked = self.fewest < most
        self.name = f"repeated-{simulator.name}"
        self.parameter_names, self.prior = simulator.parameter_names, simulator.prior
        self.differentiable, self.releases_gil = simulator.differentiable, simulator.releases_gil
        self.reference_theta = simulator.reference_theta
        entries = math.prod(simulator.event_shape)
        self.event_shape = torch.Size((most, entries + 1) if self.masked else (most, *simulator.event_shape))
        self.points = 1 if self.masked else most * simulator.points
        self.block = max(1, simulator.block // most)
        if hasattr(simulator, "log_likelihood"):
            # where there is one only, since who asks whether a likelihood is known asks for this attribute
            self.log_likelihood = self._log_likelihood

    def prepare(self) -> float:
        """Prepare the simulator of the draws; the seconds that took."""
        return self.simulator.prepare()

    def settings(self) -> dict[str, Any]:
        """The numbers of draws, and what is drawn."""
        return {
            "simulator": self.simulator.name,
            "most": self.most,
            "fewest": self.fewest,
            "settings": self.simulator.settings(),
        }

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        each = theta.repeat_interleave(self.most, 0)
        size = self.simulator.block
        parts = []
        for block, start in enumerate(range(0, len(each), size)):
            with regrouped(self.most, start):
                parts.append(self.simulator.simulate_block(each[start : start + size], stream.key, block))
        x = torch.cat(parts) if parts else theta.new_zeros((0, *self.simulator.event_shape))
        if not self.masked:
            return x.reshape(len(theta), *self.event_shape)
        chance = torch.rand(len(theta), generator=Stream.of(stream.key, role="observe").torch(theta.device))
        count = self.fewest + (chance.to(theta.device) * (self.most - self.fewest + 1)).long()
        there = torch.arange(self.most, device=theta.device) < count.clamp(max=self.most)[:, None]
        return self._marked(x.reshape(len(theta), self.most, -1), there)

    def _marked(self, draws: Tensor, there: Tensor) -> Tensor:
        """Draws (n, m, k) of which some are there (n, m), with shape (n, m, k + 1)."""
        # a draw that failed fails the simulation, and one that is left out does not
        kept = torch.where(there[..., None], draws, 0.0)
        return torch.cat((kept, there[..., None].to(draws)), 2)

    def encode(self, x: Any) -> Tensor:
        r"""Draws with shape (m, \*event_shape of the simulator), fewest <= m <= most, as one x of this simulator.

        Raises:
            ValueError: If the draws have another shape, or are too few or too many.
        """
        x = as_tensor(x, "observed")
        inner = self.simulator.event_shape
        if x.ndim != 1 + len(inner) or x.shape[1:] != inner or not self.fewest <= len(x) <= self.most:
            number = f"{self.fewest} to {self.most}" if self.masked else str(self.most)
            raise ValueError(
                f"observed: expected {number} draws of shape {tuple(inner)}, one after another; got {tuple(x.shape)}"
            )
        if not self.masked:
            return x
        draws = x.new_zeros((1, self.most, math.prod(inner)))
        draws[0, : len(x)] = x.reshape(len(x), -1)
        return self._marked(draws, torch.arange(self.most, device=x.device)[None] < len(x))[0]

    def draws(self, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""What :meth:`encode` made, taken apart again.

        Args:
            x: Simulations with shape (n, \*event_shape).

        Returns:
            The draws with shape (n, most, \*event_shape of the simulator), and which are there, (n, most).
        """
        if not self.masked:
            return x, torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        inner = self.simulator.event_shape
        return x[..., :-1].reshape(len(x), self.most, *inner), x[..., -1] > 0.5

    def check_observation(self, x: Any) -> Tensor:
        """The observation as one x: draws are encoded, an encoded x is taken as it is."""
        x = as_tensor(x, "observed")
        inner = self.simulator.event_shape
        if self.masked and x.ndim == 1 + len(inner) and x.shape[1:] == inner and x.shape != self.event_shape:
            x = self.encode(x)
        return super().check_observation(x)

    def summarize(self, x: Tensor) -> Tensor:
        """Mean and standard deviation over the draws of the simulator's summaries, and the log of their number."""
        draws, there = self.draws(x)
        found = self.simulator.summarize(draws[there])
        row = there.nonzero()[:, 0]
        count = there.sum(1, keepdim=True).to(found)
        zero = found.new_zeros((len(x), found.shape[1]))
        mean = zero.index_add(0, row, found) / count
        variance = zero.index_add(0, row, (found - mean[row]).square()) / count
        # of a single draw the deviation is 0, where a root has no gradient
        spread = torch.where(variance > 0, variance, 1.0).sqrt() * (variance > 0)
        return torch.cat((mean, spread, count.log()) if self.masked else (mean, spread), 1)

    def _log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""The sum over the draws of log p(x_i | theta): theta (n, d) and x with shape event_shape or n of them."""
        log_likelihood = self.simulator.log_likelihood  # type: ignore[attr-defined]  # what this method is there for
        single = x.shape == self.event_shape
        draws, there = self.draws(x[None] if single else x)
        values = [
            torch.where(there[:, i], log_likelihood(theta, draws[0, i] if single else draws[:, i]), 0.0)
            for i in range(self.most)
            if there[:, i].any()
        ]
        return torch.stack(values).sum(0)
