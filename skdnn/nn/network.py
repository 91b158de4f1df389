"""A network: layers in their places, and its parameters as flat arrays.

All parameters of all members live in one C-contiguous array of shape (n_members, n_params): the
trainable ones first, and then the statistics of some layers, which no gradient moves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..engine.ops import concat
from .layers import Layer, Params, ParamSpec, Sequential
from .layers.base import Array, Grads


class Layout:
    """Where each parameter of a network stands in the flat array.

    Parameters that decay come first, then the others, then statistics, which are not trainable;
    among these the ones with the same learning-rate factor stand together.

    Parameters
    ----------
    specs : sequence of ParamSpec

    Attributes
    ----------
    specs : dict of str to ParamSpec
        By name, in the order of the columns.
    columns : dict of str to slice
    n_params, n_trainable, n_decayed : int
    lr_factors : tuple of (int, float)
        How many trainable parameters follow each other with the same learning-rate factor.
    """

    def __init__(self, specs: Sequence[ParamSpec]) -> None:
        repeated = [name for name, n in Counter(spec.name for spec in specs).items() if n > 1]
        if repeated:
            raise ValueError(f"Parameters of a layer must have names that differ, got {repeated}.")

        ordered = sorted(specs, key=lambda s: (not s.trainable, not s.weight_decay, s.lr_scale))
        self.specs: dict[str, ParamSpec] = {spec.name: spec for spec in ordered}
        self.columns: dict[str, slice] = {}
        self.n_params: int = 0
        self.n_trainable: int = 0
        self.n_decayed: int = 0
        runs: list[tuple[int, float]] = []  # equal factors follow each other
        for spec in ordered:
            size = math.prod(spec.shape)
            self.columns[spec.name] = slice(self.n_params, self.n_params + size)
            self.n_params += size
            if spec.trainable:
                self.n_trainable = self.n_params
                self.n_decayed = self.n_params if spec.weight_decay else self.n_decayed
                if runs and runs[-1][1] == spec.lr_scale:
                    size += runs.pop()[0]
                runs.append((size, spec.lr_scale))
        self.lr_factors: tuple[tuple[int, float], ...] = tuple(runs)
        self._trainable = [spec for spec in ordered if spec.trainable]

    @property
    def largest_matrix(self) -> int:
        """The number of entries of the largest parameter."""
        return max(c.stop - c.start for c in self.columns.values())

    def view(self, flat: np.ndarray, name: str) -> np.ndarray:
        """View one parameter of all members: shape (n_members, *spec.shape)."""
        return flat[:, self.columns[name]].reshape(len(flat), *self.specs[name].shape)

    def unflatten(self, trainable: Array, statistics: Array) -> Params:
        """Return one member's parameters by name, from its flat ones."""
        arrays = {}
        for name, columns in self.columns.items():
            flat, start = trainable, columns.start
            if not self.specs[name].trainable:
                flat, start = statistics, columns.start - self.n_trainable
            part = flat[start : start + columns.stop - columns.start]
            arrays[name] = part.reshape(self.specs[name].shape)
        return Params(arrays)

    def flatten(self, grads: Grads) -> Array:
        """Return one member's gradients as one array (n_trainable,).

        Raises
        ------
        ValueError
            If a gradient is missing, or of another shape than its parameter, or of none.
        """
        unknown = sorted(grads.keys() - {spec.name for spec in self._trainable})
        if unknown:
            raise ValueError(
                f"The backward pass must return gradients of trainable parameters, got some for "
                f"{unknown}; known are {[spec.name for spec in self._trainable]}."
            )
        for spec in self._trainable:
            shape = tuple(grads[spec.name].shape) if spec.name in grads else None
            if shape != spec.shape:
                raise ValueError(
                    f"The backward pass must return a gradient of the shape {spec.shape} for the "
                    f"parameter {spec.name!r}, got {'none' if shape is None else shape}."
                )
        return concat([grads[spec.name].reshape(-1) for spec in self._trainable])

    def flatten_statistics(self, values: Grads, params: Params) -> Array:
        """Return one member's statistics as one array, those that have no new value as before."""
        names = [spec.name for spec in self.specs.values() if not spec.trainable]
        return concat([values.get(n, getattr(params, n)).reshape(-1) for n in names])


@dataclass(frozen=True)
class Network:
    """Describe a stack of layers over some features, for some members.

    Holds descriptions only. The last layer must have one unit: its output is the logit.

    Parameters
    ----------
    layers : tuple of Layer
        From the input to the logit.
    n_in : int
        Features that enter.
    n_members : int, default=1
        Networks with weights of their own.
    first_member : int, default=0
        The number of the first of them, where they are some of more.

    Examples
    --------
    >>> from skdnn.nn import Activation, Dense, Network
    >>> network = Network((Dense(4), Activation("relu"), Dense(1)), n_in=3)
    >>> list(network.layout.columns), network.layout.n_params
    (['dense_1.W', 'dense_2.W', 'dense_1.b', 'dense_2.b'], 21)
    """

    layers: tuple[Layer, ...]
    n_in: int
    n_members: int = 1
    first_member: int = 0

    @cached_property
    def layout(self) -> Layout:
        """The places of the parameters."""
        return Layout(Sequential(self.layers).params(self.n_in))

    def of_member(self, member: int) -> Sequential:
        """Return the layers of a member.

        Parameters
        ----------
        member : int
            Its number, from 0 on.

        Returns
        -------
        layers : Sequential
            The layers as one.
        """
        return Sequential(self.layers).of_member(self.first_member + member)

    @cached_property
    def widest(self) -> int:
        """The number of units that come out of the widest layer."""
        widths, n_in = [1], self.n_in
        for layer in self.layers:
            n_in = layer.n_out(n_in)
            widths.append(n_in)
        return max(widths)

    def check_params(self, params: Any) -> None:
        """Check that these are parameters of this network.

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
            What is checked.

        Raises
        ------
        ValueError
            If they have another shape, or are not of float32 or float64.
        """
        shape, dtype = (self.n_members, self.layout.n_params), getattr(params, "dtype", None)
        if np.shape(params) != shape or dtype not in (np.float32, np.float64):
            raise ValueError(
                f"The parameters of this network have the shape {shape} and are of float32 or "
                f"float64, got {dtype or type(params).__name__} of shape {np.shape(params)}; pass "
                "as many as it has members."
            )

    def init_params(
        self, rngs: Sequence[np.random.Generator], dtype: np.typing.DTypeLike = np.float64
    ) -> np.ndarray:
        """Draw first values; each member draws from its own stream, layer by layer.

        Parameters
        ----------
        rngs : sequence of numpy.random.Generator
            One for each member.
        dtype : dtype, default=float64
            Of the parameters.

        Returns
        -------
        params : ndarray of shape (n_members, n_params)
            All parameters; ``layout.columns`` says where each lies.
        """
        params = np.empty((self.n_members, self.layout.n_params), dtype)
        for member, rng in enumerate(rngs):
            for spec in self.of_member(member).params(self.n_in):
                values = np.asarray(spec.init(rng, spec.shape))
                if values.shape != spec.shape:
                    raise ValueError(
                        f"The first values of the parameter {spec.name!r} must have the shape "
                        f"{spec.shape}, got {values.shape}."
                    )
                params[member, self.layout.columns[spec.name]] = values.reshape(-1)
        return params

    def reset_statistics(self, params: np.ndarray) -> None:
        """Forget what layers have seen of their inputs.

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
            Changed in place.
        """
        rng = np.random.default_rng(0)  # first statistics are constants
        for spec in self.layout.specs.values():
            if not spec.trainable:
                params[:, self.layout.columns[spec.name]] = np.ravel(spec.init(rng, spec.shape))
