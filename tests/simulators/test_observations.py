"""The data that ship with the package, and what is said of them."""

from __future__ import annotations

import math
from importlib import resources

import pytest
import torch

from implicit_simulators import observations
from implicit_simulators.observations.exchange_rates import COUNT, CURRENCIES, log_returns


def test_the_pelts_are_those_of_the_hudson_bay_company() -> None:
    frame = observations.load("hudson-bay")
    assert frame["year"].tolist() == list(range(1900, 1921))
    assert frame[["lynx", "hare"]].to_numpy()[4].tolist() == [59.4, 36.3]
    assert frame[["lynx", "hare"]].to_numpy().sum(0).round(1).tolist() == [423.5, 715.7]


def test_the_flu_is_that_of_the_boarding_school() -> None:
    frame = observations.load("boarding-school-flu")
    assert [str(frame["date"].iloc[i].date()) for i in (0, -1)] == ["1978-01-22", "1978-02-04"]
    assert frame["date"].diff().dt.days.iloc[1:].eq(1).all()
    assert frame["in_bed"].max() == 298
    assert frame["convalescent"].sum() == 937


def test_the_exchange_rates_are_those_of_verbeek() -> None:
    frame = observations.load("exchange-rates")
    assert frame.columns.tolist() == ["date", *CURRENCIES]
    assert len(frame) == COUNT + 1
    assert [str(frame["date"].iloc[i].date()) for i in (0, -1)] == ["1980-01-02", "1987-05-21"]
    assert frame["date"].is_monotonic_increasing
    assert frame[["dm", "cd"]].iloc[0].tolist() == [0.5861, 0.8547]


def test_returns_are_in_percent_and_add_up() -> None:
    rates = observations.load("exchange-rates")["cd"]
    returns = log_returns("cd")
    assert returns.shape == (COUNT,)
    assert returns.dtype == torch.float32
    total = 100 * math.log(rates.iloc[-1] / rates.iloc[0])
    assert math.isclose(returns.double().sum().item(), total, rel_tol=1e-4)
    assert math.isclose(returns[0].item(), 100 * math.log(0.8552 / 0.8547), rel_tol=1e-5)


def test_the_pound_of_kim_shephard_and_chib_has_945_returns() -> None:
    assert len(log_returns("bp", "1981-10-01", "1985-06-28")) == 945


def test_unknown_currencies_are_refused() -> None:
    with pytest.raises(ValueError, match="currency: expected one of dm, bp, cd, dy, sf; got 'gold'"):
        log_returns("gold")


def test_every_file_has_a_name_and_a_source() -> None:
    folder = resources.files(observations)
    sources = folder.joinpath("SOURCES.md").read_text(encoding="utf-8")
    files = {entry.name for entry in folder.iterdir() if entry.name.endswith(".csv")}
    assert files == set(observations.FILES.values())
    assert all(f"`{name}`" in sources and f"`{file}`" in sources for name, file in observations.FILES.items())


def test_unknown_data_are_refused_by_name() -> None:
    assert observations.names() == ("hudson-bay", "boarding-school-flu", "exchange-rates")
    with pytest.raises(ValueError, match=r"name: expected one of hudson-bay, .*-flu, exchange-rates; got 'hudson'"):
        observations.load("hudson")
