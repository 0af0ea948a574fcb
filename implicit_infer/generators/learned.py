"""What learning by comparison gives: a network that draws, with what is known of how it was learned."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from implicit_estimators.comparisons import Comparison
from implicit_estimators.inputs import as_samples
from implicit_estimators.networks import storage
from implicit_estimators.seeds import Seed, generator
from implicit_infer.games import GameHistory
from implicit_infer.generators.sight import Sight

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KIND = "learned-generator"
ROWS = 8192
"""Draws that are made at a time."""


@dataclass
class Learned:
    """A learned generator.

    Attributes:
        module: The network that was given, with the average of the game's iterates, in evaluation mode.
        critic: What told its draws from data at the end of the game; None where nothing was trained.
        comparison: What the game was played by.
        latent: Shape of the noise of one draw.
        event_shape: Shape of one draw.
        condition_width: Width of a condition; 0 for none.
        sight: What the critic sees of samples.
        history: What the game looked like on the way.
        warnings: What went wrong, in sentences: ``diverged``, ``stopped``, ``out of time``, ``the critic has won``,
            ``collapsed``.
        figures: What else is known of it: ``steps`` of the game, and ``diversity`` and ``spread`` of draws beside data.
        data: Some of the data, to draw pictures with.
        given: Their conditions, or None.
    """

    module: nn.Module
    critic: nn.Module | None
    comparison: Comparison
    latent: tuple[int, ...]
    event_shape: tuple[int, ...]
    condition_width: int
    sight: Sight
    history: GameHistory
    warnings: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    data: Tensor | None = None
    given: Tensor | None = None

    def __repr__(self) -> str:
        about = f"{self.comparison.name}, {self.figures.get('steps', 0):,} steps, draws of shape {self.event_shape}"
        return f"<Learned {type(self.module).__name__} by {about}{', with warnings' * bool(self.warnings)}>"

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.module.parameters()).device

    @torch.no_grad()
    def sample(self, shape: tuple[int, ...] = (1,), condition: Any = None, *, seed: Seed = None) -> Tensor:
        """Draws of the generator.

        Args:
            shape: How many, as a shape.
            condition: One row for each draw, or one row for all, where the generator is conditional.
            seed: An int, a ``torch.Generator`` or None for fresh entropy.

        Returns:
            Draws with shape (*shape, *event_shape).

        Raises:
            ValueError: If the condition is missing, is not expected, or has another shape.
        """
        weights = next(self.module.parameters())
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        n = torch.Size(shape).numel()
        given = self._given(condition, n, "condition")
        source = generator(seed, weights.device)
        z = torch.randn((n, *self.latent), generator=source, device=weights.device, dtype=weights.dtype)
        parts = [
            self.module(z[start : start + ROWS])
            if given is None
            else self.module(z[start : start + ROWS], given[start : start + ROWS])
            for start in range(0, n, ROWS)
        ]
        draws = torch.cat(parts) if parts else z.new_zeros((0, *self.event_shape))
        return draws.reshape(*shape, *self.event_shape)

    @torch.no_grad()
    def log_ratio(self, x: Any, condition: Any = None) -> Tensor:
        r"""Log p/q of data and model at x, in nats, as the critic tells it.

        The critic is that of the end of the game, and q the generator as it was there, not its average. Where the loss
        tells the ratio up to a factor (Donsker and Varadhan's, KLIEP's, relativistic ones), the factor is taken of the
        data that were kept and as many draws.

        Args:
            x: Samples in the units of the data, with shape (n, \*event_shape).
            condition: One row for each of them, or one row for all, where the generator is conditional.

        Returns:
            Log-ratios with shape (n,).

        Raises:
            ValueError: If the comparison tells no ratio, its critic sees several samples at a time, or a shape is
                another.
        """
        if self.critic is None:
            raise ValueError(f"log_ratio: {self.comparison.name!r} trains no critic; ii.estimate_ratio tells a ratio")
        if self.sight.packing > 1:
            raise ValueError(f"log_ratio: the critic sees {self.sight.packing} samples at a time, and no single one")
        rows = self._samples(x)
        found = self.comparison.log_ratio(self._judged(rows, self._given(condition, len(rows), "condition")))
        if found is None:
            raise ValueError(f"log_ratio: the critic of {self.comparison.name!r} tells no ratio of densities")
        if self.data is None:
            return found
        draws = self.sample((len(self.data),), self.given, seed=0)
        sides = (self._judged(samples.to(self.device), self.given) for samples in (self.data, draws))
        return found - self.comparison.log_normaliser(*sides)

    def _judged(self, rows: Tensor, condition: Tensor | None) -> Tensor:
        """The critic's outputs at samples in the units of the data."""
        assert self.critic is not None
        given = self.sight.given(condition)
        return self.critic(self.sight(rows)) if given is None else self.critic(self.sight(rows), given)

    @torch.no_grad()
    def log_prob(self, x: Any, condition: Any = None) -> Tensor:
        r"""The log-density of the model at x, in nats, where the generator has one (flows).

        Args:
            x: Samples with shape (n, \*event_shape).
            condition: One row for each of them, or one row for all, where the generator is conditional.

        Returns:
            Log-densities with shape (n,).

        Raises:
            TypeError: If the generator has no ``log_prob``.
            ValueError: If a shape is another.
        """
        density: Any = getattr(self.module, "log_prob", None)
        if density is None:
            raise TypeError(f"generator: {type(self.module).__name__} has no log_prob; a flow has one")
        rows = self._samples(x)
        given = self._given(condition, len(rows), "condition")
        found: Tensor = density(rows) if given is None else density(rows, given)
        return found

    def plot(self, *, draws: int = 2000, seed: Seed = 0) -> Figure:
        """Losses, what the critic tells, gradients, and draws beside data.

        Args:
            draws: How many draws are shown.
            seed: Of the draws.

        Returns:
            A matplotlib figure that belongs to no window.
        """
        from implicit_infer.generators.picture import plot_learned

        return plot_learned(self, draws, seed)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the networks to one safetensors file, with their settings as JSON in its header.

        Args:
            path: File to write; its folder must exist.
        """
        parts: dict[str, dict[str, Tensor]] = {"module": self.module.state_dict(), "sight": _tensors_of(self.sight)}
        if self.critic is not None:
            parts["critic"] = self.critic.state_dict()
        if self.data is not None:
            parts["data"] = {"rows": self.data} | ({} if self.given is None else {"given": self.given})
        parts["comparison"] = self.comparison.state_dict()
        config = {
            "generator": getattr(self.module, "config", None),
            "generator_class": type(self.module).__qualname__,
            "critic": getattr(self.critic, "config", None),
            "critic_class": None if self.critic is None else type(self.critic).__qualname__,
            "comparison": written(self.comparison),
            "latent": list(self.latent),
            "event_shape": list(self.event_shape),
            "condition_width": self.condition_width,
            "packing": self.sight.packing,
            "classes": self.sight.classes,
            "history": self.history.to_json(),
            "warnings": self.warnings,
            "figures": self.figures,
        }
        storage.save(path, KIND, storage.joined(parts), json.loads(json.dumps(config, default=repr)))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        module: nn.Module | None = None,
        critic: nn.Module | None = None,
        comparison: Comparison | None = None,
        device: str = "cpu",
    ) -> Learned:
        """Read what :meth:`save` wrote. Networks of the package are built again; others must be given.

        Args:
            path: The file.
            module: The generator, of the same structure, where it is none of the package's.
            critic: The critic, likewise; a critic that can neither be built nor was given is left out.
            comparison: What the game was played by, where it is none of the package's.
            device: Where they shall lie.

        Returns:
            The learned generator.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file holds something else, or networks of another structure, or the generator must be
                given.
        """
        from implicit_infer.generators.rebuilding import rebuild_comparison, rebuild_critic, rebuild_generator

        tensors, config = storage.load(path, KIND, device)
        parts = storage.parted(tensors)
        if module is None:
            module = rebuild_generator(config["generator"], config["generator_class"])
        if critic is None and config["critic_class"] is not None:
            critic = rebuild_critic(config["critic"], config["critic_class"])
        _put(module, parts["module"], "module", device)
        if critic is not None:
            _put(critic, parts["critic"], "critic", device)
        chosen = rebuild_comparison(config["comparison"]) if comparison is None else comparison
        chosen.load_state_dict(parts.get("comparison", {}))
        return cls(
            module,
            critic,
            chosen,
            tuple(config["latent"]),
            tuple(config["event_shape"]),
            config["condition_width"],
            _sight(parts["sight"], config["packing"], config["classes"]),
            GameHistory.from_json(config["history"]),
            config["warnings"],
            config["figures"],
            parts.get("data", {}).get("rows"),
            parts.get("data", {}).get("given"),
        )

    def _samples(self, x: Any) -> Tensor:
        weights = next(self.module.parameters())
        size = torch.Size(self.event_shape).numel()
        many = isinstance(x, Tensor) or hasattr(x, "ndim")
        rows = as_samples(x.reshape(len(x), -1) if many and x.ndim > 2 else x, "x", width=size)
        return rows.to(weights.device, weights.dtype).reshape(-1, *self.event_shape)

    def _given(self, condition: Any, n: int, name: str) -> Tensor | None:
        if (condition is None) != (self.condition_width == 0):
            wants = f"expected rows of width {self.condition_width}" if self.condition_width else "expected None"
            raise ValueError(f"{name}: {wants}; got {'None' if condition is None else type(condition).__name__}")
        if condition is None:
            return None
        weights = next(self.module.parameters())
        if not isinstance(condition, Tensor) and not hasattr(condition, "to_numpy"):
            condition = torch.as_tensor(condition, dtype=weights.dtype)
        if condition.ndim == 0 or (condition.ndim == 1 and self.condition_width > 1):
            condition = condition.reshape(1, -1)
        rows = as_samples(condition, name, width=self.condition_width).to(weights.device, weights.dtype)
        if len(rows) not in (1, n):
            raise ValueError(f"{name}: expected 1 row or {n}; got {len(rows)}")
        return rows.expand(n, -1)


def written(value: Any) -> Any:
    """A comparison, a loss, a penalty or a game as JSON: its class and its settings."""
    if isinstance(value, (tuple, list)):
        return [written(entry) for entry in value]
    if not is_dataclass(value):  # a divergence is what its name says
        return getattr(value, "name", value)
    settings = {setting.name: written(getattr(value, setting.name)) for setting in fields(value) if setting.init}
    return {"class": f"{type(value).__module__}:{type(value).__qualname__}", **settings}


def _tensors_of(sight: Sight) -> dict[str, Tensor]:
    names = ("centre", "scale", "condition_centre", "condition_scale")
    tensors = {name: getattr(sight, name) for name in names}
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


def _sight(tensors: dict[str, Tensor], packing: int, classes: int | None) -> Sight:
    centre, scale = tensors.get("condition_centre"), tensors.get("condition_scale")
    return Sight(tensors["centre"], tensors["scale"], packing, 0.0, None, centre, scale, classes)


def _put(network: nn.Module, tensors: dict[str, Tensor], name: str, device: str) -> None:
    try:
        network.to(device).load_state_dict(tensors)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{name}: expected a network of the structure that was saved; {reason}") from error
    network.eval()
