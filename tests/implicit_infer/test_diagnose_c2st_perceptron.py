"""The compiled perceptron of C2ST takes scikit-learn's steps."""

import numpy as np
import pytest

from implicit_infer.diagnose.c2st_perceptron import predictions


@pytest.mark.parametrize(("d", "shift"), [(1, 0.5), (2, 1.0), (3, 2.0)])
def test_the_same_predictions_as_scikit_learn(d, shift):
    """Where training ends after few epochs, rounding has no time to move a prediction away from the border."""
    from sklearn.neural_network import MLPClassifier

    random = np.random.default_rng(d)
    x = random.normal(size=(1500, d)).astype(np.float32)
    labels = np.repeat([0, 1, 0], 500)
    x[labels == 1] += shift
    theirs = MLPClassifier((10 * d, 10 * d), max_iter=10_000, random_state=d).fit(x[:1000], labels[:1000])
    ours = predictions(x[:1000], labels[:1000], x[1000:], 10 * d, d)
    assert (ours == theirs.predict(x[1000:])).mean() > 0.99
    assert 0 < ours.mean() < 1


def test_the_same_seed_gives_the_same_predictions():
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 2)).astype(np.float32)
    labels = (x[:, 0] * x[:, 1] > 0).astype(np.float32)
    first, second = (predictions(x, labels, x, 20, 3) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (first == labels).mean() > 0.9
