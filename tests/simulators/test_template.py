"""What stands in a command's places, and what a program prints, arrives as it was."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from implicit_simulators.adapters.printed import from_csv, from_json
from implicit_simulators.adapters.template import Template

FINITE = st.floats(allow_nan=False, allow_infinity=False)


@given(FINITE, st.integers(0, 2**31 - 1))
def test_numbers_are_written_with_all_their_digits(value: float, seed: int) -> None:
    words = Template(["model", "--rate={rate}", "{seed}"], ["rate"]).fill({"rate": value, "seed": seed})
    assert words[0] == "model"
    assert float(words[1].removeprefix("--rate=")) == value
    assert int(words[2]) == seed


@given(st.lists(st.text(st.characters(exclude_characters="{}")), min_size=1))
def test_words_without_places_are_left_as_they_are(words: list[str]) -> None:
    assert Template(words, ["rate"]).fill({}) == words


@given(st.from_regex(r"[A-Za-z_]\w*", fullmatch=True))
def test_any_name_can_be_written_in_braces(name: str) -> None:
    template = Template([f"awk '{{{{{name}}}}}'"], ["rate"])
    assert template.places == frozenset()
    assert template.fill({}) == [f"awk '{{{name}}}'"]


@given(arrays.arrays(np.float64, arrays.array_shapes(min_dims=1, max_dims=3, max_side=4), elements=FINITE))
def test_json_comes_back_as_it_was(x: np.ndarray) -> None:
    np.testing.assert_array_equal(from_json(json.dumps(x.tolist())), x)


@given(
    arrays.arrays(np.float64, st.tuples(st.integers(2, 5), st.integers(2, 5)), elements=FINITE), st.sampled_from(", ")
)
def test_tables_come_back_as_they_were(x: np.ndarray, separator: str) -> None:
    text = "\n".join(separator.join(map(repr, row)) for row in x.tolist())
    np.testing.assert_array_equal(from_csv(text), x)
    if separator == ",":
        np.testing.assert_array_equal(from_csv("a,b\n" + text), x)
