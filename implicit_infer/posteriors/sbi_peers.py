r"""The methods of sbi beside ours: its trainers, its networks and its samplers, at its own defaults.

Four of them, so that a comparison has the field's standard implementation in it: NPE and FMPE learn the posterior,
NLE the likelihood and NRE its ratio to the evidence; the last two are sampled by sbi's vectorised slice sampler.

sbi sees standardised summaries s and parameters in unconstrained space, so that no mass leaks outside the prior and no
draw needs rejecting. Posteriors are learned of v, which a linear regression on s has been taken out of
(:mod:`implicit_infer.posteriors.coordinates`); a likelihood or a ratio needs parameters that know nothing of x, and is
learned of the unconstrained u with the prior's density there.

References:
    | sbi reloaded: a toolkit for simulation-based inference workflows (Boelts et al., 2025)
    | https://doi.org/10.21105/joss.07754
    | Automatic posterior transformation for likelihood-free inference (Greenberg et al., 2019), NPE
    | https://arxiv.org/abs/1905.07488
    | Sequential neural likelihood (Papamakarios, Sterratt & Murray, 2019), NLE
    | https://arxiv.org/abs/1805.07226
    | On contrastive learning for likelihood-free inference (Durkan, Murray & Papamakarios, 2020), NRE
    | https://arxiv.org/abs/2002.03712
    | Flow matching for scalable simulation-based inference (Wildberger et al., 2023), FMPE
    | https://arxiv.org/abs/2305.17161
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, constraints

from implicit_estimators.networks.sources import Windowed
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.training_rows import coordinates_of, head, training_rows
from implicit_infer.progress import Bar, track
from implicit_simulators import Stream

SHOWN = 1000
"""Rows that sbi is shown of simulations on disk."""

FOREVER = 2**31 - 1
"""sbi's largest number of epochs: patience alone ends its training."""


@dataclass(frozen=True)
class SbiMethod(Method):
    """What the four share: the loop, with sbi's defaults.

    To add one, copy a child: its name, which trainer of ``sbi.inference`` it is, and the trainer's own settings.

    Args:
        batch_size: Rows of a batch.
        learning_rate: Adam's step size.
        patience: Epochs without a better validation loss before training stops (sbi's ``stop_after_epochs``).
        epochs: Most epochs to train; None for no limit, as in sbi.
        validation: Share of the simulations held out.
    """

    batch_size: int = 200
    learning_rate: float = 5e-4
    patience: int = 20
    epochs: int | None = None
    validation: float = 0.1

    trainer: ClassVar[str]
    regressed: ClassVar[bool]
    density: ClassVar[dict[str, Any]] = {}
    """Arguments of the ``log_prob`` of its posterior."""

    def build(self) -> dict[str, Any]:
        """Arguments of sbi's trainer besides the common ones."""
        raise NotImplementedError(f"{type(self).__name__} must write build()")

    def train_settings(self) -> dict[str, Any]:
        """Arguments of its ``train`` besides the common ones."""
        return {}

    def sampler(self) -> dict[str, Any]:
        """Arguments of its ``build_posterior``."""
        return {}

    def infer(self, question: Question) -> SbiPosterior:
        """Train on ``question.budget`` simulations from the prior."""
        runs = question.runs()
        coordinates = coordinates_of(question.simulator, runs)

        def rows(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            u, s = coordinates.transform.inv(theta), coordinates.summaries(x)
            return (coordinates.free(u, s) if self.regressed else u), s

        data = training_rows(runs, rows, question.device)
        # on disk, sbi is shown the first rows, of which it takes the shapes
        parameters, s = data if isinstance(data, tuple) else rows(*head(runs, SHOWN))
        simulations = len(parameters) if isinstance(data, tuple) else len(data)
        with (
            track(f"training {self.name}", total=self.epochs, show=question.progress) as bar,
            _seeded(Stream.of(question.seed, role="train")),
            _quiet(),
        ):
            source = None if isinstance(data, tuple) else data
            trainer = _trainer(self.trainer, bar, source, device=question.device, **self.build())
            trainer.append_simulations(parameters, s, exclude_invalid_x=False)
            estimator = trainer.train(
                training_batch_size=min(self.batch_size, simulations),
                learning_rate=self.learning_rate,
                validation_fraction=self.validation,
                stop_after_epochs=self.patience,
                max_num_epochs=self.epochs or FOREVER,
                show_train_summary=False,
                **self.train_settings(),
            )
            prior = _everywhere(coordinates) if self.regressed else FreePrior(coordinates)
            posterior = trainer.build_posterior(estimator.cpu().eval(), prior=prior, **self.sampler())
        losses = trainer.summary["validation_loss"]
        return SbiPosterior(
            question.simulator,
            question.observed,
            coordinates=coordinates,
            posterior=posterior,
            regressed=self.regressed,
            density=self.density,
            method=self.name,
            simulations=len(runs),
            figures={
                "failed_simulations": int(runs.failed.sum()),
                "epochs": len(losses),
                "validation_loss": float(min(losses)),
            },
        )


@dataclass(frozen=True)
class SbiNPE(SbiMethod):
    """Neural posterior estimation by sbi.

    Args:
        density_estimator: A flow of ``sbi.neural_nets.posterior_nn``: "maf", "nsf", "zuko_nsf", ...
        hidden: Width of the flow's networks.
        transforms: Number of transforms.
        batch_size: Rows of a batch.
        learning_rate: Adam's step size.
        patience: Epochs without a better validation loss before training stops.
        epochs: Most epochs to train, or None.
        validation: Share of the simulations held out.
    """

    density_estimator: str = "maf"
    hidden: int = 50
    transforms: int = 5

    name = "sbi-npe"
    trainer = "NPE"
    regressed = True
    density: ClassVar[dict[str, Any]] = {"norm_posterior": False}
    """Nothing leaks in all of R^d, so sbi need not estimate how much does."""

    def build(self) -> dict[str, Any]:
        """The flow; what it sees is standardised already."""
        from sbi.neural_nets import posterior_nn

        flow = posterior_nn(
            self.density_estimator,
            z_score_theta="none",
            z_score_x="none",
            hidden_features=self.hidden,
            num_transforms=self.transforms,
        )
        return {"density_estimator": flow}


@dataclass(frozen=True)
class SbiFMPE(SbiMethod):
    """Flow matching posterior estimation by sbi.

    Args:
        network: A vector field of sbi: "mlp", "ada_mlp", "transformer", ...
        batch_size: Rows of a batch.
        learning_rate: Adam's step size.
        patience: Epochs without a better validation loss before training stops.
        epochs: Most epochs to train, or None.
        validation: Share of the simulations held out.
    """

    network: str = "mlp"

    name = "sbi-fmpe"
    trainer = "FMPE"
    regressed = True

    def build(self) -> dict[str, Any]:
        """The vector field."""
        return {"vf_estimator": self.network}


@dataclass(frozen=True)
class SbiSliced(SbiMethod):
    """Those of the four that sbi samples by Markov chains, as it does by default.

    Args:
        chains: Chains for each observation.
        warmup: Sweeps of each chain before anything is kept.
    """

    chains: int = 20
    warmup: int = 200

    regressed = False

    def sampler(self) -> dict[str, Any]:
        """Sbi's vectorised slice sampler."""
        return {"sample_with": "mcmc", "mcmc_parameters": {"num_chains": self.chains, "warmup_steps": self.warmup}}


@dataclass(frozen=True)
class SbiNLE(SbiSliced):
    """Neural likelihood estimation by sbi, sampled by its slice sampler.

    Args:
        density_estimator: A flow of ``sbi.neural_nets.likelihood_nn``: "maf", "nsf", ...
        batch_size: Rows of a batch.
        learning_rate: Adam's step size.
        patience: Epochs without a better validation loss before training stops.
        epochs: Most epochs to train, or None.
        validation: Share of the simulations held out.
        chains: Chains for each observation.
        warmup: Sweeps of each chain before anything is kept.
    """

    density_estimator: str = "maf"

    name = "sbi-nle"
    trainer = "NLE"

    def build(self) -> dict[str, Any]:
        """The flow of the data."""
        return {"density_estimator": self.density_estimator}


@dataclass(frozen=True)
class SbiNRE(SbiSliced):
    """Neural ratio estimation by sbi (NRE-B), sampled by its slice sampler.

    Args:
        classifier: A network of ``sbi.neural_nets.classifier_nn``: "resnet", "mlp", "linear".
        contrasts: Parameters that compete for each x (sbi's ``num_atoms``).
        batch_size: Rows of a batch.
        learning_rate: Adam's step size.
        patience: Epochs without a better validation loss before training stops.
        epochs: Most epochs to train, or None.
        validation: Share of the simulations held out.
        chains: Chains for each observation.
        warmup: Sweeps of each chain before anything is kept.
    """

    classifier: str = "resnet"
    contrasts: int = 10

    name = "sbi-nre"
    trainer = "NRE"

    def build(self) -> dict[str, Any]:
        """The classifier."""
        return {"classifier": self.classifier}

    def train_settings(self) -> dict[str, Any]:
        """How many compete."""
        return {"num_atoms": self.contrasts}


class SbiPosterior(Posterior):
    """A posterior of sbi's in unconstrained coordinates; amortised over x. NLE and NRE have an unnormalised density."""

    def __init__(
        self,
        *args: Any,
        coordinates: Coordinates,
        posterior: Any,
        regressed: bool,
        density: dict[str, Any],
        **about: Any,
    ) -> None:
        super().__init__(*args, **about)
        self.coordinates = coordinates
        self.posterior = posterior
        self.regressed = regressed
        self.density = density

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        s = self.coordinates.summaries(x)
        if n == 0:
            return torch.empty(0, len(x), self.coordinates.parameters_dim)
        with _seeded(stream), _quiet():
            if len(s) == 1:
                free = self.posterior.sample((n,), x=s, show_progress_bars=progress)[:, None]
            else:
                free = self.posterior.sample_batched((n,), x=s, show_progress_bars=progress)
        draws = [
            self.coordinates.transform(
                self.coordinates.bound(free[:, i], given.expand(n, -1)) if self.regressed else free[:, i]
            )
            for i, given in enumerate(s)
        ]
        return torch.stack(draws, 1)

    @torch.no_grad()
    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        if not self.regressed:
            raise NotImplementedError(f"a {self.method} posterior has a potential but no normalised density")
        s = self.coordinates.summaries(x[None])
        inside, legal = self.coordinates.legal(theta)
        v = self.coordinates.free(self.coordinates.transform.inv(legal), s.expand(len(theta), -1))
        with _quiet():
            density = self.posterior.log_prob(v, x=s, **self.density) + self.coordinates.log_det(legal)
        return torch.where(inside, density, -torch.inf)

    @torch.no_grad()
    def _potential(self, theta: Tensor, x: Tensor) -> Tensor:
        if self.regressed:
            return self._log_prob(theta, x)
        inside, legal = self.coordinates.legal(theta)
        u = self.coordinates.transform.inv(legal)
        with _quiet():
            value = self.posterior.potential(u, x=self.coordinates.summaries(x[None]))
        density = value - self.coordinates.transform.log_abs_det_jacobian(u, legal)
        return torch.where(inside, density, -torch.inf)


class FreePrior(Distribution):
    """The prior of the unconstrained parameters u.

    Args:
        coordinates: Whose transform and prior.
    """

    support = constraints.independent(constraints.real, 1)
    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, coordinates: Coordinates) -> None:
        self.coordinates = coordinates
        super().__init__(event_shape=torch.Size([coordinates.parameters_dim]), validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws of u, from torch's global generator as all of torch's distributions."""
        return self.coordinates.transform.inv(self.coordinates.simulator.prior.sample(torch.Size(sample_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density of u, over the last axis."""
        return self.coordinates.log_prior(value)


def _everywhere(coordinates: Coordinates) -> Distribution:
    """A law on all of R^d: sbi asks the prior of a posterior flow for its support alone."""
    d = coordinates.parameters_dim
    return Independent(Normal(torch.zeros(d), torch.ones(d)), 1)


def _trainer(name: str, bar: Bar, source: Windowed | None, **settings: Any) -> Any:
    """Sbi's trainer, telling ``bar`` of every epoch and writing no log folder; from disk, if there is a ``source``."""
    import sbi.inference

    trainer: Any = getattr(sbi.inference, name)

    class Reporting(trainer):
        def _summarize_epoch(self, train_loss: float, val_loss: float, *rest: Any) -> None:
            super()._summarize_epoch(train_loss, val_loss, *rest)
            bar.update(loss=train_loss, validation=val_loss)

        def get_dataloaders(
            self, start: int = 0, batch_size: int = 200, validation: float = 0.1, *rest: Any, **options: Any
        ) -> tuple[Any, Any]:
            if source is None:
                return super().get_dataloaders(start, batch_size, validation, *rest, **options)
            # torch's own generator is ours here: it has been seeded
            seed = int(torch.randint(2**62, ()))
            self.train_indices = torch.arange(len(self.get_simulations(start)[0]))
            training, held_out = source.split(validation, seed)
            shuffler = torch.Generator().manual_seed(seed)
            return _Loader(training, batch_size, shuffler), _Loader(held_out, batch_size, None)

    return Reporting(None, tracker=_NoTracker(), show_progress_bars=False, **settings)


class _Loader:
    """What sbi iterates over, read from disk."""

    def __init__(self, source: Windowed, batch_size: int, shuffler: torch.Generator | None) -> None:
        self.source, self.shuffler = source, shuffler
        self.steps = max(1, len(source) // batch_size)
        self.batch_size = len(source) / self.steps  # sbi takes the mean of an epoch over steps times this

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Tensor]]:
        for parameters, s in self.source.batches(self.steps, self.shuffler):
            yield [parameters, s, torch.ones(len(s), 1, dtype=torch.bool, device=s.device)]


class _NoTracker:
    """sbi's tracker protocol, keeping nothing: its default writes TensorBoard files into the working directory."""

    log_dir = None

    def log_metric(self, name: str, value: float, step: int | None = None) -> None: ...
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None: ...
    def log_params(self, params: dict[str, Any]) -> None: ...
    def add_figure(self, name: str, figure: Any, step: int | None = None) -> None: ...
    def flush(self) -> None: ...


@contextlib.contextmanager
def _seeded(stream: Stream) -> Iterator[None]:
    """Torch's and NumPy's global generators seeded (sbi's slice sampler reads NumPy's), and put back after."""
    with stream.forked():
        state = np.random.get_state()  # noqa: NPY002 - sbi reads the global generator
        np.random.seed(stream.key % 2**32)  # noqa: NPY002 - likewise
        try:
            yield
        finally:
            np.random.set_state(state)  # noqa: NPY002 - likewise


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without sbi's prints and its warnings on z-scoring, which is ours here."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
