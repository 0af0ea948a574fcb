r"""The Dirac-GAN under every method and way of stepping: which converge, and at the rate that the eigenvalues say.

Data at 0, a generator that makes :math:`\theta`, a critic :math:`\psi x`: both players are one number, and the only
equilibrium is (0, 0). From (1, 1), 500 steps of plain gradient descent with step size 0.2, the settings of the
published experiment, whose final distances stand beside ours. In its convention the critic is high at the model's draws
and ours at the data, so that our :math:`\psi` is minus theirs; its alternating descent moves the generator first and
ours the critic, which moves figures of rows that turn in circles by a few per cent. Its WGAN-GP charges
:math:`\frac{0.7}{2} (|\psi| - 1)^2`. Its consensus has half of the term with :math:`f' f''`; with the gradient of
:math:`\frac12 \|v\|^2` itself, which is ours, that loss also falls where the critic is sure of everything, and five
critic steps from (1, 1) end there, in their code as in ours. From (0.5, 0.5) they converge.

References:
    | Which Training Methods for GANs do actually Converge? (Mescheder, Geiger and Nowozin, 2018)
    | https://arxiv.org/abs/1801.04406
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from implicit_estimators.generator_losses import generator_loss
from implicit_estimators.penalties import R1, Penalty, WassersteinPenalty
from implicit_estimators.ratio_losses import ratio_loss
from implicit_infer.games import (
    Alternating,
    Batch,
    Consensus,
    Duel,
    Extragradient,
    Game,
    Optimisers,
    Optimistic,
    Simultaneous,
    eigenvalues,
)

NAME = "dirac"
TITLE = "The Dirac-GAN"
ABOUT = """\
Data at 0, a generator that makes theta, a critic psi x; 500 steps of gradient descent with step size 0.2 from (1, 1).
Shown are the eigenvalues of the flow at the equilibrium (by autograd, and by hand), the contraction of a simultaneous
step that they predict beside the measured one, and the final distance from the equilibrium under each way of stepping.
Published are the final distances of the authors' code (Mescheder et al., 2018) for the first three."""
KEYS = ()

STEP = 0.2
STEPS = 500
ARRIVED = 0.05
"""Distance from the equilibrium after 500 steps below which a game has converged; it starts at 1.41."""
DRAWS = 1000
"""Draws of a batch, where there is instance noise."""


class Point(nn.Module):
    """The generator: makes theta, whatever the noise."""

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def forward(self, z: Tensor) -> Tensor:
        """Samples with shape (n, 1)."""
        return self.theta.expand(len(z), 1)


class Slope(nn.Module):
    """The critic: psi x."""

    def __init__(self, psi: float) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor(psi, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs with shape (n,)."""
        return self.psi * x[:, 0]


def wasserstein(at_data: Tensor, at_model: Tensor) -> Tensor:
    """The critic's loss of a WGAN."""
    return at_model.mean() - at_data.mean()


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Attributes:
        name: What it is called.
        published: Final distances of simultaneous and alternating descent with one and five critic steps.
        converges: What is expected of the same three.
        saturating: Whether the generator minimises the minimax loss; if not, the non-saturating one.
        wasserstein: Whether both minimise a difference of means instead.
        penalty: On the critic.
        clip: Of the critic's weight.
        noise: Standard deviation of the instance noise.
        gamma: Weight of consensus; 0 for none.
        flow: Eigenvalues by hand; None where there is no equilibrium.
        start: Both theta and psi at the start.
    """

    name: str
    published: tuple[float, float, float] | None
    converges: tuple[bool, bool, bool]
    saturating: bool = True
    wasserstein: bool = False
    penalty: Penalty | None = None
    clip: float | None = None
    noise: float = 0.0
    gamma: float = 0.0
    flow: tuple[complex, complex] | None = (0.5j, -0.5j)
    start: float = 1.0

    def duel(self, start: float, seed: int | None = 0) -> Duel:
        """The game from a point; with a seed, batches are random, and without, normal quantiles."""
        wants: Callable[[Tensor, Tensor], Tensor] = wasserstein if self.wasserstein else ratio_loss("log").loss
        moves = generator_loss("saturating" if self.saturating else "non-saturating").loss
        random = None if seed is None else torch.Generator().manual_seed(seed)
        n = DRAWS if self.noise else 1
        shares = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        quantiles = self.noise * torch.special.ndtri(shares)[:, None]

        def draw() -> Batch:
            if random is None or not self.noise:
                return Batch(quantiles, quantiles)
            real, fake = self.noise * torch.randn(2, n, 1, generator=random, dtype=torch.float64)
            return Batch(real, fake)

        def critic_loss(generator: Any, critic: Any, batch: Batch) -> Tensor:
            return wants(critic(batch.real), critic(generator(batch.latent) + batch.latent))

        def model_loss(generator: Any, critic: Any, batch: Batch) -> Tensor:
            fake = critic(generator(batch.latent) + batch.latent)
            return -fake.mean() if self.wasserstein else moves(fake)

        def charge(generator: Any, critic: Any, batch: Batch) -> Tensor:
            assert self.penalty is not None
            return self.penalty.penalty(critic, batch.real, batch.real, 0)

        return Duel(
            Point(start),
            Slope(-start),
            model_loss,
            critic_loss,
            draw,
            penalty=None if self.penalty is None else charge,
            clip=self.clip,
        )

    def stepped(self, game: Game) -> Game:
        """The game, with consensus if the method has it."""
        if not self.gamma:
            return game
        return Consensus(game.critic_steps, takes_turns=game.takes_turns, gamma=self.gamma)


def _damped(gamma: float) -> tuple[complex, complex]:
    """The roots of the flow of a critic with friction gamma."""
    root = complex(gamma**2 / 4 - 1 / 4) ** 0.5
    return -gamma / 2 + root, -gamma / 2 - root


NONE, ALL = (False, False, False), (True, True, True)
METHODS = (
    Method("GAN", (3.1, 1.42, 1.85), NONE),
    Method("non-saturating GAN", (0.64, 0.28, 0.14), NONE, saturating=False),
    Method("WGAN, clipped at 1", (1.0, 1.02, 0.92), NONE, wasserstein=True, clip=1.0, flow=(1j, -1j)),
    Method("WGAN-GP", (1.8, 1.22, 0.72), NONE, wasserstein=True, penalty=WassersteinPenalty(0.35), flow=None),
    Method("instance noise 0.7", (0.019, 0.012, 0.004), ALL, noise=0.7, flow=_damped(0.7**2 / 2)),
    Method("zero-centred penalty 0.3", (2.6e-6, 2.3e-7, 9e-34), ALL, penalty=R1(0.3), flow=_damped(0.3)),
    Method("zero-centred penalty 1", (1e-21, 7e-17, 5e-12), ALL, penalty=R1(1.0), flow=_damped(1.0)),
    Method("consensus 1", (2e-10, 1e-11, 5e-33), (True, True, False), gamma=1.0, flow=(-0.25 + 0.5j, -0.25 - 0.5j)),
    Method("consensus 1, from (0.5, 0.5)", None, ALL, gamma=1.0, flow=(-0.25 + 0.5j, -0.25 - 0.5j), start=0.5),
    Method(
        "non-saturating, penalty 0.3",
        (2.2e-6, 1.5e-7, 4e-34),
        ALL,
        saturating=False,
        penalty=R1(0.3),
        flow=_damped(0.3),
    ),
)
"""The rows, in the order of the published experiment."""

GAMES: tuple[Game, ...] = (Simultaneous(), Alternating(1), Alternating(5), Extragradient(), Optimistic())
"""The columns; the published ones are the first three."""


def play(method: Method, game: Game, steps: int = STEPS, seed: int | None = 0) -> list[float]:
    """Distances from the equilibrium before each step and after the last."""
    duel = method.duel(method.start, seed=seed)
    optimisers = Optimisers(
        torch.optim.SGD(duel.generator_parameters(), lr=STEP), torch.optim.SGD(duel.critic_parameters(), lr=STEP)
    )
    stepped = method.stepped(game)
    weights = [*duel.generator_parameters(), *duel.critic_parameters()]
    distances = [math.hypot(*(w.item() for w in weights))]
    for _ in range(steps):
        stepped.step(duel, optimisers)
        distances.append(math.hypot(*(w.item() for w in weights)))
    return distances


def rate(distances: list[float]) -> float:
    """Factor of the distance with each step, by least squares of its logarithm over the second half."""
    logs = torch.tensor(distances, dtype=torch.float64)[len(distances) // 2 :].log()
    time = torch.arange(len(logs), dtype=torch.float64)
    time = time - time.mean()
    return math.exp(float((time * logs).sum() / time.square().sum()))


def flow(method: Method) -> list[complex]:
    """The eigenvalues at the equilibrium, by automatic differentiation; consensus adds those of its own term."""
    duel = method.duel(0.0, seed=None)
    if method.gamma:
        from implicit_infer.games import multipliers

        step = 0.01
        return [(value - 1) / step for value in multipliers(duel, method.stepped(Simultaneous()), step).tolist()]
    return [complex(value) for value in eigenvalues(duel).tolist()]


def wanted(seeds: list[int]) -> list[dict[str, Any]]:
    """Nothing is kept: the table takes seconds and is computed when it is asked for."""
    return []


def tables(rows: list[dict[str, Any]]) -> str:
    """The one table."""
    return table()


def table() -> str:
    """The table, in Markdown."""
    heads = ["method", "eigenvalues of the flow", "by hand", "rate", "measured"]
    heads += ["simultaneous", "alternating", "5 critic steps", "published", "extragradient", "optimistic", "converges"]
    lines = ["| " + " | ".join(heads) + " |", "| --- " * len(heads) + "|"]
    for method in METHODS:
        played = [play(method, game) for game in GAMES[:3]]
        last = [distances[-1] for distances in played]
        arrived = tuple(distance < ARRIVED for distance in last)
        # what converges as it is needs no other way of stepping, and consensus is one
        last += [play(method, game)[-1] for game in GAMES[3:]] if not any(arrived) else []
        ours = [f"{value:.2g}" for value in last] + ["", ""]
        published = ", ".join(f"{value:g}" for value in method.published or ())
        spectrum = ["no equilibrium", "", ""]
        if method.flow is not None:
            found = flow(method)
            spectrum = [_pair(found), _pair(list(method.flow)), f"{max(abs(1 + STEP * value) for value in found):.4f}"]
        steady = play(method, Simultaneous(), seed=None) if method.noise else played[0]
        verdict = "yes" if all(arrived) else "not with 5 critic steps" if any(arrived) else "no"
        verdict += "" if arrived == method.converges else " (**not as expected**)"
        cells = [method.name, *spectrum, f"{rate(steady):.4f}", *ours[:3], published, *ours[3:5], verdict]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _pair(values: list[complex]) -> str:
    first, second = sorted(values, key=lambda value: (value.real, value.imag), reverse=True)
    if abs(first.imag) > 1e-4:
        return f"{first.real + 0.0:.3f} ± {abs(first.imag):.3f}i"
    return f"{first.real:.3f}, {second.real:.3f}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(table())
