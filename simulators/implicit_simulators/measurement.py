r"""Noise models: what a measurement makes of the populations of a simulation.

Each has one setting, a number or the name of a parameter to be inferred, the same for all species or one for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from implicit_simulators.engines.noise import row_normal
from implicit_simulators.streams import Stream

Setting = float | str | Sequence[float | str]
"""A number, the name of a parameter, or one of these for each recorded species."""


class Noise:
    """A law of x given the populations z. A child sets the three names below and writes ``draw``.

    Args:
        value: The setting: a number, the name of a parameter, or one of these for each recorded species.

    Raises:
        TypeError: If the setting is something else.
        ValueError: If a number is out of range.
    """

    setting: str
    """What the setting is called in messages."""
    highest: float = np.inf
    differentiable: bool = True

    def __init__(self, value: Setting) -> None:
        self.values: tuple[float | str, ...] = (
            (value,) if isinstance(value, (str, int, float, np.number)) else tuple(value)
        )
        for entry in self.values:
            if isinstance(entry, str):
                continue
            if isinstance(entry, bool) or not isinstance(entry, (int, float, np.number)):
                raise TypeError(f"{self.setting}: expected numbers or names of parameters; got {entry!r}")
            if not (0 <= entry <= self.highest and np.isfinite(entry)):
                raise ValueError(f"{self.setting}: expected a number in [0, {self.highest:g}]; got {entry}")

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters it needs."""
        return tuple(entry for entry in self.values if isinstance(entry, str))

    def check(self, species: int) -> None:
        """Refuse settings for another number of species.

        Raises:
            ValueError: If there are neither one nor ``species`` of them.
        """
        if len(self.values) not in (1, species):
            raise ValueError(f"{self.setting}: expected 1 or {species}, one a species; got {len(self.values)}")

    def draw(self, states: Tensor, column: Callable[[str], Tensor], stream: Stream) -> Tensor:
        """Draw x for each row.

        Args:
            states: Populations with shape (n, T, k).
            column: From the name of a parameter to its values, with shape (n,).
            stream: Where the random numbers come from.

        Returns:
            Measurements with shape (n, T, k); NaN where the setting of a row is out of range.
        """
        raise NotImplementedError(f"{type(self).__name__} must write draw(states, column, stream)")

    def _setting(self, states: Tensor, column: Callable[[str], Tensor]) -> Tensor:
        """The setting with shape (n, 1, 1 or k), NaN where it is out of range."""
        columns = [
            column(entry) if isinstance(entry, str) else states.new_full((len(states),), float(entry))
            for entry in self.values
        ]
        value = torch.stack(columns, 1)[:, None]
        return torch.where((value >= 0) & (value <= self.highest), value, torch.nan)

    def _compiled(self, fill: Any, states: Tensor, stream: Stream, *tables: Tensor) -> Tensor:
        """Counts from a compiled sampler, each row with random numbers of its own."""
        arrays = [
            np.ascontiguousarray(table.detach().expand_as(states).cpu().double().numpy().reshape(len(states), -1))
            for table in tables
        ]
        counts = np.empty_like(arrays[0])
        fill(*arrays, stream.key & 0xFFFFFFFF, stream.key >> 32, 0, counts)
        return torch.as_tensor(counts.reshape(states.shape), dtype=states.dtype).to(states.device)

    def __repr__(self) -> str:
        value = self.values[0] if len(self.values) == 1 else list(self.values)
        return f"{type(self).__name__}({value!r})"


class GaussianNoise(Noise):
    r""":math:`x \sim N(z, \sigma^2)`; the setting is :math:`\sigma`, in individuals."""

    setting = "sd"

    def draw(self, states: Tensor, column: Callable[[str], Tensor], stream: Stream) -> Tensor:
        """As :meth:`Noise.draw`, differentiable."""
        noise = row_normal(states.shape, stream.torch(states.device), states.dtype)
        return states + self._setting(states, column) * noise


class LogNormalNoise(Noise):
    r""":math:`\log x \sim N(\log z, \sigma^2)`; the setting is :math:`\sigma`. An extinct species is seen as 0."""

    setting = "sd"

    def draw(self, states: Tensor, column: Callable[[str], Tensor], stream: Stream) -> Tensor:
        """As :meth:`Noise.draw`, differentiable."""
        noise = row_normal(states.shape, stream.torch(states.device), states.dtype)
        return states * torch.exp(self._setting(states, column) * noise)


class PoissonNoise(Noise):
    r""":math:`x \sim \mathrm{Poisson}(s z)`; the setting is the scale s, counts seen for each individual."""

    setting = "scale"
    differentiable = False

    def draw(self, states: Tensor, column: Callable[[str], Tensor], stream: Stream) -> Tensor:
        """As :meth:`Noise.draw`."""
        from implicit_simulators.engines.counts import fill_poisson

        return self._compiled(fill_poisson, states, stream, self._setting(states, column) * states)


class BinomialNoise(Noise):
    r""":math:`x \sim \mathrm{Binomial}(z, p)`, z rounded; the setting is p, the probability that one is seen."""

    setting = "probability"
    highest = 1.0
    differentiable = False

    def draw(self, states: Tensor, column: Callable[[str], Tensor], stream: Stream) -> Tensor:
        """As :meth:`Noise.draw`."""
        from implicit_simulators.engines.counts import fill_binomial

        return self._compiled(fill_binomial, states, stream, states.round(), self._setting(states, column))
