"""Critics that are trained."""

from implicit_estimators.critics.conditional import ConditionalCritic
from implicit_estimators.critics.default import make_critic
from implicit_estimators.critics.images import ConvCritic
from implicit_estimators.critics.minibatch import MinibatchCritic, MinibatchDiscrimination
from implicit_estimators.critics.with_features import LogitAndFeatures

__all__ = [
    "ConditionalCritic",
    "ConvCritic",
    "LogitAndFeatures",
    "MinibatchCritic",
    "MinibatchDiscrimination",
    "make_critic",
]
