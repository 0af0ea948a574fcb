"""Times and states of work as a reader sees them."""

import pytest

from implicit_infer.compare.words import clock, duration, work_in_words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0421, "0.042 s"),
        (9.9, "9.9 s"),
        (9.97, "10 s"),
        (59.6, "1 min 0 s"),
        (185, "3 min 5 s"),
        (3599.7, "1 h 0 min"),
        (7265, "2 h 1 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3661, "1:01:01")])
def test_clocks(seconds, text):
    assert clock(seconds) == text


def test_work():
    state = {"name": "training nre", "total": 2000, "done": 61, "figures": {"loss": 0.21312}}
    assert work_in_words(state) == "training nre 61/2,000  loss 0.2131"
    assert work_in_words({**state, "total": None, "figures": {}}) == "training nre 61"
    assert work_in_words({}) == ""
