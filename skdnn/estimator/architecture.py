"""From a list with one entry for each layer to the network that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import sqrt
from typing import Any, Literal

from .._network import Network
from .._values import frozen
from ..activations import Activation as ActivationFunction
from ..activations import Identity, Logistic, make_activation
from ..initializers import (
    INITIALIZERS,
    FirstRowsZero,
    NormalOfRandomScale,
    Scaled,
    UniformWithin,
    standard_normal,
)
from ..layers import (
    Activation,
    BatchNorm,
    Branch,
    CategoricalEmbedding,
    Concatenate,
    Dense,
    Dropout,
    FeatureScaling,
    Layer,
    LayerNorm,
    NumericEmbedding,
    Residual,
)
from ..preprocessing.categories import FIRST_LEVEL

NORMALIZATIONS: dict[str, Layer] = {"batch": BatchNorm(), "layer": LayerNorm()}

FREQUENCIES = NormalOfRandomScale(0.05, 1.0)
"""Each member sees the numbers at a resolution of its own: members that differ average well."""

KINDS = {"periodic": ("waves",), "piecewise": ("ramps",), "mixed": ("waves", "ramps")}
"""What a `numeric_embedding` makes of numbers."""

EMBEDDING_INIT = FirstRowsZero(standard_normal, FIRST_LEVEL)

LARGEST_EMBEDDING = 8
"""Units that describe a category, at most."""


@frozen
class InputColumns:
    """What the columns of the matrix that enters a network are, from left to right.

    Numbers to embed, by one of `KINDS`, come first; columns to take as they are follow, and last
    come columns of codes, each with the number of its levels.
    """

    n_columns: int
    n_embedded: int = 0
    code_sizes: tuple[int, ...] = ()
    embedding: str | None = None

    @property
    def n_plain(self) -> int:
        """Columns that are taken as they are."""
        return self.n_columns - self.n_embedded - len(self.code_sizes)


def build_network(
    columns: InputColumns | int,
    *,
    hidden_layer_sizes: Sequence[int],
    activation: Sequence[Any],
    dropout: Sequence[float],
    initialization: str = "auto",
    normalization: Literal["batch", "layer"] | None = None,
    residual: bool = False,
    n_members: int = 1,
) -> Network:
    """Describe a network of dense layers that ends in one logit.

    Each hidden layer is a linear step, its normalisation, its activation, and its dropout; identity
    and a rate of zero leave out the layer that would do nothing.

    Parameters
    ----------
    columns : InputColumns or int
        What enters; a number of columns stands for ones to take as they are.
    hidden_layer_sizes, activation, dropout : sequences of the same length
        Width, activation function and dropout rate of each hidden layer.
    initialization : str, default="auto"
        A name from `skdnn.initializers`; "auto" takes the one that suits the activation after each
        layer, and Glorot's for the output. "mlp" begins as MLPClassifier does; the output layer
        then goes by the activation before it.
    normalization : {"batch", "layer"} or None, default=None
        What each hidden layer normalises its units over: the rows of the batch, or the units.
    residual : bool, default=False
        Whether each hidden layer, from the second on, that is as wide as its input adds to it.
    n_members : int, default=1
        Networks side by side.
    """
    if not isinstance(columns, InputColumns):
        columns = InputColumns(columns)
    layers = _describe_input(columns)
    n_first, width, g = len(layers), columns.n_columns, make_activation("identity")
    for layer in layers:
        width = layer.plan(width).n_out
    n_residual = sum(n == before for before, n in pairwise(hidden_layer_sizes)) if residual else 0
    for n_units, function, rate in zip(hidden_layer_sizes, activation, dropout, strict=True):
        g = make_activation(function)
        is_residual = residual and len(layers) > n_first and n_units == width
        dense = _dense(width, n_units, initialization, g, g.initialization)
        block: list[Layer] = [_quieten(dense, n_residual) if is_residual else dense]
        if normalization is not None:
            block.append(NORMALIZATIONS[normalization])
        if not isinstance(g, Identity):
            block.append(Activation(g))
        if rate > 0.0:
            block.append(Dropout(rate))
        layers += [Residual(tuple(block))] if is_residual else block
        width = n_units
    layers.append(_dense(width, 1, initialization, g, "glorot_uniform"))
    return Network(tuple(layers), columns.n_columns, n_members)


def _describe_input(columns: InputColumns) -> list[Layer]:
    """Describe the layers that make numbers of few columns into many, and codes into numbers."""
    if columns.n_plain == columns.n_columns:
        return []
    branches = []
    if columns.embedding is not None:
        embedding = NumericEmbedding(kinds=KINDS[columns.embedding], frequency_init=FREQUENCIES)
        branches.append(Branch(columns.n_embedded, (embedding,)))
    if columns.n_plain:
        branches.append(Branch(columns.n_plain))
    if columns.code_sizes:
        n_units = tuple(min(LARGEST_EMBEDDING, size) for size in columns.code_sizes)
        lookup = CategoricalEmbedding(columns.code_sizes, n_units, init=EMBEDDING_INIT)
        branches.append(Branch(len(columns.code_sizes), (lookup,)))
    return [Concatenate(tuple(branches)), FeatureScaling()]


def _quieten(dense: Dense, n_residual: int) -> Dense:
    """Divide the first weights by the root of the number of residual layers.

    Each of them adds to the variance what it is given; n of them would make it 2^n times as large,
    and so make it ``(1 + 1/n)^n < e`` times.
    """
    return replace(dense, weight_init=Scaled(dense.weight_init, 1.0 / sqrt(n_residual)))


def _dense(
    n_in: int, n_units: int, initialization: str, g: ActivationFunction, recipe: str
) -> Dense:
    """Describe a linear step; `recipe` is what "auto" stands for."""
    if initialization == "mlp":
        factor = 2.0 if isinstance(g, Logistic) else 6.0
        within = UniformWithin(sqrt(factor / (n_in + n_units)))
        return Dense(n_units, weight_init=within, bias_init=within)
    return Dense(n_units, INITIALIZERS[recipe if initialization == "auto" else initialization])
