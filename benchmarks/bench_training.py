"""How fast small ratio networks are trained, beside sbi's trainer in the same run.

Run ``python -m benchmarks.bench_training`` (minutes; ``--rounds 1`` for a look). A perceptron 10-64-64-1 learns the
ratio of a linear Gaussian model from 10,000 pairs, 1,000 of them held out, in batches of 200 on one core: by the binary
loss (NRE-A) and by the softmax of ten atoms (NRE-B), one member and five in one program. sbi trains its own network of
that shape, which has layer normalisation and ReLU; ours is timed with the same, and as it is by default.

Seconds are of the processor, of an epoch: the slope between two numbers of epochs, so that whatever is done once (in
sbi, one epoch more than asked for) does not count. Trainers take turns; what is printed are medians over the rounds,
ratios being of the same round.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("OMP_NUM_THREADS", "1")  # CPU time means little when threads spin

import torch

from implicit_estimators.networks.candidate_losses import BinaryLoss, CandidateLoss, SoftmaxLoss
from implicit_estimators.networks.ratio_network import RatioNetwork
from implicit_estimators.networks.train_ratio import RatioTraining, train_ratio

PAIRS, HELD_OUT, BATCH = 10_000, 1_000, 200
LOSSES: dict[str, CandidateLoss] = {"NRE-A": BinaryLoss(), "NRE-B, 10 atoms": SoftmaxLoss(10)}

Trainer = Callable[[int], None]
"""Trains for a number of epochs."""


def pairs() -> tuple[torch.Tensor, torch.Tensor]:
    """Theta and x, five columns each."""
    draw = torch.Generator().manual_seed(0)
    theta = torch.randn(PAIRS, 5, generator=draw)
    return theta, theta + 0.5 * torch.randn(PAIRS, 5, generator=draw)


def ours(loss: CandidateLoss, members: int, *, like_sbi: bool, by_hand: bool = True) -> Trainer:
    """Our trainer, with sbi's network or with our own default."""
    theta, x = pairs()
    rows = torch.arange(PAIRS)

    def run(epochs: int) -> None:
        activation, layer_norm = ("relu", True) if like_sbi else ("silu", False)
        network = RatioNetwork(members, 5, 5, (64, 64), activation=activation, layer_norm=layer_norm, seed=0)
        training = RatioTraining(epochs, BATCH, 5e-4, patience=None, by_hand=by_hand)
        train_ratio(network, loss, theta, x, rows[HELD_OUT:], rows[:HELD_OUT], training, seed=0)

    return run


def sbi(name: str) -> Trainer:
    """The trainer of sbi for that loss."""
    from sbi import inference
    from sbi.neural_nets import classifier_nn

    theta, x = pairs()
    prior = torch.distributions.MultivariateNormal(torch.zeros(5), torch.eye(5))

    def run(epochs: int) -> None:
        binary = name == "NRE-A"
        kind = inference.NRE_A if binary else inference.NRE_B
        trainer = kind(prior, classifier=classifier_nn("mlp", hidden_features=64), show_progress_bars=False)
        trainer.append_simulations(theta, x)
        settings = {} if binary else {"num_atoms": 10}
        trainer.train(training_batch_size=BATCH, max_num_epochs=epochs, stop_after_epochs=10**6, **settings)

    return run


def seconds(trainer: Trainer, few: int, many: int) -> float:
    """CPU seconds of an epoch."""
    spent = []
    for epochs in (few, many):
        start = time.process_time()
        trainer(epochs)
        spent.append(time.process_time() - start)
    return (spent[1] - spent[0]) / (many - few)


@contextlib.contextmanager
def quiet():
    """Without sbi's prints, and with its logs in a folder that goes away."""
    here = os.getcwd()
    with (
        tempfile.TemporaryDirectory() as folder,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        os.chdir(folder)
        try:
            yield
        finally:
            os.chdir(here)
            logging.disable(logging.NOTSET)


def main() -> None:
    """Print a table for each loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, nargs=2, default=[2, 8], metavar=("FEW", "MANY"))
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.losses:
        loss = LOSSES[name]
        with quiet():
            trainers = {
                "sbi": sbi(name),
                "ours": ours(loss, 1, like_sbi=False),
                "ours, sbi's network": ours(loss, 1, like_sbi=True),
                "ours by autograd": ours(loss, 1, like_sbi=False, by_hand=False),
                "ours, five": ours(loss, 5, like_sbi=False),
                "ours, five of sbi's network": ours(loss, 5, like_sbi=True),
            }
            for trainer in trainers.values():
                trainer(1)
            found: dict[str, list[float]] = {title: [] for title in trainers}
            for _ in range(options.rounds):
                for title, trainer in trainers.items():
                    found[title].append(seconds(trainer, *options.epochs))
        print(f"\n{name}: CPU seconds an epoch, median of {options.rounds}; times sbi's; times one of its kind")
        for title, values in found.items():
            times = statistics.median(theirs / mine for theirs, mine in zip(found["sbi"], values, strict=True))
            one = {"ours, five": "ours", "ours, five of sbi's network": "ours, sbi's network"}.get(title, title)
            against = statistics.median(mine / single for mine, single in zip(values, found[one], strict=True))
            print(f"{title:<30}{statistics.median(values):9.4f}{times:9.1f}{against:9.2f}", flush=True)


if __name__ == "__main__":
    main()
