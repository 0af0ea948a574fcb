"""The inception score: K for K separated modes, 1 for a classifier that knows nothing or a model of one class."""

import math

import pytest
import torch

from implicit_infer.diagnose import class_score


def test_separated_modes_count() -> None:
    """The Bayes classifier of K far modes gives K, up to the chance shares of classes in a part of 1,000 draws."""
    labels = torch.randint(0, 7, (10_000,), generator=torch.Generator().manual_seed(0))
    found = class_score(torch.nn.functional.one_hot(labels, 7).double().log())
    # the entropy of shares estimated from n draws is (K - 1) / 2n too small
    assert float(found) == pytest.approx(7 * math.exp(-6 / 2000), abs=4 * found.standard_error + 1e-6)


def test_nothing_known_and_one_class_score_one() -> None:
    assert class_score(torch.zeros(50, 4)) == pytest.approx(1)
    assert class_score(torch.tensor([[0.0, -torch.inf]]).expand(50, 2)) == pytest.approx(1)


def test_logits_will_do() -> None:
    logits = torch.randn(100, 3, generator=torch.Generator().manual_seed(0))
    assert class_score(logits + 5) == pytest.approx(float(class_score(logits.log_softmax(1))))


@pytest.mark.parametrize(
    ("logits", "match"),
    [
        (torch.zeros(5, 2), "n >= splits = 10"),
        (torch.full((20, 2), math.nan), "no NaN"),
        (torch.full((20, 2), -math.inf), "a finite entry"),
    ],
)
def test_bad_input_is_refused(logits, match) -> None:
    with pytest.raises(ValueError, match=match):
        class_score(logits)
