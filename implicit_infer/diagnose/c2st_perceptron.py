r"""The perceptron of the classifier two-sample test, compiled: scikit-learn's, number by number, without its overhead.

Two hidden layers of ReLU units and one logistic output, trained by Adam on the log loss with a small L2 penalty, in
shuffled batches of 200, until the training loss has not fallen by 1e-4 for ten epochs:
``MLPClassifier(hidden_layer_sizes=(w, w), solver="adam", max_iter=10_000, random_state=seed)`` with its defaults.
Initial weights and orders come from the same generator in the same order, so the two take the same steps but for
rounding, which in hundreds of epochs moves single predictions. A batch of few columns is a fraction of a millisecond of
arithmetic, and scikit-learn spends several times that on calls (``benchmarks/bench_c2st.py``).

References:
    | Scikit-learn: machine learning in Python (Pedregosa et al., 2011)
    | https://scikit-learn.org/stable/modules/generated/sklearn.neural_network.MLPClassifier.html
    | Adam: a method for stochastic optimization (Kingma & Ba, 2015)
    | https://arxiv.org/abs/1412.6980
"""

from __future__ import annotations

import functools
from itertools import pairwise
from typing import Any

import numpy as np

BATCH, PATIENCE, TOLERANCE, EPOCHS = 200, 10, 1e-4, 10_000
RATE, FIRST, SECOND, SMALL, PENALTY = 1e-3, 0.9, 0.999, 1e-8, 1e-4


def predictions(x: np.ndarray, labels: np.ndarray, test: np.ndarray, width: int, seed: int) -> np.ndarray:
    """Labels of ``test`` rows, by a perceptron trained on others.

    Args:
        x: Training rows with shape (n, d), float32.
        labels: Their labels, 0 or 1, with shape (n,).
        test: Rows with shape (m, d), float32.
        width: Units of each hidden layer.
        seed: Seed of weights and orders.

    Returns:
        Whether each row's probability of label 1 exceeds a half, with shape (m,).
    """
    random = np.random.RandomState(seed)
    sizes = (x.shape[1], width, width, 1)
    weights, biases = [], []
    for before, after in pairwise(sizes):
        bound = np.sqrt(6.0 / (before + after))
        weights.append(random.uniform(-bound, bound, (before, after)).astype(x.dtype))
        biases.append(random.uniform(-bound, bound, after).astype(x.dtype))
    state = [(np.zeros_like(part), np.zeros_like(part)) for part in (*weights, *biases)]
    epoch = _compiled()
    order, best, waited, steps = np.arange(len(x)), np.inf, 0, 0
    target = labels.astype(x.dtype)
    for _ in range(EPOCHS):
        # scikit-learn shuffles the order of the epoch before
        order = order[random.permutation(len(order))]
        loss, steps = epoch(
            x[order], target[order], *weights, *biases, *(part for pair in state for part in pair), steps
        )
        waited = waited + 1 if loss > best - TOLERANCE else 0
        best = min(best, loss)
        if waited > PATIENCE:
            break
    hidden = test
    for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
        hidden = np.maximum(hidden @ weight + bias, 0)
    return (hidden @ weights[-1] + biases[-1])[:, 0] > 0


@functools.cache
def _compiled() -> Any:
    """One epoch: the weights and Adam's moments change in place; the mean loss and the number of steps come back."""
    import numba

    compile_ = numba.njit(error_model="numpy", fastmath={"contract", "nsz"}, nogil=True)

    @compile_
    def adam(weight: Any, gradient: Any, mean: Any, square: Any, rate: Any) -> None:
        w, g, m, v = weight.ravel(), gradient.ravel(), mean.ravel(), square.ravel()
        for i in range(w.size):
            m[i] = np.float32(FIRST) * m[i] + np.float32(1 - FIRST) * g[i]
            v[i] = np.float32(SECOND) * v[i] + np.float32(1 - SECOND) * g[i] * g[i]
            w[i] -= rate * m[i] / (np.sqrt(v[i]) + np.float32(SMALL))

    @compile_
    def epoch(x, y, w0, w1, w2, b0, b1, b2, m0, v0, m1, v1, m2, v2, k0, u0, k1, u1, k2, u2, steps):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - numba infers these
        n, total = len(x), 0.0
        for start in range(0, n, BATCH):
            rows, truth = x[start : start + BATCH], y[start : start + BATCH]
            size = len(rows)
            share = np.float32(1.0 / size)
            h0 = np.dot(rows, w0)
            for i in range(size):
                for j in range(h0.shape[1]):
                    h0[i, j] = max(h0[i, j] + b0[j], np.float32(0))
            h1 = np.dot(h0, w1)
            for i in range(size):
                for j in range(h1.shape[1]):
                    h1[i, j] = max(h1[i, j] + b1[j], np.float32(0))
            logit = np.dot(h1, w2)
            loss = 0.0
            d2 = np.empty_like(logit)
            for i in range(size):
                z = logit[i, 0] + b2[0]
                loss += max(z, np.float32(0)) - z * truth[i] + np.log1p(np.exp(-abs(z)))
                d2[i, 0] = (np.float32(1) / (np.float32(1) + np.exp(-z)) - truth[i]) * share
            norms = 0.0
            for weight in (w0, w1):
                for value in weight.ravel():
                    norms += value * value
            for value in w2.ravel():
                norms += value * value
            total += loss + 0.5 * PENALTY * norms
            d1 = np.dot(d2, w2.T)
            for i in range(size):
                for j in range(d1.shape[1]):
                    if h1[i, j] == 0:
                        d1[i, j] = 0
            d0 = np.dot(d1, w1.T)
            for i in range(size):
                for j in range(d0.shape[1]):
                    if h0[i, j] == 0:
                        d0[i, j] = 0
            decay = np.float32(PENALTY) * share
            g2, g1, g0 = np.dot(h1.T, d2) + decay * w2, np.dot(h0.T, d1) + decay * w1, np.dot(rows.T, d0) + decay * w0
            steps += 1
            rate = np.float32(RATE * np.sqrt(1 - SECOND**steps) / (1 - FIRST**steps))
            adam(w0, g0, m0, v0, rate)
            adam(w1, g1, m1, v1, rate)
            adam(w2, g2, m2, v2, rate)
            adam(b0, d0.sum(0), k0, u0, rate)
            adam(b1, d1.sum(0), k1, u1, rate)
            adam(b2, d2.sum(0), k2, u2, rate)
        return total / n, steps

    return epoch
