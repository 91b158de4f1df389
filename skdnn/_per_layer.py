"""Parameters that have one value for each hidden layer, or one for all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from numbers import Integral, Real
from typing import Any

import numpy as np

from .activations import ACTIVATIONS


def check_hidden_layer_sizes(hidden_layer_sizes: Any) -> tuple[int, ...]:
    """Return the widths as a tuple; an integer is one layer, an empty sequence none."""
    sizes = _list_values("hidden_layer_sizes", hidden_layer_sizes)
    sizes = sizes if isinstance(sizes, tuple) else (sizes,)
    if not all(_is_number(size, Integral) and size > 0 for size in sizes):
        raise ValueError(
            "hidden_layer_sizes must be positive integers, one for each hidden layer, got "
            f"{hidden_layer_sizes!r}."
        )
    return tuple(int(size) for size in sizes)


def check_activation(activation: Any, n_layers: int) -> tuple[Any, ...]:
    """Return one activation function, a name or an object, for each hidden layer."""
    functions = _spread("activation", activation, n_layers)
    for function in functions:
        is_named = isinstance(function, str) and function in ACTIVATIONS
        if not is_named and not _is_function(function):
            raise ValueError(
                f"activation must be one of {sorted(ACTIVATIONS)} or an object with the methods "
                f"value and derivative, got {function!r}."
            )
    return functions


def check_dropout(dropout: Any, n_layers: int) -> tuple[float, ...]:
    """Return one dropout rate for each hidden layer."""
    rates = _spread("dropout", dropout, n_layers)
    if not all(_is_number(rate, Real) and 0.0 <= float(rate) < 1.0 for rate in rates):
        raise ValueError(
            "dropout must be a probability in [0, 1), or one for each hidden layer, got "
            f"{dropout!r}."
        )
    return tuple(float(rate) for rate in rates)


def _spread(name: str, value: Any, n_layers: int) -> tuple[Any, ...]:
    """Return one value for each hidden layer."""
    values = _list_values(name, value)
    if not isinstance(values, tuple):
        return (values,) * n_layers
    if len(values) != n_layers:
        raise ValueError(
            f"{name} must be one value or one for each of the {n_layers} hidden layers, got "
            f"{len(values)}: {value!r}."
        )
    return values


def _list_values(name: str, value: Any) -> Any:
    """Return a tuple of values, or a single value as it is; an array of no dimensions is single."""
    if isinstance(value, Set | Mapping):
        raise ValueError(
            f"{name} must be one value, or a sequence with one for each hidden layer, got a "
            f"{type(value).__name__}, {value!r}, which does not say which is whose. Pass a list."
        )
    if isinstance(value, np.ndarray):
        value = value.tolist()
    is_one = isinstance(value, str) or _is_function(value) or not isinstance(value, Iterable)
    if is_one:
        return value
    return tuple(v.item() if isinstance(v, np.ndarray) and v.ndim == 0 else v for v in value)


def _is_function(value: Any) -> bool:
    return hasattr(value, "value") and hasattr(value, "derivative")


def _is_number(value: Any, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool | np.bool_)
