"""Synthetic likelihood: the law of the summaries, estimated from simulations at each parameter."""

from implicit_infer.abc.synthetic.base import LikelihoodEstimate
from implicit_infer.abc.synthetic.bsl import BSL, SemiBSL, UnbiasedBSL
from implicit_infer.abc.synthetic.covariance import GraphicalLasso, Optimal, Ridge, Sample, Shrinkage
from implicit_infer.abc.synthetic.normal import NormalEstimate, UnbiasedEstimate
from implicit_infer.abc.synthetic.semiparametric import SemiParametricEstimate

__all__ = [
    "BSL",
    "GraphicalLasso",
    "LikelihoodEstimate",
    "NormalEstimate",
    "Optimal",
    "Ridge",
    "Sample",
    "SemiBSL",
    "SemiParametricEstimate",
    "Shrinkage",
    "UnbiasedBSL",
    "UnbiasedEstimate",
]
