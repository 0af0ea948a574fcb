"""Samples in every form that users have them: taken as they are meant, or refused in one sentence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from implicit_estimators.inputs import as_pair, as_samples

TWO = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(TWO),
        TWO,
        TWO.astype(np.float16),
        TWO.astype(int),
        TWO.astype(np.uint8),
        TWO.astype(">f8"),
        TWO.astype(">i4"),
        TWO[::-1][::-1],
        TWO.tolist(),
        pd.DataFrame(TWO),
        pd.DataFrame({"a": [1, 3, 5], "b": [2.0, 4.0, 6.0]}),
        pd.DataFrame(TWO, dtype=object),
        pd.DataFrame(TWO.astype(int)).astype("Int64"),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}",
)
def test_what_is_taken(value: object) -> None:
    samples = as_samples(value, "x")
    assert samples.is_floating_point()
    assert samples.tolist() == TWO.tolist()


@pytest.mark.parametrize(
    "value", [[1, 0, 1], [True, False, True], pd.Series([1.0, 0.0, 1.0]), np.array([True, False, True])]
)
def test_columns_are_samples_of_width_one(value: object) -> None:
    assert as_samples(value, "x").tolist() == [[1], [0], [1]]


def test_precision_and_graphs_are_kept() -> None:
    assert as_samples(np.array([1.7e9 + 0.25]), "x").item() == 1.7e9 + 0.25
    assert as_samples(np.array([2**40 + 1]), "x").item() == 2**40 + 1
    assert as_samples(np.array([3], dtype=np.int64), "x").dtype == torch.float32
    x = torch.zeros(2, 1, requires_grad=True)
    assert as_samples(x, "x") is x


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, TypeError, "x: expected a tensor, an array or a frame; got NoneType"),
        ("text", TypeError, "x: expected a tensor, an array or a frame; got str"),
        ([["a", "b"]], TypeError, "x: expected real numbers; got dtype <U1"),
        (pd.DataFrame({"a": ["u", "v"]}), TypeError, "x: expected"),
        ([[1.0], [2.0, 3.0]], TypeError, "x: expected numbers in rows of one length; got a ragged sequence"),
        (np.array([1j]), TypeError, "x: expected real numbers; got dtype complex128"),
        (torch.zeros(2, dtype=torch.complex64), TypeError, "x: expected real numbers; got dtype torch.complex64"),
        (torch.zeros(2, 3, 4), ValueError, r"x: expected samples of shape \(n, d\) or \(n,\); got \(2, 3, 4\)"),
        (torch.tensor(1.0), ValueError, r"x: expected samples of shape .*; got \(\)"),
        (torch.zeros(5, 0), ValueError, r"x: expected samples of shape .*; got \(5, 0\)"),
        (torch.zeros(0, 2), ValueError, "x: expected at least 1 row; got 0"),
        ([1.0, float("nan"), float("inf")], ValueError, "x: expected finite values; 2 of 3 rows hold NaN or infinity"),
    ],
)
def test_what_is_refused(value: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        as_samples(value, "x")


def test_pairs_agree_on_their_columns() -> None:
    with pytest.raises(ValueError, match="p, q: expected as many columns in both; got 2 and 1"):
        as_pair(TWO, TWO[:, 0])
    with pytest.raises(ValueError, match="q: expected at least 4 rows; got 3"):
        as_pair(np.vstack([TWO, TWO]), TWO, rows=4)
    with pytest.raises(ValueError, match="p: expected 3 columns; got 2"):
        as_pair(TWO, TWO, width=3)
    frame = pd.DataFrame(TWO, columns=["a", "b"])
    with pytest.raises(ValueError, match=r"same columns in order; got \['a', 'b'\], \['b', 'a'\]"):
        as_pair(frame, frame[["b", "a"]])
    p, q = as_pair(frame, TWO[:2])
    assert (p.shape, q.shape) == ((3, 2), (2, 2))
