"""Functions that formulas are written with, beside operators and the methods of arrays.

They take NumPy arrays of any float or complex dtype (maxima compare real parts, so that gradients
can be checked by the complex step), and what stands for arrays while formulas are traced. NumPy's
functions of the same names do as well.

- ``exp``, ``expm1``, ``log``, ``log1p``, ``sqrt``, ``tanh``, ``erf``, ``sigmoid``, ``softplus``,
  ``normal_cdf``, ``normal_pdf``: of each element.
- ``maximum``, ``minimum``: of two arrays, element by element.
- ``greater(a, b)``: 1 where a > b, else 0, in the dtype of the arrays; ``where(c, a, b)``: a where
  c is not 0, else b.
- ``sum(a, axis, keepdims)``, ``mean(a, axis, keepdims)``, ``concat(arrays, axis)``,
  ``broadcast_to(a, shape)``, ``ones_like(a)``.
- ``take_rows(table, codes)``: row ``codes[i]`` of a table for each i;
  ``scatter_add(codes, rows, n_rows=n)``: its gradient, a table of n rows, each the sum of those of
  its code.

Operators are ``+ - * / ** @``, comparisons (1 and 0), ``abs`` and minus; methods are ``sum``,
``mean`` and ``reshape``; ``mT`` is the transpose; indices are numbers, ranges, None and ``...``.

Examples
--------
>>> import numpy as np
>>> from skdnn.nn.functions import maximum, softplus
>>> maximum(np.array([-1.0, 2.0]), 0.0)
array([0., 2.])
>>> softplus(np.array([-1000.0, 1000.0]))
array([   0., 1000.])
"""

from __future__ import annotations

import math
from typing import Any

from ..engine.ops import (
    broadcast_to,
    concat,
    erf,
    exp,
    expm1,
    greater,
    log,
    log1p,
    maximum,
    mean,
    minimum,
    ones_like,
    scatter_add,
    sigmoid,
    sqrt,
    sum,  # noqa: A004 - the array API's name
    take_rows,
    tanh,
    where,
)

__all__ = [
    "broadcast_to",
    "concat",
    "erf",
    "exp",
    "expm1",
    "greater",
    "log",
    "log1p",
    "maximum",
    "mean",
    "minimum",
    "normal_cdf",
    "normal_pdf",
    "ones_like",
    "scatter_add",
    "sigmoid",
    "softplus",
    "sqrt",
    "sum",
    "take_rows",
    "tanh",
    "where",
]


def softplus(z: Any) -> Any:
    """Return ``log(1 + e^z) = max(z, 0) + log(1 + e^-|z|)``, which does not overflow."""
    return maximum(z, 0.0) + log1p(exp(minimum(z, -z)))


def normal_cdf(z: Any) -> Any:
    """Return the distribution function of the normal distribution."""
    return 0.5 * (1.0 + erf(z * math.sqrt(0.5)))


def normal_pdf(z: Any) -> Any:
    """Return the density of the normal distribution."""
    return exp(-0.5 * z * z) * (1.0 / math.sqrt(2.0 * math.pi))
