r"""The same network learned by likelihood and by comparison, and scored the same way: what each learner is good for.

Maximum likelihood and a game want different things of one flow. The likelihood punishes every point of the data that
the model gives little density; a critic punishes draws that do not look like data, and hardly notices that the model
puts next to nothing between them. So a flow that a game has taught may draw well and have a likelihood worse than that
of the uniform law, with codes :math:`f(x)` of data that are anything but normal. The scores say both:

- bits for each dimension of the data that the flow learned from, of validation data and of test data;
- the distance that an independent critic finds between draws and test data, and between draws and training data;
- how far the codes of test data are from normal;
- the maximum mean discrepancy and the sliced Wasserstein distance of draws from test data.

References:
    | Comparison of Maximum Likelihood and GAN-based training of Real NVPs (Danihelka et al., 2017)
    | https://arxiv.org/abs/1705.05263
    | Flow-GAN: Combining Maximum Likelihood and Adversarial Learning (Grover, Dhar and Ermon, 2018)
    | https://arxiv.org/abs/1705.08868
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import Comparison, comparison
from implicit_estimators.discrepancies.mmd import MMD
from implicit_estimators.discrepancies.sliced import SlicedWasserstein
from implicit_estimators.inputs import as_samples
from implicit_estimators.networks import storage
from implicit_estimators.seeds import Seed, resolve_seed, stream
from implicit_infer.diagnose.independent_critic import independent_critic
from implicit_infer.games import Alternating, Batch, Play, Training
from implicit_infer.generators.codes import codes_of, normality
from implicit_infer.generators.learn import learn
from implicit_infer.generators.likelihood import (
    HeldOut,
    MaximumLikelihood,
    bits_per_dimension,
    dequantised,
    likelihood_duel,
    log_densities,
)
from implicit_infer.generators.networks import make_generator

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

KIND = "compared-generator"

SCORES = {
    "bits_train": "bits/dim, learned from",
    "bits_validation": "bits/dim, validation",
    "bits_test": "bits/dim, test",
    "wasserstein": "independent critic",
    "wasserstein_train": "the same, learned from",
    "kolmogorov": "codes: KS",
    "energy": "codes: energy",
    "kurtosis": "codes: kurtosis",
    "mmd": "MMD²",
    "sliced": "sliced W",
    "seconds": "CPU s",
}
"""Figures of a run, with their heads in the table."""


@dataclass
class LearnerComparison:
    """What each learner made of the same network and the same data.

    Attributes:
        rows: One dict for each learner and seed: "learner", "seed", the figures of ``SCORES``, "best_step" of the
            likelihood (None for games) and "warnings".
        baselines: Bits for each dimension of test data under laws that anybody could have: "uniform" over the range of
            the data that was learned from, and "normal" with their mean and covariance.
        test: The test data, dequantised, with shape (n, d).
        modules: The networks, by learner and seed.
    """

    rows: list[dict[str, Any]]
    baselines: dict[str, float]
    test: Tensor
    modules: dict[tuple[str, int], nn.Module] = field(default_factory=dict, repr=False)

    @property
    def runs(self) -> pd.DataFrame:
        """One row for each learner and seed."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    @property
    def table(self) -> pd.DataFrame:
        """The median over seeds for each learner, in the order in which they were asked for."""
        runs = self.runs
        return runs.groupby("learner", sort=False)[list(SCORES)].median().rename(columns=SCORES)

    def plot(self, seed: int | None = None) -> Figure:
        """Draws of each learner, and the codes that it gives test data: the first two coordinates of each.

        Args:
            seed: Which seed's networks; the first if None.

        Returns:
            A figure, with a column for each learner.
        """
        from implicit_infer.generators.learners_picture import picture

        chosen = self.rows[0]["seed"] if seed is None else seed
        modules = {learner: module for (learner, other), module in self.modules.items() if other == chosen}
        bits = {row["learner"]: row["bits_test"] for row in self.rows if row["seed"] == chosen}
        return picture(modules, self.test, bits, self.baselines["uniform"])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``table.csv``, ``runs.csv`` and ``learners.png`` into a folder, which is made if it is not there."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.table.to_csv(folder / "table.csv")
        self.runs.to_csv(folder / "runs.csv", index=False)
        self.plot().savefig(folder / "learners.png", dpi=140)


def compare_learners(
    generator: str | Callable[[int], nn.Module],
    data: Any,
    comparisons: Sequence[str] | Mapping[str, str | Comparison] = ("mle", "wgan-gp", "js"),
    seeds: Sequence[int] = (0, 1, 2),
    *,
    settings: Mapping[str, Any] | None = None,
    training: Training | None = None,
    training_of: Mapping[str, Training] | None = None,
    batch_size: int = 256,
    bin_width: float | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    critic_steps: int = 500,
    out: str | os.PathLike[str] | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> LearnerComparison:
    """Learn the same network by several comparisons, likelihood among them, and score all the same way.

    Data are split once, by the first seed, so that all runs face the same test. By likelihood, the network of the mark
    that was best on validation data is kept; games keep theirs (they have nothing to choose by but the critic).

    Args:
        generator: A network with a density: the name "flow", or a function from a seed to a module that has
            ``log_prob``, ``latent`` and ``fit_scale`` and is called with noise as wide as a sample.
        data: Samples with shape (n, d); further axes are flattened. Discrete data are the lower edges of their bins.
        comparisons: Names of ``ii.comparisons()`` ("mle" is the likelihood), or comparisons by a name of your own.
        seeds: One run of each learner for each.
        settings: Further settings of the network where ``generator`` is a name.
        training: How long all learn.
        training_of: Other training for single learners, by name: likelihood needs fewer steps than a game.
        batch_size: Samples in a step.
        bin_width: Width of the bins of discrete data, which are then dequantised; None for continuous data.
        validation: Share of the data to choose by: the mark that is kept, and the independent critic.
        test: Share of the data that all is scored on.
        critic_steps: Steps of the independent critic.
        out: A folder: each run is written there as it ends, and read instead of run again. The tables and the picture
            are written there, too.
        device: Where networks are trained.
        progress: Whether to show progress.

    Returns:
        The comparison, with ``table``, ``plot()`` and ``save(folder)``.

    Raises:
        ValueError: If a name is unknown, a share or the data leave too little, or ``out`` holds runs of other data
            or settings.
        TypeError: If the network has no density.
    """
    rows = _rows(data).to(device)
    learners = _learners(comparisons, bin_width)
    if not seeds:
        raise ValueError("seeds: expected at least one; got none")
    if not (0 < validation < 1 and 0 < test < 1 and validation + test < 1):
        raise ValueError(f"validation, test: expected shares that leave some to learn from; got {validation}, {test}")
    training = Training() if training is None else training
    trainings = {name: (training_of or {}).get(name, training) for name in learners}
    make = _maker(generator, rows.shape[1], dict(settings or {}))
    parts = _Parts.split(rows, validation, test, bin_width, resolve_seed(seeds[0]))
    folder = (
        None
        if out is None
        else _Folder(
            Path(out), rows, learners, trainings, [batch_size, bin_width, validation, test, critic_steps, settings]
        )
    )
    result = LearnerComparison([], _baselines(parts), parts.test)
    for seed in seeds:
        for name, how in learners.items():
            module = make(seed).to(device)
            if not all(hasattr(module, needed) for needed in ("log_prob", "latent", "fit_scale")):
                raise TypeError(
                    f"generator: expected a network with log_prob, latent and fit_scale, such as a flow; got "
                    f"{type(module).__name__}"
                )
            row = None if folder is None else folder.read(name, seed, module)
            if row is None:
                row = _run(name, how, module, parts, trainings[name], batch_size, seed, device, progress)
                row |= _scores(module, parts, seed, critic_steps)
                if folder is not None:
                    folder.write(name, seed, module, row)
            result.rows.append(row)
            result.modules[name, seed] = module
    if out is not None:
        result.save(out)
    return result


@dataclass(frozen=True)
class _Parts:
    """Rows by what they are for; discrete ones as they are for likelihood, and dequantised for all else."""

    raw: Tensor
    train: Tensor
    validation: Tensor
    test: Tensor
    bin_width: float | None

    @classmethod
    def split(cls, rows: Tensor, validation: float, test: float, bin_width: float | None, seed: int) -> _Parts:
        counts = [round(validation * len(rows)), round(test * len(rows))]
        if min(*counts, len(rows) - sum(counts)) < 2:
            raise ValueError(f"data: expected at least 2 rows in each part; got {len(rows)} in all")
        order = torch.randperm(len(rows), generator=stream(seed, "split")).to(rows.device)
        spread = rows if bin_width is None else dequantised(rows, bin_width, stream(seed, "subsample", rows.device))
        first, second = counts[0], sum(counts)
        chosen = order[:first], order[first:second], order[second:]
        return cls(rows[chosen[2]], spread[chosen[2]], spread[chosen[0]], spread[chosen[1]], bin_width)


def _run(
    name: str,
    how: Comparison,
    module: Any,
    parts: _Parts,
    training: Training,
    batch_size: int,
    seed: int,
    device: str,
    progress: bool,
) -> dict[str, Any]:
    """Learn, and leave the weights in the module."""
    module.fit_scale(parts.train)
    began = time.process_time()
    row: dict[str, Any] = {"learner": name, "seed": seed, "best_step": None, "warnings": []}
    if isinstance(how, MaximumLikelihood):
        held_out = HeldOut(parts.validation)
        batches, draws = stream(seed, "batches", device), stream(seed, "draws", device)

        def draw() -> Batch:
            chosen = torch.randint(len(parts.raw), (batch_size,), generator=batches, device=parts.raw.device)
            return Batch(parts.raw[chosen])

        play = Play(likelihood_duel(module, how, draw, draws), Alternating(), training)
        play.run(name=f"{name}, seed {seed}", progress=progress, watch=held_out)
        held_out.put_back(module)
        row["best_step"] = held_out.best_step
    else:
        learned = learn(
            module,
            parts.train,
            how,
            latent=parts.train.shape[1],
            training=training,
            batch_size=batch_size,
            seed=seed,
            device=device,
            progress=progress,
        )
        if learned.module is not module:
            module.load_state_dict(learned.module.state_dict())
        row["warnings"] = list(learned.warnings)
    module.eval()
    return row | {"seconds": time.process_time() - began}


def _scores(module: Any, parts: _Parts, seed: int, critic_steps: int) -> dict[str, Any]:
    d, width = parts.test.shape[1], 1.0 if parts.bin_width is None else parts.bin_width
    scores: dict[str, Any] = {
        f"bits_{part}": float(bits_per_dimension(log_densities(module, rows), d, width).mean())
        for part, rows in (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
    }
    draws = _draws(module, 2 * max(len(parts.test), len(parts.validation)), seed)
    critic = independent_critic(
        parts.validation, parts.test, draws, train=parts.train, steps=critic_steps, seed=seed, device=draws.device
    )
    scores |= {"wasserstein": critic.distance, "wasserstein_train": critic.train}
    scores |= asdict(normality(codes_of(module, parts.test), seed))
    some = draws[: len(parts.test)]
    scores["mmd"] = float(MMD.placed(parts.test, parts.validation).squared(parts.test, some))
    scores["sliced"] = float(SlicedWasserstein(seed=seed).distance(parts.test, some))
    return scores


def _draws(module: Any, n: int, seed: Seed) -> Tensor:
    """Draws, those that are not finite left out: a flow that a game has torn may have some."""
    draws: Tensor = module.sample(n, seed=stream(resolve_seed(seed), "draws", module.location.device))
    draws = draws.flatten(1)
    return draws[draws.isfinite().all(1)]


def _baselines(parts: _Parts) -> dict[str, float]:
    rows, test = parts.train.double(), parts.test.double()
    width = 1.0 if parts.bin_width is None else parts.bin_width
    # of all columns together, as for the grey values of pixels: a column of its own range would be the data's secret
    low, high = parts.raw.min(), parts.raw.max() + (0.0 if parts.bin_width is None else width)
    d = test.shape[1]
    covariance = torch.cov(rows.T).reshape(d, d)
    ridge = 1e-6 * covariance.diagonal().mean() * torch.eye(d, dtype=torch.float64, device=rows.device)
    normal = torch.distributions.MultivariateNormal(rows.mean(0), covariance + ridge, validate_args=False)
    return {
        "uniform": math.log2(float(high - low) / width),
        "normal": float(bits_per_dimension(normal.log_prob(test), d, width).mean()),
    }


def _rows(data: Any) -> Tensor:
    if isinstance(data, Tensor) and data.ndim > 2:
        data = data.flatten(1)
    return as_samples(data, "data", rows=6).to(torch.float32)


def _learners(
    comparisons: Sequence[str] | Mapping[str, str | Comparison], bin_width: float | None
) -> dict[str, Comparison]:
    named = comparisons if isinstance(comparisons, Mapping) else {name: name for name in comparisons}
    if not named or isinstance(comparisons, str):
        raise ValueError(f"comparisons: expected names, in a list; got {comparisons!r}")
    return {
        name: MaximumLikelihood(bin_width) if how == MaximumLikelihood.name else comparison(how)
        for name, how in named.items()
    }


def _maker(
    generator: str | Callable[[int], nn.Module], width: int, settings: dict[str, Any]
) -> Callable[[int], nn.Module]:
    if callable(generator):
        if settings:
            raise ValueError("settings: expected none where generator is a function, which knows its own")
        return generator
    name = generator
    return lambda seed: make_generator(name, width, seed=seed, **settings)


class _Folder:
    """Runs that are kept: a JSON file of figures and a safetensors file of weights for each."""

    def __init__(
        self,
        path: Path,
        rows: Tensor,
        learners: Mapping[str, Comparison],
        trainings: Mapping[str, Training],
        settings: list[Any],
    ) -> None:
        self.path = path / "runs"
        self.path.mkdir(parents=True, exist_ok=True)
        data = hashlib.sha256(rows.cpu().numpy().tobytes()).hexdigest()[:16]
        common = [list(rows.shape), data, *settings]
        self.marks = {}
        for name, how in learners.items():
            said = [common, asdict(trainings[name]), _said(how)]
            self.marks[name] = hashlib.sha256(json.dumps(said, default=dict).encode()).hexdigest()[:16]

    def read(self, learner: str, seed: int, module: nn.Module) -> dict[str, Any] | None:
        """The figures of a run, its weights put into the module; None if it has not been run."""
        scores, weights = self._files(learner, seed)
        if not scores.is_file() or not weights.is_file():
            return None
        kept = json.loads(scores.read_text())
        if kept["mark"] != self.marks[learner]:
            raise ValueError(f"out: {scores.parent} holds runs of other data or settings; name another folder")
        tensors, _ = storage.load(weights, KIND)
        module.load_state_dict(tensors)
        module.eval()
        return kept["row"]

    def write(self, learner: str, seed: int, module: nn.Module, row: dict[str, Any]) -> None:
        """Keep a run: the figures last, so that a run that is cut off is run again."""
        scores, weights = self._files(learner, seed)
        storage.save(weights, KIND, module.state_dict(), dict(getattr(module, "config", {})))
        draft = scores.with_name(scores.name + ".draft")
        draft.write_text(json.dumps({"mark": self.marks[learner], "row": row}))
        os.replace(draft, scores)

    def _files(self, learner: str, seed: int) -> tuple[Path, Path]:
        stem = f"{learner}-{seed}"
        return self.path / f"{stem}.json", self.path / f"{stem}.safetensors"


def _said(how: Comparison) -> str:
    """The comparison with its settings, but for what has no other name than where it lies in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(how))
