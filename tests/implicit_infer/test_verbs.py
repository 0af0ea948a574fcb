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
    arrays = ii.estimate_ratio(p.numpy(), q.numpy(), method="logistic", seed=1, progress=False, **settings)
    given = ii.estimate_ratio(p, q, LogisticRatio(**settings), seed=1, progress=False)
    assert torch.equal(named.log_ratio(x), arrays.log_ratio(x))
    assert torch.equal(named.log_ratio(x), given.log_ratio(x))


def test_bad_ratio_questions_are_refused():
    from implicit_estimators.ratio.classifiers.logistic import LogisticRatio

    p, q = samples(0.0), samples(0.5)
    with pytest.raises(ValueError, match=r"method: expected one of .*; got 'logistik' \(did you mean 'logistic'\?\)"):
        ii.estimate_ratio(p, q, method="logistik")
    with pytest.raises(TypeError, match=r"settings: logistic has hidden, .*; got widths"):
        ii.estimate_ratio(p, q, method="logistic", widths=(8,))
    with pytest.raises(TypeError, match="settings: expected none beside a LogisticRatio; got hidden"):
        ii.estimate_ratio(p, q, LogisticRatio(), hidden=(8,))
    with pytest.raises(ValueError, match="device: 'abacus'"):
        ii.estimate_ratio(p, q, device="abacus")
    with pytest.raises(ValueError, match="3"):
        ii.estimate_ratio(p, torch.zeros(10, 3), progress=False)


QUICK = {"method": "logistic", "hidden": (8,), "epochs": 3, "progress": False}

SAMPLES = {
    "different widths": (samples(0), samples(0)[:, :1], "p, q: expected as many columns in both; got 2 and 1"),
    "one row": (samples(0), samples(0)[:1], "q: expected at least 2 rows; got 1"),
    "no rows": (samples(0)[:0], samples(0), "p: expected at least 2 rows; got 0"),
    "nan": (samples(0), torch.full((9, 2), torch.nan), "q: expected finite values; 9 of 9 rows hold NaN or infinity"),
    "infinite": (samples(0) / 0, samples(0), "p: expected finite values"),
    "three axes": (
        torch.zeros(4, 2, 2),
        samples(0),
        r"p: expected samples of shape \(n, d\) or \(n,\); got \(4, 2, 2\)",
    ),
    "words": (["a", "b"], samples(0), "p: expected real numbers; got dtype"),
    "nothing": (None, samples(0), "p: expected a tensor, an array or a frame; got NoneType"),
    "complex": (samples(0), samples(0) * 1j, "q: expected real numbers; got dtype torch.complex64"),
}


@pytest.mark.parametrize(("p", "q", "message"), SAMPLES.values(), ids=SAMPLES)
def test_samples_without_a_ratio_are_refused_in_one_sentence(p, q, message):
    with pytest.raises((ValueError, TypeError), match=message) as refused:
        ii.estimate_ratio(p, q, **QUICK)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("kind", ["integers", "booleans", "float64", "one axis", "constant column", "list"])
def test_samples_of_every_kind_work_as_expected(kind):
    p, q = samples(0.0), samples(1.0)
    p, q = {
        "integers": lambda: (p.round().long(), q.round().long()),
        "booleans": lambda: (p > 0.5, q > 0.5),
        "float64": lambda: (p.double(), q.double()),
        "one axis": lambda: (p[:, 0], q[:, 0]),
        "constant column": lambda: (torch.cat([p, 0 * p + 7], 1), torch.cat([q, 0 * q + 7], 1)),
        "list": lambda: (p.tolist(), q.tolist()),
    }[kind]()
    ratio = ii.estimate_ratio(p, q, **QUICK | {"epochs": 20, "learning_rate": 1e-2})
    assert ratio.log_ratio(p).shape == (400,)
    assert ratio.log_ratio(p).mean() > 0.1 > -0.1 > ratio.log_ratio(q).mean()
    assert ratio.weights(q).shape == (400,)


def test_samples_that_are_no_two_sets_are_said_to_be(caplog):
    p = samples(0.0)
    ratio = ii.estimate_ratio(p, p.flip(0), **QUICK)
    assert "p, q: 400 of 400 rows of p are in q as well" in caplog.text
    assert ratio.log_ratio(p).abs().mean() < 0.5
    caplog.clear()
    ii.estimate_ratio(p, samples(0.1), **QUICK)
    ii.estimate_ratio((p > 0).long(), (p > 0).long(), **QUICK)  # discrete rows repeat in good samples, too
    assert not caplog.text


def test_separable_samples_are_said_to_be():
    ratio = ii.estimate_ratio(samples(0.0), samples(50.0), **QUICK | {"epochs": 40, "learning_rate": 1e-2})
    found = ratio.check(samples(0.0, 300), samples(50.0, 300))
    assert not found.trusted
    assert any("telescoping" in note for note in found.notes)


def test_a_condition_makes_it_conditional(tmp_path):
    draw = torch.Generator().manual_seed(0)
    c, noise = torch.randn(2, 1000, 1, generator=draw)
    options = QUICK | {"epochs": 20, "learning_rate": 1e-2}
    for q, condition in ((None, c), (noise, (c, c))):
        ratio = ii.estimate_ratio(c + noise, q, condition=condition, seed=0, **options)
        near, far = ratio.log_ratio([2.0, -2.0], [1.5])
        assert near > 0 > far
        ratio.save(tmp_path / "ratio.safetensors")
        assert torch.equal(ii.load_ratio(tmp_path / "ratio.safetensors").log_ratio(c, c), ratio.log_ratio(c, c))


def test_any_saved_ratio_is_loaded(tmp_path):
    from implicit_estimators.networks import storage

    ratio = ii.estimate_ratio(samples(0.0), samples(0.5), seed=0, **QUICK)
    path = tmp_path / "ratio.safetensors"
    ratio.save(path)
    again = ii.load_ratio(path)
    assert type(again) is type(ratio)
    assert again.divergence("kl") == ratio.divergence("kl")
    storage.save(path, "critic", {"x": torch.zeros(1)}, {})
    with pytest.raises(ValueError, match=r"path: expected a saved ratio; .* holds a critic"):
        ii.load_ratio(path)
    with pytest.raises(FileNotFoundError, match="path: no file"):
        ii.load_ratio(tmp_path / "none.safetensors")
    path.write_text("no")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        ii.load_ratio(path)


def test_mutual_information_and_the_two_sample_test_take_names():
    x, y = samples(0.0, 1500).T
    options = QUICK | {"hidden": (32,), "epochs": 30, "learning_rate": 1e-2, "batch_size": 128}
    found = ii.mutual_information(x, x + y, seed=0, **options)
    # correlation 1/sqrt(2); a small network learns most of it, and a bound is not exceeded
    assert 0.2 < found < 0.5 * 0.6931 + 4 * found.standard_error
    assert found.ratio.width == 2
    tested = ii.two_sample_test(x, y + 1, permutations=99, seed=0, **options)
    assert tested.p_value == 0.01
    with pytest.raises(ValueError, match="permutations: expected an int of at least 1; got 0"):
        ii.two_sample_test(x, y, permutations=0)
    with pytest.raises(ValueError, match="x, y: expected as many rows"):
        ii.mutual_information(x, y[:-1], **options)


@pytest.mark.parametrize("name", ["nwj", "donsker-varadhan", "smile"])
def test_bounds_on_kl_are_divergences_by_name(name):
    ratio = ii.estimate_ratio(samples(0.0), samples(0.5), seed=0, **QUICK)
    found = ratio.divergence(name)
    assert found.standard_error > 0
    # KL is 0.25; bounds lie below, up to chance and three epochs
    assert -1 < found < 0.25 + 4 * found.standard_error


def test_progress_has_a_rate(capsys):
    ii.estimate_ratio(samples(0.0), samples(0.5), seed=0, **QUICK | {"progress": True})
    said = capsys.readouterr().err
    assert "fitting the logistic ratio" in said
    assert "/s" in said
