r"""NPE: a normalizing flow fitted to :math:`(\theta, x)` pairs, through sbi's trainer.

.. math:: \min_\phi \; -\mathbb{E}_{p(\theta) p(x \mid \theta)} [\log q_\phi(\theta \mid x)]

sbi sees standardised summaries and parameters in unconstrained coordinates, so that no mass leaks outside the prior
and no draw needs rejecting; the density of theta follows from the exact change of variables.

References:
    | Fast ε-free inference of simulation models (Papamakarios & Murray, 2016)
    | https://arxiv.org/abs/1605.06376
    | Automatic posterior transformation for likelihood-free inference (Greenberg et al., 2019)
    | https://arxiv.org/abs/1905.07488
    | sbi reloaded: a toolkit for simulation-based inference workflows (Boelts et al., 2025)
    | https://doi.org/10.21105/joss.07754
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from implicit_estimators.networks.sources import Windowed
from implicit_infer.posteriors.base import Posterior
from implicit_infer.posteriors.coordinates import Coordinates
from implicit_infer.posteriors.method import Method, Question
from implicit_infer.posteriors.training_rows import coordinates_of, head, training_rows
from implicit_infer.progress import Bar, track
from implicit_simulators import Stream

SHOWN = 1000
"""Rows that sbi is shown of simulations on disk."""


@dataclass(frozen=True)
class NPE(Method):
    """Neural posterior estimation by sbi; the settings are sbi's, with its defaults where not said otherwise.

    Args:
        density_estimator: A flow of ``sbi.neural_nets.posterior_nn``: "maf", "nsf", "zuko_nsf", ...
        hidden: Width of the flow's networks.
        transforms: Number of transforms.
        batch_size: Rows of a batch.
        learning_rate: Adam's step size.
        patience: Epochs without a better validation loss before training stops (sbi's ``stop_after_epochs``).
        epochs: Most epochs to train.
        validation: Share of the simulations held out.
    """

    density_estimator: str = "maf"
    hidden: int = 50
    transforms: int = 5
    batch_size: int = 200
    learning_rate: float = 5e-4
    patience: int = 20
    epochs: int = 200
    validation: float = 0.1

    name = "npe"

    def infer(self, question: Question) -> NPEPosterior:
        """Train on ``question.budget`` simulations from the prior."""
        from sbi.neural_nets import posterior_nn

        runs = question.runs()
        coordinates = coordinates_of(question.simulator, runs)

        def free(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            s = coordinates.summaries(x)
            return coordinates.free(coordinates.transform.inv(theta), s), s

        data = training_rows(runs, free, question.device)
        # on disk, sbi is shown the first rows, of which it takes the shapes
        v, s = data if isinstance(data, tuple) else free(*head(runs, SHOWN))
        simulations = len(v) if isinstance(data, tuple) else len(data)
        builder = posterior_nn(
            self.density_estimator,
            z_score_theta="none",
            z_score_x="none",
            hidden_features=self.hidden,
            num_transforms=self.transforms,
        )
        with (
            track("training npe", total=self.epochs, show=question.progress) as bar,
            Stream.of(question.seed, role="train").forked(),
            _quiet(),
        ):
            trainer = _trainer(bar, builder, question.device, None if isinstance(data, tuple) else data)
            trainer.append_simulations(v, s, exclude_invalid_x=False)
            flow = trainer.train(
                training_batch_size=min(self.batch_size, simulations),
                learning_rate=self.learning_rate,
                validation_fraction=self.validation,
                stop_after_epochs=self.patience,
                max_num_epochs=self.epochs,
                show_train_summary=False,
            )
        losses = trainer.summary["validation_loss"]
        return NPEPosterior(
            question.simulator,
            question.observed,
            coordinates=coordinates,
            flow=flow.cpu().eval(),
            method=self.name,
            simulations=len(runs),
            figures={
                "failed_simulations": int(runs.failed.sum()),
                "epochs": len(losses),
                "validation_loss": float(min(losses)),
            },
        )


class NPEPosterior(Posterior):
    """A flow over v given s, amortised over x, with a density."""

    def __init__(self, *args: Any, coordinates: Coordinates, flow: Any, **about: Any) -> None:
        super().__init__(*args, **about)
        self.coordinates = coordinates
        self.flow = flow

    @torch.no_grad()
    def _sample(self, n: int, x: Tensor, stream: Stream, progress: bool) -> Tensor:
        s = self.coordinates.summaries(x)
        with stream.forked():
            v = self.flow.sample((n,), condition=s)
        draws = [
            self.coordinates.transform(self.coordinates.bound(v[:, i], given.expand(n, -1)))
            for i, given in enumerate(s)
        ]
        return torch.stack(draws, 1)

    @torch.no_grad()
    def _log_prob(self, theta: Tensor, x: Tensor) -> Tensor:
        s = self.coordinates.summaries(x[None]).expand(len(theta), -1)
        inside, legal = self.coordinates.legal(theta)
        v = self.coordinates.free(self.coordinates.transform.inv(legal), s)
        density = self.flow.log_prob(v[None], condition=s)[0] + self.coordinates.log_det(legal)
        return torch.where(inside, density, -torch.inf)


def _trainer(bar: Bar, builder: Any, device: str, source: Windowed | None) -> Any:
    """Sbi's trainer, telling ``bar`` of every epoch and writing no log folder; from disk, if there is a ``source``."""
    from sbi.inference import NPE as Trainer  # noqa: N811 - ours has the same name

    class Reporting(Trainer):
        def _summarize_epoch(self, train_loss: float, val_loss: float, *rest: Any) -> None:
            super()._summarize_epoch(train_loss, val_loss, *rest)
            bar.update(loss=train_loss, validation=val_loss)

        def get_dataloaders(
            self, start: int = 0, batch_size: int = 200, validation: float = 0.1, *rest: Any, **options: Any
        ) -> tuple[Any, Any]:
            if source is None:
                return super().get_dataloaders(start, batch_size, validation, *rest, **options)
            # torch's own generator is ours here: `forked` has seeded it
            seed = int(torch.randint(2**62, ()))
            self.train_indices = torch.arange(len(self.get_simulations(start)[0]))
            training, held_out = source.split(validation, seed)
            shuffler = torch.Generator().manual_seed(seed)
            return _Loader(training, batch_size, shuffler), _Loader(held_out, batch_size, None)

    return Reporting(None, density_estimator=builder, device=device, tracker=_NoTracker(), show_progress_bars=False)


class _Loader:
    """What sbi iterates over, read from disk."""

    def __init__(self, source: Windowed, batch_size: int, shuffler: torch.Generator | None) -> None:
        self.source, self.shuffler = source, shuffler
        self.steps = max(1, len(source) // batch_size)
        self.batch_size = len(source) / self.steps  # sbi takes the mean of an epoch over steps times this

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[Tensor]]:
        for v, s in self.source.batches(self.steps, self.shuffler):
            yield [v, s, torch.ones(len(v), 1, dtype=torch.bool, device=v.device)]


class _NoTracker:
    """sbi's tracker protocol, keeping nothing: its default writes TensorBoard files into the working directory."""

    log_dir = None

    def log_metric(self, name: str, value: float, step: int | None = None) -> None: ...
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None: ...
    def log_params(self, params: dict[str, Any]) -> None: ...
    def add_figure(self, name: str, figure: Any, step: int | None = None) -> None: ...
    def flush(self) -> None: ...


@contextlib.contextmanager
def _quiet() -> Any:
    """Without sbi's prints and its warnings on z-scoring, which is ours here."""
    level = logging.root.manager.disable
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(level)
