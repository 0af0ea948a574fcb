"""Posteriors on disk: the same draws after loading, whatever they are made of, and nothing that could run."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import implicit_infer as ii
from implicit_estimators.networks import storage
from implicit_infer.games import Training
from implicit_infer.posteriors.density.ensemble import Ensemble
from implicit_infer.posteriors.density.flow import ConditionalDensity
from implicit_infer.posteriors.method import Method
from implicit_infer.posteriors.reference import ReferencePosterior, reference_posterior
from implicit_infer.posteriors.saving_graph import Reader, Writer
from implicit_simulators import Simulator
from implicit_simulators.benchmark import GaussianLinear, TwoMoons

SIMULATOR = GaussianLinear(2)
OBSERVED = [0.1, -0.2]

QUICK = ii.posteriors.EnsembleSampler(walkers=20, warmup=2, thin=1)
METHODS: dict[str, Any] = {
    "nre": lambda: ii.posteriors.NRE(epochs=1, hidden=(8,), sampler=QUICK),
    "gatsbi": lambda: ii.posteriors.GATSBI(training=Training(2, 1e-3, 1e-3)),
    "rejection-abc": ii.abc.RejectionABC,
    "rejection-abc, adjusted": lambda: ii.abc.RejectionABC(adjust="linear"),
    "smc-abc": ii.abc.SMCABC,
}


def asked(method: Method, simulator: Simulator = SIMULATOR) -> Any:
    return ii.infer(simulator, OBSERVED, method=method, budget=500, seed=100, progress=False)


@pytest.mark.parametrize("name", METHODS)
def test_a_loaded_posterior_draws_what_it_drew(name, tmp_path):
    posterior = asked(METHODS[name]())
    other = torch.tensor([0.3, 0.0])
    posterior.save(tmp_path / "posterior.safetensors")
    loaded = ii.load_posterior(tmp_path / "posterior.safetensors", GaussianLinear(2))
    assert type(loaded) is type(posterior)
    assert (loaded.method, loaded.simulations) == (posterior.method, posterior.simulations)
    assert loaded.figures == posterior.figures
    torch.testing.assert_close(loaded.observed, posterior.observed, rtol=0, atol=0)
    for x in (None, other):
        torch.testing.assert_close(loaded.sample((20,), x, seed=3), posterior.sample((20,), x, seed=3), rtol=0, atol=0)


def test_the_density_of_a_loaded_posterior_is_the_same(tmp_path):
    simulator = TwoMoons()
    posterior = ii.infer(simulator, "1", method=METHODS["nre"](), budget=300, seed=100, progress=False)
    posterior.save(tmp_path / "p")
    loaded = ii.load_posterior(tmp_path / "p", TwoMoons())
    theta = simulator.sample_prior(50, seed=0)
    torch.testing.assert_close(loaded.potential(theta), posterior.potential(theta), rtol=0, atol=0)


def test_fixed_draws_are_saved(tmp_path):
    posterior = reference_posterior(SIMULATOR, OBSERVED, seed=0, draws=100, progress=False)
    assert isinstance(posterior, ReferencePosterior)
    posterior.save(tmp_path / "p")
    loaded = ii.load_posterior(tmp_path / "p", SIMULATOR)
    torch.testing.assert_close(loaded.sample((50,), seed=1), posterior.sample((50,), seed=1), rtol=0, atol=0)


def written(value: Any, simulator: Simulator = SIMULATOR) -> Any:
    """A value after it was written and read."""
    writer = Writer(simulator)
    root = writer.write(value, "value")
    return Reader(simulator, writer.tensors, writer.objects).read(root)


@pytest.mark.parametrize("flow", ["nsf", "maf", "none"])
def test_flows_in_an_ensemble_are_rebuilt(flow):
    ensemble = Ensemble([ConditionalDensity(2, 3, flow=flow, seed=seed) for seed in range(2)])
    again = written(ensemble)
    c = torch.randn((9, 3), generator=torch.Generator().manual_seed(0))
    draws = [one.draw(c, torch.Generator().manual_seed(1), 2) for one in (ensemble, again)]
    torch.testing.assert_close(*draws, rtol=0, atol=0)
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in ensemble.named_parameters()]


def test_plain_values_come_back_as_what_they_were():
    value = {
        "numbers": [1, 2.5, float("inf"), True, None, "text"],
        (1, 2): {"set": {1, 2}, "size": torch.Size([3]), "slice": slice(1, None, 2)},
        "dtype": torch.float64,
        "device": torch.device("cpu"),
        "partial": functools.partial(nn.functional.softplus, beta=2.0),
    }
    again = written(value)
    function = again.pop("partial")
    assert function(torch.ones(())) == value.pop("partial")(torch.ones(()))
    assert again == value
    assert type(again[1, 2]["size"]) is torch.Size


def test_what_was_shared_is_shared_again():
    layer = nn.Linear(2, 2)
    first, second = written((nn.Sequential(layer), nn.Sequential(layer, layer)))
    assert first[0] is second[0] is second[1]
    assert second[0].weight.requires_grad
    first.eval()
    assert not written(first)[0].training


class Own(nn.Module):
    """A class that no file of ours may name."""

    def forward(self, x: Tensor) -> Tensor:
        return x


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Own(), r"value: .*Own cannot be saved without pickle"),
        ([nn.Sequential(Own())], r"value\[0\]\.0: .*Own cannot be saved"),
        (lambda x: x, r"<lambda> cannot be saved"),
        (torch.Generator(), "Generator cannot be saved"),
        (GaussianLinear(3), "GaussianLinear cannot be saved"),
        (torch.distributions.transforms.ExpTransform(), "expected the bijection of the prior's support"),
    ],
    ids=["own-module", "inside", "function", "generator", "simulator", "transform"],
)
def test_what_cannot_be_written_is_named_with_its_place(value, message):
    with pytest.raises(TypeError, match=message):
        Writer(SIMULATOR).write(value, "value")


def test_a_network_of_sbi_is_refused_and_the_file_not_begun(tmp_path):
    posterior = reference_posterior(SIMULATOR, OBSERVED, seed=0, draws=10, progress=False)
    assert posterior is not None
    posterior.figures["flow"] = type("Flow", (nn.Module,), {"__module__": "sbi.neural_nets.estimators"})()
    with pytest.raises(TypeError, match="sbi's networks are not rebuilt without pickle"):
        posterior.save(tmp_path / "p")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "builtins:eval",
        "subprocess:run",
        "torch.serialization:load",
        "implicit_infer.posteriors.saving:os.system",
        "implicit_infer.posteriors.saving_graph:importlib.import_module",
        "implicit_infer.posteriors.saving_graph:torch.load",
        "torch.nn.functional:torch.load",
        "torch.nn.functional:importlib.import_module",
        "implicit_simulators.adapters.command:CommandSimulator",
        "implicit_infer.posteriors.base:Simulator",
    ],
)
def test_a_file_cannot_name_what_acts(name):
    reader = Reader(SIMULATOR, {}, [{"class": name, "state": []}])
    for value in ({"$": "name", "of": name}, {"$": "object", "of": 0}):
        with pytest.raises(ValueError, match="path: expected names of"):
            reader.read(value)


def test_the_simulator_must_be_the_one_that_was_asked_about(tmp_path):
    path = tmp_path / "p"
    asked(ii.abc.RejectionABC()).save(path)
    with pytest.raises(ValueError, match="was saved with settings"):
        ii.load_posterior(path, GaussianLinear(2, noise_variance=0.2))
    with pytest.raises(ValueError, match="was saved with class"):
        ii.load_posterior(path, TwoMoons())
    shifted = GaussianLinear(2)
    shifted.prior = torch.distributions.Independent(torch.distributions.Normal(torch.ones(2), torch.ones(2)), 1)
    with pytest.raises(ValueError, match="was saved with prior"):
        ii.load_posterior(path, shifted)
    with pytest.raises(TypeError, match="simulator: expected a Simulator"):
        ii.load_posterior(path, "gaussian-linear")
    with pytest.raises(FileNotFoundError):
        ii.load_posterior(tmp_path / "none", SIMULATOR)
    storage.save(path, "posterior", {"t0": torch.zeros(1)}, {"version": 99})
    with pytest.raises(ValueError, match="version 1; got 99"):
        ii.load_posterior(path, SIMULATOR)
    storage.save(path, "network", {"t0": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match="expected a saved posterior"):
        ii.load_posterior(path, SIMULATOR)
