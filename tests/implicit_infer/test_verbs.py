"""The public face: lazy, and a bad question is refused in one sentence before anything runs."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.distributions import Normal

import implicit_infer as ii
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.method import Method
from implicit_simulators import Simulator
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear

HEAVY = ("sbi", "pyro", "numba", "matplotlib", "pandas", "sklearn", "scipy", "xarray", "zarr", "loky", "zuko", "rich")


class Never(Method):
    """A method that must not be reached."""

    name = "never"

    def infer(self, question):
        raise AssertionError("the question was bad and should have been refused")


class Echo(Method):
    """A method that returns its question."""

    name = "echo"

    def infer(self, question):
        return question


def test_import_is_light():
    code = (
        "import sys, implicit_infer as ii\n"
        "ii.infer, ii.compare, ii.methods(), ii.simulate\n"
        f"print(*[m for m in {HEAVY!r} if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


def test_verbs_stay_functions_when_modules_of_their_name_are_imported():
    code = (
        "import implicit_infer as ii, implicit_infer.compare, implicit_infer.simulate\n"
        "from implicit_infer.simulate import Runs\n"
        "assert callable(ii.simulate) and callable(ii.compare), (ii.simulate, ii.compare)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_everything_that_is_listed_is_there():
    assert set(ii.__all__) == set(dir(ii))
    for name in ii.__all__:
        assert getattr(ii, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'fitt'"):
        _ = ii.fitt


def test_infer_hands_over_a_checked_question():
    observed = np.zeros((1, 3))
    question = ii.infer(GaussianLinear(3), observed, method=Echo(), budget=np.int64(50), seed=7, progress=False)
    assert question.budget == 50
    assert question.seed == 7
    assert question.observed.shape == (3,)
    assert question.observed.dtype == torch.float32
    assert question.bank is None


class Shipped(GaussianLinear):
    def __init__(self, dim):
        super().__init__(dim)
        self.observations = ("zeros",)

    def _observation(self, name):
        return torch.zeros(self.dim)


def test_an_observation_can_be_named():
    assert torch.equal(ii.infer(Shipped(2), "zeros", method=Echo()).observed, torch.zeros(2))
    with pytest.raises(ValueError, match="ships zeros; got 'ones'"):
        ii.infer(Shipped(2), "ones", method=Echo())


class NoPrior(GaussianLinear):
    def __init__(self):
        super().__init__(2)
        self.prior = object()


class NarrowPrior(GaussianLinear):
    def __init__(self):
        super().__init__(2)
        self.prior = Normal(torch.zeros(3), 1.0)


BAD = {
    "unknown method": ({"method": "nree"}, ValueError, r"method: .* got 'nree' \(did you mean 'nre'\?\)"),
    "no method": ({"method": None}, TypeError, "method: expected a name or a Method"),
    "not a simulator": ({"simulator": lambda theta: theta}, TypeError, "FunctionSimulator"),
    "prior without sample": ({"simulator": NoPrior()}, TypeError, "prior: expected a distribution with a sample"),
    "prior of another shape": ({"simulator": NarrowPrior()}, ValueError, r"prior: .*\(n, 2\); .*gives \(2, 3\)"),
    "shape": ({"observed": torch.zeros(3)}, ValueError, r"observed: .* expects shape \(2,\); got \(3,\)"),
    "nan": ({"observed": [0.0, float("nan")]}, ValueError, "observed: expected finite values; 1 of 2"),
    "words": ({"observed": ["a", "b"]}, TypeError, "observed: expected numbers"),
    "budget 0": ({"budget": 0}, ValueError, "budget: expected an int of at least 1; got 0"),
    "budget -5": ({"budget": -5}, ValueError, "budget: .* got -5"),
    "budget 1e3": ({"budget": 1e3}, TypeError, "budget: expected an int; got float"),
    "budget True": ({"budget": True}, TypeError, "budget: expected an int; got bool"),
    "workers 0": ({"workers": 0}, ValueError, "workers: expected an int of at least 1; got 0"),
    "device": ({"device": "abacus"}, ValueError, "device: 'abacus' cannot be used here"),
    "seed": ({"seed": -1}, ValueError, "seed: expected a non-negative int"),
}


@pytest.mark.parametrize(("change", "error", "message"), BAD.values(), ids=BAD)
def test_a_bad_question_is_refused_before_anything_runs(change, error, message):
    good = {"simulator": GaussianLinear(2), "observed": torch.zeros(2), "method": Never(), "budget": 10}
    with pytest.raises(error, match=message) as refused:
        ii.infer(**{**good, **change})
    assert "\n" not in str(refused.value)


def test_a_scalar_prior_is_taken_for_one_parameter():
    class One(Simulator):
        name = "one"
        parameter_names = ("mu",)
        event_shape = torch.Size([1])
        prior = Normal(0.0, 1.0)

        def _simulate(self, theta, stream):
            return theta

    assert ii.infer(One(), [0.3], method=Echo()).simulator.dim == 1


def test_infer_returns_what_the_method_answers():
    class Exact(Method):
        name = "exact"

        def infer(self, question):
            return Posterior(question.simulator, question.observed, method=self.name, simulations=0)

    assert isinstance(ii.infer(GaussianLinear(2), torch.zeros(2), Exact(), 1), Posterior)


def samples(shift, n=400):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(int(10 * shift))) + shift


def test_estimate_ratio_by_name_by_default_and_by_estimator():
    from implicit_estimators.ratio.classifiers.logistic import LogisticRatio

    p, q, x = samples(0.0), samples(0.5), torch.zeros(1, 2)
    settings = {"hidden": (8,), "epochs": 3}
    named = ii.estimate_ratio(p, q, method="logistic", seed=1, progress=False, **settings)
    automatic = ii.estimate_ratio(p.numpy(), q.numpy(), seed=1, progress=False, **settings)
    given = ii.estimate_ratio(p, q, LogisticRatio(**settings), seed=1, progress=False)
    assert torch.equal(named.log_ratio(x), automatic.log_ratio(x))
    assert torch.equal(named.log_ratio(x), given.log_ratio(x))


def test_bad_ratio_questions_are_refused():
    from implicit_estimators.ratio.classifiers.logistic import LogisticRatio

    p, q = samples(0.0), samples(0.5)
    with pytest.raises(ValueError, match=r"method: expected one of .*; got 'logistik' \(did you mean 'logistic'\?\)"):
        ii.estimate_ratio(p, q, method="logistik")
    with pytest.raises(TypeError, match="settings: expected none beside a LogisticRatio; got hidden"):
        ii.estimate_ratio(p, q, LogisticRatio(), hidden=(8,))
    with pytest.raises(ValueError, match="device: 'abacus'"):
        ii.estimate_ratio(p, q, device="abacus")
    with pytest.raises(ValueError, match="3"):
        ii.estimate_ratio(p, torch.zeros(10, 3), progress=False)
