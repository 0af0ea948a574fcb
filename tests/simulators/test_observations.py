"""The data that ship with the package, and what is said of them."""

from __future__ import annotations

from importlib import resources

import pytest

from implicit_simulators import observations


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


def test_every_file_has_a_name_and_a_source() -> None:
    folder = resources.files(observations)
    sources = folder.joinpath("SOURCES.md").read_text(encoding="utf-8")
    files = {entry.name for entry in folder.iterdir() if entry.name.endswith(".csv")}
    assert files == set(observations.FILES.values())
    assert all(f"`{name}`" in sources and f"`{file}`" in sources for name, file in observations.FILES.items())


def test_unknown_data_are_refused_by_name() -> None:
    assert observations.names() == ("hudson-bay", "boarding-school-flu")
    with pytest.raises(ValueError, match="name: expected one of hudson-bay, boarding-school-flu; got 'hudson'"):
        observations.load("hudson")
