"""Real data that ships with the package; ``SOURCES.md`` beside the files says where each comes from."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

FILES = {
    "hudson-bay": "hudson_bay.csv",
    "boarding-school-flu": "boarding_school_flu.csv",
    "exchange-rates": "exchange_rates.csv",
}
"""Name of each data set, and its file in this folder."""


def names() -> tuple[str, ...]:
    """The data sets there are."""
    return tuple(FILES)


def load(name: str) -> pd.DataFrame:
    """The data set ``name`` as a frame, as it was published.

    Args:
        name: ``"hudson-bay"``: year, and thousands of pelts of lynx and of hare, 1900-1920. ``"boarding-school-flu"``:
            date, and boys in bed and convalescent, 22 January to 4 February 1978. ``"exchange-rates"``: date, and US
            dollars for one Deutsche Mark, pound, Canadian dollar, yen and Swiss franc, 2 January 1980 to 21 May 1987
            (their returns: :func:`implicit_simulators.observations.exchange_rates.log_returns`).

    Raises:
        ValueError: If there is none of that name.

    Example:
        >>> load("hudson-bay").columns.tolist()
        ['year', 'lynx', 'hare']
    """
    if name not in FILES:
        raise ValueError(f"name: expected one of {', '.join(FILES)}; got {name!r}")
    import pandas as pd

    with resources.files(__name__).joinpath(FILES[name]).open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    return frame.assign(date=pd.to_datetime(frame["date"])) if "date" in frame else frame
