"""From what `fit` is given to a training that can begin: plan, state and rows, all checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..preprocessing import TabularEncoder
from ..training.identical_rows import repeat_shared
from ..training.rows import Rows
from ..training.state import TrainingPlan, TrainingState
from .checks import check_groups, read_parameters
from .fitted import resume_training
from .parameters import (
    FULL_BATCH,
    MERGED_TABLE,
    can_be_merged,
    describe_architecture,
    first_state,
    make_plan,
    resolve_auto,
    tell_choices,
)
from .tables import describe_columns, read_training_rows


def prepare(
    estimator: Any,
    X,
    y,
    sample_weight,
    *,
    given=None,
    groups=None,
    classes=None,
    is_part: bool = False,
) -> tuple[TrainingPlan, TrainingState, Rows, Rows | None]:
    """Check everything; return the plan, the state to begin from, the rows to train on.

    The last of the four are validation rows, where X, y and weights of them are `given`. The rows
    to train on know their groups. The estimator gets its network, its `resolved_params_`, and what
    is known of the table.
    """
    continues = (is_part or estimator.warm_start) and hasattr(estimator, "params_")
    rows, held_out = read_training_rows(
        estimator, X, y, sample_weight, given, classes, continues=continues, is_part=is_part
    )
    if groups is not None:
        rows = rows.with_groups(check_groups(groups, X))
    wanted = read_parameters(estimator)
    known = estimator.resolved_params_ if continues else {}
    rows, parameters = _merge_rows(rows, wanted, known, is_part=is_part)
    columns = describe_columns(
        estimator._encoder, rows.X, parameters["numeric_embedding"], parameters["n_members"]
    )
    architecture = describe_architecture(parameters, columns)
    if continues:
        _check_same_network(estimator, architecture)
    estimator._describe(architecture)
    plan = make_plan(
        parameters,
        estimator._network,
        rows,
        is_part=is_part,
        is_validated=held_out is not None,
        is_scaled=isinstance(estimator._encoder, TabularEncoder),
    )
    estimator.resolved_params_ = tell_choices(
        wanted,
        parameters,
        plan,
        encoder=estimator.encoder_,
        columns=columns,
        dtype=rows.X.dtype,
    )
    if continues:
        return plan, resume_training(estimator, plan), rows, held_out
    seed = check_random_state(estimator.random_state).randint(np.iinfo(np.int32).max)
    return plan, first_state(plan, seed, rows.X.dtype), rows, held_out


def _merge_rows(
    rows: Rows, wanted: dict[str, Any], known: dict[str, Any], *, is_part: bool
) -> tuple[Rows, dict[str, Any]]:
    """Return the rows, identical ones merged if they may be, and the parameters for as many."""
    parameters = resolve_auto(wanted, len(rows), known)
    if is_part or not can_be_merged(rows, parameters):
        return rows, parameters
    rows = rows.merge_identical()
    if wanted["solver"] not in FULL_BATCH:
        rows = repeat_shared(rows, MERGED_TABLE)
    return rows, resolve_auto(wanted, len(rows), known)


def _check_same_network(estimator: Any, architecture: dict[str, Any]) -> None:
    """Refuse to go on with another network than the one that has been trained."""
    free = ("dropout",) if isinstance(estimator.dropout, str) else ()  # it changes no parameter
    changed = [
        name
        for name, value in architecture.items()
        if name not in free and value != estimator._architecture[name]
    ]
    if changed:
        raise ValueError(
            f"Training can only go on with the same network, but {', '.join(changed)} changed "
            "since the first fit. Set them back, or train anew with warm_start=False."
        )
