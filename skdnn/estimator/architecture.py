"""The network that parameters and the columns of a table describe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from math import sqrt
from typing import Any

import numpy as np

from ..nn import (
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
    Sequential,
)
from ..nn.activations import ACTIVATIONS, Identity, Logistic, make_activation
from ..nn.initializers import (
    INITIALIZERS,
    Scaled,
    UniformWithin,
    normal_of_random_scale,
    standard_normal,
    zeros,
)
from ..nn.network import Network
from ..preprocessing import TabularEncoder
from ..preprocessing.categories import FIRST_LEVEL, LARGEST_CODE, ROWS_TO_EMBED, have_few_rows
from ..training.fitted_layers import N_STATISTICS, N_TABLES
from ..utils import StrOptions
from .parameters import COUNT, MOST_EMBEDDED, OWN_ACTIVATION, SEQUENCES, SHARE, ResolvedParameters

NORMALIZATIONS: dict[str, Layer] = {"batch": BatchNorm(), "layer": LayerNorm()}

KINDS: dict[str | None, tuple[str, ...]] = {
    None: ("",),
    "periodic": ("periodic",),
    "piecewise": ("piecewise_linear",),
    "mixed": ("periodic", "piecewise_linear"),
}
"""The kinds of embeddings of each `numeric_embedding`, which members take turns in."""

LARGEST_EMBEDDING = ROWS_TO_EMBED
"""Units that describe a category, at most."""

MANY_COLUMNS = 300
"""In tables too wide for an embedding, steps of the first weights move units no farther than with
so many columns."""


BY_LAYER: dict[str, tuple[tuple[Any, ...], str]] = {
    "activation": (
        (StrOptions(set(ACTIVATIONS)), OWN_ACTIVATION),
        f"one of {sorted(ACTIVATIONS)} or an object with the methods value and derivative",
    ),
    "dropout": ((SHARE,), "a probability in [0, 1), or one for each hidden layer"),
}
"""What the value of each hidden layer satisfies one of, and how a message says that."""


@dataclass(frozen=True)
class Architecture:
    """A network of dense layers that ends in one logit, as `build_network` makes it.

    From left to right, the columns that enter are numbers to embed, columns to take as they are,
    and codes.

    Attributes
    ----------
    n_columns : int
        Columns of the matrix that enters.
    hidden_layer_sizes : tuple of int and Layer
        The widths of hidden layers, and layers to take as they are.
    activation, dropout : tuples
        Activation function and dropout rate of each width.
    initialization : str
        A name from `skdnn.nn.initializers`; "auto" takes the one that suits the activation after
        each layer, and Glorot's for the output. "mlp" begins as MLPClassifier does; the output
        layer then goes by the activation before it.
    normalization : {"batch", "layer"} or None
        What each hidden layer normalises its units over: the rows of the batch, or the units.
    residual : bool
        Whether each hidden layer, from the second on, that is as wide as its input adds to it.
    n_members : int
        Networks side by side.
    first_member : int
        The number of the first of them, where they are some of more.
    embedding : str or None
        How numbers are embedded, as in `KINDS`.
    n_embedded : int
        Numbers to embed.
    code_sizes : tuple of int
        The number of levels of each column of codes.
    target_encoded : tuple of int
        The columns whose codes stand for statistics of the target; others are for units to learn.
    lr_scale : float
        The factor of the learning rate of the first weights.
    """

    n_columns: int
    hidden_layer_sizes: tuple[Any, ...]
    activation: tuple[Any, ...]
    dropout: tuple[float, ...]
    initialization: str = "auto"
    normalization: str | None = None
    residual: bool = False
    n_members: int = 1
    first_member: int = 0
    embedding: str | None = None
    n_embedded: int = 0
    code_sizes: tuple[int, ...] = ()
    target_encoded: tuple[int, ...] = ()
    lr_scale: float = 1.0

    @classmethod
    def of(
        cls,
        parameters: ResolvedParameters,
        encoder: Any,
        matrix: Any,
        target_encoded: tuple[int, ...] = (),
    ) -> Architecture:
        """Describe the network of an estimator; check the parameters that may differ by layer.

        A step of the usual size moves each first weight by about the learning rate, and what a unit
        adds up by that times the number of columns, where these rise and fall together. Of many
        columns the rate is lower in proportion. Rows of sparse tables have few numbers, and those
        of other encoders are of any size.
        """
        n_columns, sizes = matrix.shape[1], check_hidden_layer_sizes(parameters.hidden_layer_sizes)
        n_widths = sum(not isinstance(size, Layer) for size in sizes)
        is_wide = isinstance(encoder, TabularEncoder) and n_columns > MOST_EMBEDDED
        return cls(
            n_columns=n_columns,
            hidden_layer_sizes=sizes,
            activation=check_by_layer("activation", parameters.activation, n_widths),
            dropout=tuple(map(float, check_by_layer("dropout", parameters.dropout, n_widths))),
            initialization=parameters.initialization,
            normalization=parameters.normalization,
            residual=parameters.residual,
            n_members=parameters.n_members,
            embedding=parameters.numeric_embedding,
            n_embedded=0 if parameters.numeric_embedding is None else parameters.n_embedded,
            code_sizes=getattr(encoder, "code_sizes_", ()),
            target_encoded=target_encoded,
            lr_scale=MANY_COLUMNS / n_columns if is_wide else 1.0,
        )


def choose_target_encoded(
    parameters: ResolvedParameters, encoder: Any, X: Any, known: Architecture | None, is_part: bool
) -> tuple[int, ...]:
    """Return the columns of codes whose levels have too few rows to learn units for each of them.

    Training that goes on has the columns that are `known`. Of a part of a table nobody knows how
    many rows follow, and L-BFGS takes no other statistics than those of a batch.
    """
    if parameters.target_encoding is None or parameters.solver == "lbfgs":
        return ()
    if known is not None:
        return known.target_encoded
    if is_part or not isinstance(encoder, TabularEncoder):
        return ()
    n_plain = X.shape[1] - len(encoder.code_sizes_)
    return tuple(
        column
        for column, size in enumerate(encoder.code_sizes_, start=n_plain)
        if have_few_rows(np.bincount(X[:, column].astype(np.intp))[FIRST_LEVEL:])
        and N_TABLES * size <= LARGEST_CODE
    )


def build_network(architecture: Architecture) -> Network:
    """Describe a network."""
    members = architecture.n_members, architecture.first_member
    kinds = KINDS[architecture.embedding]
    layers, *others = (_describe_layers(architecture, kind) for kind in kinds)
    return Network(layers, architecture.n_columns, *members, *others)


def _describe_layers(architecture: Architecture, kind: str) -> tuple[Layer, ...]:
    """Describe the layers of a network whose numbers have this kind of embedding.

    Each width is a linear step, its normalisation, its activation, and its dropout; identity and a
    rate of zero leave out the layer that would do nothing.
    """
    layers, g = _describe_input(architecture, kind), make_activation("identity")
    sizes, lr_scale = architecture.hidden_layer_sizes, architecture.lr_scale
    widths = [Sequential(tuple(layers)).n_out(architecture.n_columns)]  # of what enters each layer
    for size in sizes:
        widths.append(size.n_out(widths[-1]) if isinstance(size, Layer) else size)
    adds = [architecture.residual and i > 0 and size == widths[i] for i, size in enumerate(sizes)]
    functions, rates = iter(architecture.activation), iter(architecture.dropout)
    for n_units, width, is_residual in zip(sizes, widths[:-1], adds, strict=True):
        if isinstance(n_units, Layer):
            layers.append(n_units)
            continue
        g, rate = make_activation(next(functions)), next(rates)
        recipe = getattr(g, "initialization", "he_normal")
        dense = _dense(width, n_units, architecture.initialization, g, recipe, lr_scale)
        block: list[Layer] = [_quieten(dense, sum(adds)) if is_residual else dense]
        if architecture.normalization is not None:
            block.append(NORMALIZATIONS[architecture.normalization])
        if not isinstance(g, Identity):
            block.append(Activation(g))
        if rate > 0.0:
            block.append(Dropout(rate))
        layers += [Residual(tuple(block))] if is_residual else block
        lr_scale = 1.0
    recipe = "glorot_uniform"
    layers.append(_dense(widths[-1], 1, architecture.initialization, g, recipe, lr_scale))
    return tuple(layers)


def _describe_input(architecture: Architecture, kind: str) -> list[Layer]:
    """Describe the layers that embed numbers and codes; none if there is nothing to embed."""
    n_columns, n_embedded = architecture.n_columns, architecture.n_embedded
    first_code = n_columns - len(architecture.code_sizes)
    n_plain = first_code - n_embedded
    if n_plain == n_columns:
        return []
    branches = []
    if n_embedded:
        embedding = NumericEmbedding(kind=kind, frequency_init=normal_of_random_scale)
        branches.append(Branch(n_embedded, (embedding,)))
    if n_plain:
        branches.append(Branch(n_plain))
    codes = enumerate(architecture.code_sizes, start=first_code)
    for is_encoded, group in groupby(codes, lambda code: code[0] in architecture.target_encoded):
        lookup = _describe_lookup(tuple(size for _, size in group), is_target_encoded=is_encoded)
        branches.append(Branch(len(lookup.sizes), (lookup,)))
    if len(branches) == 1:
        return [*branches[0].layers, FeatureScaling()]
    return [Concatenate(tuple(branches)), FeatureScaling()]


def _describe_lookup(sizes: tuple[int, ...], *, is_target_encoded: bool) -> CategoricalEmbedding:
    """Describe what looks up codes: the tables of `fit_target_encoding`, or units to learn."""
    if is_target_encoded:
        tables, n_units = tuple(N_TABLES * size for size in sizes), (N_STATISTICS,) * len(sizes)
        return CategoricalEmbedding(tables, n_units, init=zeros, trainable=False)
    n_units = tuple(min(LARGEST_EMBEDDING, size) for size in sizes)
    return CategoricalEmbedding(sizes, n_units, init=draw_levels)


def draw_levels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Draw the first rows of an embedding of categories from N(0, 1).

    Those of unknown and missing categories are zero: where no row of the table teaches them
    anything, they go on saying nothing.
    """
    values = standard_normal(rng, shape)
    values[:FIRST_LEVEL] = 0.0
    return values


def _quieten(dense: Dense, n_residual: int) -> Dense:
    """Divide the first weights by the root of the number of residual layers.

    Each of them adds to the variance what it is given; n of them would make it 2^n times as large,
    and so make it ``(1 + 1/n)^n < e`` times.
    """
    return replace(dense, weight_init=Scaled(dense.weight_init, 1.0 / sqrt(n_residual)))


def _dense(
    n_in: int, n_units: int, initialization: str, g: Any, recipe: str, lr_scale: float
) -> Dense:
    """Describe a linear step; `recipe` is what "auto" stands for."""
    if initialization == "mlp":
        factor = 2.0 if isinstance(g, Logistic) else 6.0
        within = UniformWithin(sqrt(factor / (n_in + n_units)))
        return Dense(n_units, weight_init=within, bias_init=within)
    recipe = recipe if initialization == "auto" else initialization
    return Dense(n_units, INITIALIZERS[recipe], lr_scale=lr_scale)


def check_hidden_layer_sizes(hidden_layer_sizes: Any) -> tuple[Any, ...]:
    """Return widths and layers as a tuple; an integer is one layer, an empty sequence none."""
    sizes = _list_values(hidden_layer_sizes)
    checked = []
    for size in sizes if isinstance(sizes, list) else [sizes]:
        if not isinstance(size, Layer) and not COUNT.is_satisfied_by(size):
            raise ValueError(
                "hidden_layer_sizes must be positive integers, one for each hidden layer, or "
                f"objects that derive from skdnn.nn.Layer, got {hidden_layer_sizes!r}."
            )
        checked.append(size if isinstance(size, Layer) else int(size))
    return tuple(checked)


def check_by_layer(name: str, value: Any, n_layers: int) -> tuple[Any, ...]:
    """Return one value for each hidden layer, all of them checked; a single one is that of all."""
    constraints, wanted = BY_LAYER[name]
    values = _list_values(value)
    values = values if isinstance(values, list) else [values] * n_layers
    if len(values) != n_layers:
        raise ValueError(
            f"{name} must be one value or one for each of the {n_layers} hidden layers, got "
            f"{len(values)}: {value!r}."
        )
    for own in values:
        if not any(constraint.is_satisfied_by(own) for constraint in constraints):
            raise ValueError(f"{name} must be {wanted}, got {value!r}.")
    return tuple(values)


def _list_values(value: Any) -> Any:
    """Return a sequence or an array as a list, and a single value as it is."""
    value = np.asarray(value).tolist() if hasattr(value, "__array__") else value
    return list(value) if isinstance(value, SEQUENCES) else value
