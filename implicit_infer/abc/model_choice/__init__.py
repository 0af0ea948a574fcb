"""Model choice: which of several simulators made the observation."""

from implicit_infer.abc.model_choice.base import ChoiceMethod, ModelChoice
from implicit_infer.abc.model_choice.choosing import CHOICE_METHODS, choose_model
from implicit_infer.abc.model_choice.forest import ForestChoice
from implicit_infer.abc.model_choice.rejection import RejectionChoice
from implicit_infer.abc.model_choice.smc import SMCChoice

__all__ = [
    "CHOICE_METHODS",
    "ChoiceMethod",
    "ForestChoice",
    "ModelChoice",
    "RejectionChoice",
    "SMCChoice",
    "choose_model",
]
