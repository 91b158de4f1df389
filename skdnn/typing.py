"""Types of what public functions take, for annotations; their docstrings say what is meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from numpy.typing import ArrayLike

__all__ = ["ActivationLike", "ArrayLike", "HasShape", "LossLike", "TableLike"]


class HasShape(Protocol):
    """Objects with rows and columns: DataFrames, sparse matrices, tables of Arrow."""

    @property
    def shape(self) -> Any:
        """Numbers of rows and columns."""


class ActivationLike(Protocol):
    """Activation functions, whatever they derive from; see `skdnn.nn.activations`."""

    def value(self, z: Any, /) -> Any:
        """Return g(z)."""

    def derivative(self, z: Any, /) -> Any:
        """Return g'(z)."""


class LossLike(Protocol):
    """Losses of a row, whatever they derive from; see `skdnn.nn.Loss`."""

    def loss(self, y_true: Any, logits: Any, /) -> Any:
        """Return l(y, z)."""

    def derivative(self, y_true: Any, logits: Any, /) -> Any:
        """Return the derivative of l with respect to z."""


TableLike: TypeAlias = ArrayLike | HasShape | Sequence[Sequence[Any]]
"""Tables of n_samples rows and n_features columns: what `fit` and `predict` take as X."""
