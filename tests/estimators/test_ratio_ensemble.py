"""The ensemble: its mean errs less than its members, its spread tells where, and every row is judged by an outsider."""

from __future__ import annotations

import math

import pytest
import torch

from implicit_estimators.ratio import EnsembleRatio, LogisticRatio
from implicit_estimators.ratio_losses import BrierLoss, LogLoss

QUICK = {"hidden": (16,), "epochs": 5}
SMALL = {"hidden": (32,), "epochs": 40, "patience": 5, "batch_size": 256, "learning_rate": 1e-2}
"""A network that has learned problem a in a second."""


@pytest.fixture(scope="module")
def fitted(plane_of_module) -> EnsembleRatio:
    """Problem a, which several tests look at."""
    return EnsembleRatio(**SMALL).fit(*plane_of_module.samples(2000, 2000, 0), seed=0)


def rmse(values: torch.Tensor, truth: torch.Tensor) -> float:
    return float((values - truth).square().mean().sqrt())


def test_the_mean_errs_less_than_the_members(fitted, plane) -> None:
    """By Jensen no more than their mean squared error, at any samples; how much less was measured: 5 to 15 %."""
    for side in plane.samples(5000, 5000, 1):
        truth = plane.log_ratio(side)
        each = [rmse(values, truth) for values in fitted.members(side)]
        assert rmse(fitted.log_ratio(side), truth) < 0.99 * math.sqrt(sum(error**2 for error in each) / len(each))
        assert float((fitted.log_ratio(side) - truth).abs().mean()) < 0.2  # measured .10 to .14 at n = 2000


def test_the_spread_is_that_of_the_members_and_grows_away_from_the_samples(fitted, plane) -> None:
    x = plane.samples(1000, 1000, 1)[0]
    members = fitted.members(x)
    assert members.shape == (5, 1000)
    assert torch.allclose(fitted.log_ratio(x), members.mean(0), atol=1e-6)
    assert torch.allclose(fitted.spread(x), members.std(0))
    near, far = fitted.spread([[0.5, 0.0], [12.0, -12.0]])
    assert far > 5 * near
    assert fitted.spread(x[:0]).shape == (0,)


def test_every_row_is_judged_by_a_network_that_held_it_out(fitted, plane) -> None:
    p, q = plane.samples(2000, 2000, 0)
    judged = fitted.held_out_log_ratio
    assert judged is not None
    for samples, side, values in zip((p, q), fitted.held_out, judged, strict=True):
        assert torch.equal(side, samples)
        members = fitted.members(samples)
        # five networks, five folds: each value is one network's, and each network has its fifth
        owner = (members - values).abs().argmin(0)
        assert torch.allclose(members.gather(0, owner[None])[0], values, atol=1e-5)
        assert owner.bincount(minlength=5).tolist() == pytest.approx([400] * 5, abs=8)  # ties of equal values
    assert fitted.check().n_p == 2000
    assert fitted.check().trusted, str(fitted.check())


@pytest.mark.parametrize(("networks", "share"), [(2, 0.4), (7, 1.0)])
def test_rows_that_no_network_held_out_are_not_judged(plane, networks: int, share: float) -> None:
    p, q = plane.samples(200, 100, 0)
    ratio = EnsembleRatio(networks, **QUICK).fit(p, q, seed=0)
    assert [len(side) for side in ratio.held_out] == [200 * share, 100 * share]
    assert [len(side) for side in ratio.held_out_log_ratio or ()] == [200 * share, 100 * share]
    assert ratio.members(p).shape == (networks, 200)
    assert len(ratio.histories) == networks


@pytest.mark.parametrize("loss", ["brier", "hellinger"])
def test_other_losses(plane, loss: str) -> None:
    p, q = plane.samples(1000, 3000, 0)
    ratio = EnsembleRatio(3, loss=loss, **SMALL).fit(p, q, seed=0)
    for side in plane.samples(3000, 3000, 1):  # a single network of .35 at n = 1000 is what others reach
        assert float((ratio.log_ratio(side) - plane.log_ratio(side)).abs().mean()) < 0.35


def test_members_are_as_good_as_one_network_alone(plane) -> None:
    """Within the spread of seeds (20 %), so that the batched program is no worse a training."""
    p, q = plane.samples(1000, 1000, 0)
    alone = LogisticRatio(**SMALL).fit(p, q, seed=0)
    ratio = EnsembleRatio(networks=3, **SMALL).fit(p, q, seed=0)
    x, truth = (side := plane.samples(5000, 5000, 1)[1]), plane.log_ratio(side)
    mean = sum(rmse(values, truth) for values in ratio.members(x)) / 3
    assert mean < 1.2 * rmse(alone.log_ratio(x), truth)


def test_gradients_and_files(fitted, tmp_path) -> None:
    x = torch.tensor([[0.3, -0.5]], requires_grad=True)
    (slope,) = torch.autograd.grad(fitted.spread(x).sum(), x)
    assert slope.abs().sum() > 0
    fitted.save(tmp_path / "ratio.safetensors")
    again = EnsembleRatio.load(tmp_path / "ratio.safetensors")
    assert torch.equal(again.members(x.detach()), fitted.members(x.detach()))
    with pytest.raises(TypeError, match="only named losses can be saved"):
        EnsembleRatio(loss=BrierLoss(), **QUICK).fit(*2 * [torch.randn(20, 1)], seed=0).save(tmp_path / "no")


@pytest.mark.parametrize("standardise", ["robust", "ranks"])
def test_other_standardisations_survive_a_file(plane, tmp_path, standardise: str) -> None:
    p, q = plane.samples(100, 100, 0)
    ratio = EnsembleRatio(2, standardise=standardise, **QUICK).fit(p, q, seed=0)
    ratio.save(tmp_path / "ratio.safetensors")
    assert torch.equal(EnsembleRatio.load(tmp_path / "ratio.safetensors").log_ratio(p), ratio.log_ratio(p))


def test_settings_out_of_range_are_refused() -> None:
    class Whole(LogLoss):
        def loss(self, output_p, output_q, weights_p=None, weights_q=None):
            return output_q.logsumexp(0) - output_p.mean()

    for bad, message in [
        ({"networks": 1}, "networks: expected at least 2; got 1"),
        ({"hidden": (0,)}, "hidden: expected positive widths"),
        ({"activation": "cube"}, "activation: expected one of"),
        ({"standardise": "rank"}, "standardise: expected one of moments, robust, ranks; got 'rank'"),
        ({"loss": "tv"}, "the ratio p/q"),
        ({"loss": Whole()}, "loss: expected a mean over the samples of p and of q"),
    ]:
        with pytest.raises(ValueError, match=message):
            EnsembleRatio(**bad)
    with pytest.raises(RuntimeError, match="call fit"):
        EnsembleRatio().spread(torch.zeros(1, 1))
