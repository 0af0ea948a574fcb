"""Daily exchange rates as models of returns see them: one currency's log returns in percent."""

from __future__ import annotations

import torch
from torch import Tensor

CURRENCIES = {
    "dm": "Deutsche Mark",
    "bp": "pound sterling",
    "cd": "Canadian dollar",
    "dy": "yen",
    "sf": "Swiss franc",
}
"""The columns of the data set ``"exchange-rates"``, US dollars for one unit of each."""

RETURNS = tuple(f"exchange-rates-{code}" for code in CURRENCIES)
"""Names of the observations, one for each currency."""

COUNT = 1866
"""Returns of each."""


def log_returns(currency: str, first: str | None = None, last: str | None = None) -> Tensor:
    r"""Daily log returns in percent, :math:`y_t = 100\,(\log r_t - \log r_{t-1})`.

    Args:
        currency: One of ``CURRENCIES``.
        first: Date of the first rate, as in ``"1981-10-01"``; the first there is if None.
        last: Date of the last rate, likewise.

    Returns:
        One return fewer than there are rates, in order, with dtype float32.

    Raises:
        ValueError: If there is no such currency.

    Example:
        >>> log_returns("cd").shape
        torch.Size([1866])
    """
    if currency not in CURRENCIES:
        raise ValueError(f"currency: expected one of {', '.join(CURRENCIES)}; got {currency!r}")
    from implicit_simulators.observations import load

    rates = load("exchange-rates").set_index("date")[currency].loc[first:last]
    return torch.tensor(rates.to_numpy()).log().diff().mul(100).float()


def observed_returns(name: str) -> Tensor:
    """All returns of the currency that the observation ``name`` (one of ``RETURNS``) is about, with shape (1866,)."""
    return log_returns(name.removeprefix("exchange-rates-"))
