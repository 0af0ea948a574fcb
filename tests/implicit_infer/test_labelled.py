"""Draws with names, tables, modes and pictures of posteriors whose moments are known."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

import implicit_infer as ii
from implicit_infer.posteriors.base import Posterior
from implicit_simulators import FunctionSimulator, Simulator, Stream
from implicit_simulators.benchmark import GaussianLinear

SIMULATOR = GaussianLinear(2)
OBSERVED = torch.tensor([0.1, -0.2])


class Exact(Posterior):
    """A posterior whose law is a distribution of torch's."""

    def __init__(self, simulator: Simulator, observed: Tensor, law: Any) -> None:
        super().__init__(simulator, observed, method="exact", simulations=7)
        self.law = law

    def _law(self, x: Tensor) -> Distribution:
        return self.law(x) if callable(self.law) else self.law

    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        with stream.forked():
            return torch.stack([self._law(one).sample((n,)) for one in x], 1)

    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        return self._law(x).log_prob(theta)


POSTERIOR = Exact(SIMULATOR, OBSERVED, SIMULATOR.posterior)


def test_the_tree_has_arviz_groups_dimensions_and_attributes():
    tree = POSTERIOR.to_xarray(draws=50, chains=3, seed=1)
    assert set(tree.children) == {"posterior", "sample_stats", "observed_data"}
    draws = tree["posterior"]
    assert set(draws.data_vars) == {"theta_1", "theta_2"}
    assert draws["theta_1"].dims == ("chain", "draw")
    assert dict(draws.sizes) == {"chain": 3, "draw": 50}
    assert draws["chain"].values.tolist() == [0, 1, 2]
    assert {"created_at", "inference_library", "inference_library_version"} <= set(draws.attrs)
    assert (draws.attrs["method"], draws.attrs["simulations"]) == ("exact", 7)
    assert json.loads(draws.attrs["observation"]) == OBSERVED.tolist()
    np.testing.assert_array_equal(tree["observed_data"]["x"].values, OBSERVED.numpy())
    flat = torch.as_tensor(np.stack([draws[name].values for name in POSTERIOR.parameter_names], -1)).reshape(-1, 2)
    torch.testing.assert_close(flat, POSTERIOR.sample((150,), seed=1), rtol=0, atol=0)
    density = torch.as_tensor(tree["sample_stats"]["lp"].values).reshape(-1)
    torch.testing.assert_close(density, POSTERIOR.log_prob(flat))


def test_a_posterior_without_a_density_has_no_statistics_of_its_draws():
    posterior = ii.infer(SIMULATOR, OBSERVED, method="rejection-abc", budget=200, seed=100, progress=False)
    assert set(posterior.to_xarray(draws=10).children) == {"posterior", "observed_data"}


def test_the_tree_goes_to_disk_and_back(tmp_path):
    import xarray as xr

    tree = POSTERIOR.to_xarray(draws=10)
    tree.to_zarr(tmp_path / "draws.zarr", consolidated=False)
    again = xr.open_datatree(tmp_path / "draws.zarr", engine="zarr", consolidated=False)
    xr.testing.assert_equal(again["posterior"].to_dataset(), tree["posterior"].to_dataset())


def test_the_times_of_a_series_are_its_coordinates():
    simulator = GaussianLinear(2)
    simulator.event_times = (0.5, 1.5)
    tree = Exact(simulator, OBSERVED, simulator.posterior).to_xarray(draws=5)
    assert tree["observed_data"]["x_dim_0"].values.tolist() == [0.5, 1.5]


def test_the_summary_holds_the_moments():
    n = 4000
    table = POSTERIOR.summary(draws=n, seed=2)
    law = SIMULATOR.posterior(OBSERVED)
    assert table.index.tolist() == ["theta_1", "theta_2"]
    sd = law.stddev.numpy()
    # four standard errors of a mean, of a standard deviation, and of a normal's 97.5 % quantile
    assert (abs(table["mean"] - law.mean.numpy()) < 4 * sd / n**0.5).all()
    assert (abs(table["sd"] - sd) < 4 * sd / (2 * n) ** 0.5).all()
    error = (0.975 * 0.025 / n) ** 0.5 / 0.0584 * sd
    assert (abs(table["97.5%"] - law.mean.numpy() - 1.96 * sd) < 4 * error).all()
    elsewhere = POSTERIOR.summary(draws=n, seed=2, x=[0.5, 0.5])["mean"]
    assert (abs(elsewhere - 0.25) < 4 * sd / n**0.5).all()


def test_the_mode_of_a_normal_is_its_mean():
    torch.testing.assert_close(POSTERIOR.map(), SIMULATOR.posterior(OBSERVED).mean, rtol=0, atol=1e-3)
    torch.testing.assert_close(POSTERIOR.map([0.5, 0.5]), torch.full((2,), 0.25), rtol=0, atol=1e-3)


def test_of_several_modes_the_highest_is_found():
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    parts = MultivariateNormal(means, 0.01 * torch.eye(2))
    law = MixtureSameFamily(Categorical(torch.tensor([0.3, 0.4, 0.3])), parts)
    torch.testing.assert_close(Exact(SIMULATOR, OBSERVED, law).map(), means[1], rtol=0, atol=2e-3)


def test_a_mode_at_the_edge_is_found_inside_the_prior():
    simulator = FunctionSimulator(lambda theta: theta, ([0.0], [1.0]), event_shape=(1,), array="torch")
    law = torch.distributions.Independent(
        torch.distributions.Beta(torch.tensor([1.0]), torch.tensor([4.0]), validate_args=False), 1
    )
    mode = Exact(simulator, torch.tensor([0.5]), law).map()
    assert 0 <= float(mode) < 1e-3


def test_where_there_is_no_density_there_is_no_mode():
    posterior = ii.infer(SIMULATOR, OBSERVED, method="rejection-abc", budget=200, seed=100, progress=False)
    with pytest.raises(NotImplementedError):
        posterior.map()


def test_the_picture_is_a_file_by_itself(tmp_path):
    path = POSTERIOR.plot(tmp_path / "posterior.svg", draws=300)
    root = ET.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    text = path.read_text()
    assert "var(" not in text
    assert "theta" in text or "θ" in text
    with pytest.raises(ValueError, match=r"ends in \.svg; got posterior\.png"):
        POSTERIOR.plot(tmp_path / "posterior.png")
