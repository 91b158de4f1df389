"""The solvers by name, each a chain of transforms; the simplest is "gd", with one transform."""

from __future__ import annotations

from typing import Any

from .transforms import (
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

SOLVERS = ("gd", "sgd", "rmsprop", "adam", "adamw", "nadam")


def make_optimizer(
    solver: Any,
    *,
    n_decayed: int,
    lr_factors: tuple[tuple[int, float], ...],
    l2: float = 0.0,
    weight_decay: float = 0.0,
    max_grad_norm: float | None = None,
    momentum: float = 0.9,
    nesterov: bool = True,
    beta_1: float = 0.9,
    beta_2: float = 0.999,
    epsilon: float = 1e-8,
) -> Optimizer:
    """Build a named optimizer from its parts; a transform of one's own stands for a name.

    The penalty's gradient comes first, then clipping, then what is special to the solver; the
    learning rate; momentum; and last the decay of the weights.
    """
    direction: dict[str, Transform | None] = {
        "gd": None,
        "sgd": None,
        "rmsprop": ScaleByRMS(beta_2, epsilon),
        "adam": ScaleByAdam(beta_1, beta_2, epsilon),
        "adamw": ScaleByAdam(beta_1, beta_2, epsilon),
        "nadam": ScaleByNAdam(beta_1, beta_2, epsilon),
    }
    has_momentum = isinstance(solver, str) and solver == "sgd" and momentum > 0
    transforms = (
        AddL2Gradient(l2, n_decayed) if l2 > 0 else None,
        ClipByGlobalNorm(max_grad_norm) if max_grad_norm is not None else None,
        direction[solver] if isinstance(solver, str) else solver,
        ScaleByLearningRate(lr_factors),
        AccumulateMomentum(momentum, nesterov) if has_momentum else None,
        DecayWeights(weight_decay, n_decayed) if weight_decay > 0 else None,
    )
    return Optimizer(tuple(filter(None, transforms)))
