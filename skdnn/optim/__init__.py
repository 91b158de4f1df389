"""Optimizers and learning-rate schedules: formulas of flat arrays of parameters."""

from . import schedules, solvers
from .solvers import (
    AccumulateMomentum,
    AddL2Gradient,
    ClipByGlobalNorm,
    DecayWeights,
    Optimizer,
    ScaleByAdam,
    ScaleByLearningRate,
    ScaleByNAdam,
    ScaleByRMS,
    Transform,
)

__all__ = [
    "AccumulateMomentum",
    "AddL2Gradient",
    "ClipByGlobalNorm",
    "DecayWeights",
    "Optimizer",
    "ScaleByAdam",
    "ScaleByLearningRate",
    "ScaleByNAdam",
    "ScaleByRMS",
    "Transform",
    "schedules",
    "solvers",
]
