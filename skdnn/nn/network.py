"""A network: its layers, and its parameters as a flat array.

All parameters of all members live in one C-contiguous array of shape (n_members, n_params): the
trainable ones first, and then the statistics of some layers, which no gradient moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..engine.ops import concat
from .layers import Array, Grads, Layer, Params, ParamSpec, Sequential


class Layout:
    """Where each parameter of a network stands in the flat array.

    Parameters that decay come first, then the others, then statistics, which are not trainable;
    among these the ones with the same learning-rate factor stand together.

    Parameters
    ----------
    layer : Layer
        The network, or one layer.
    n_in : int
        Its number of inputs.

    Attributes
    ----------
    specs : dict of str to ParamSpec
        By the full names of the parameters, layer by layer.
    columns : dict of str to slice
        From left to right.
    n_params, n_trainable, n_decayed : int
    lr_factors : tuple of (int, float)
        The size of each trainable parameter, and the factor of its learning rate.
    """

    def __init__(self, layer: Layer, n_in: int) -> None:
        self.specs: dict[str, ParamSpec] = {}
        for path, inner, n_inner in layer.walk(n_in):
            for spec in inner.params(n_inner):
                if path + spec.name in self.specs:
                    raise ValueError(
                        f"Parameters of a layer must have names that differ, got "
                        f"{path + spec.name!r} twice."
                    )
                self.specs[path + spec.name] = spec
        self.columns: dict[str, slice] = {}
        self.n_params = self.n_trainable = self.n_decayed = 0
        self._trainable: list[str] = []
        self.lr_factors: tuple[tuple[int, float], ...] = ()

        def place(name: str) -> tuple[bool, bool, float]:
            spec = self.specs[name]
            return not spec.trainable, not spec.weight_decay, spec.lr_scale

        for name in sorted(self.specs, key=place):
            spec = self.specs[name]
            start, size = self.n_params, math.prod(spec.shape)
            self.n_params = start + size
            self.columns[name] = slice(start, self.n_params)
            if spec.trainable:
                self._trainable.append(name)
                self.n_trainable = self.n_params
                self.n_decayed = self.n_params if spec.weight_decay else self.n_decayed
                self.lr_factors += ((size, spec.lr_scale),)

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
        if set(self._trainable) != grads.keys():
            raise ValueError(
                f"The backward pass must return a gradient of each trainable parameter and of "
                f"nothing else, {sorted(self._trainable)}, got {sorted(grads)}."
            )
        flat = []
        for name in self._trainable:
            shape = self.specs[name].shape
            if grads[name].shape != shape:
                raise ValueError(
                    f"The gradient of the parameter {name!r} must have its shape, {shape}, got "
                    f"{grads[name].shape}."
                )
            flat.append(grads[name].reshape(-1))
        return concat(flat)

    def flatten_statistics(self, values: Grads, params: Params) -> Array:
        """Return one member's statistics as one array, those that have no new value as before."""
        names = [name for name in self.columns if not self.specs[name].trainable]
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
    other_layers : tuple of Layer, default=()
        The layers of members of odd numbers, where they have others; the names and shapes of their
        parameters are the same.

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
    other_layers: tuple[Layer, ...] = ()

    @cached_property
    def layout(self) -> Layout:
        """The places of the parameters."""
        return Layout(Sequential(self.layers), self.n_in)

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
        return Sequential(self.other_layers if self.kind_of_member(member) else self.layers)

    def kind_of_member(self, member: int) -> int:
        """Return a number that is the same for members of the same layers.

        Parameters
        ----------
        member : int
            Its number, from 0 on.

        Returns
        -------
        kind : int
            1 for those of `other_layers`, 0 for all others.
        """
        return (self.first_member + member) % 2 if self.other_layers else 0

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
            for name, spec in Layout(self.of_member(member), self.n_in).specs.items():
                values = np.asarray(spec.init(rng, spec.shape))
                if values.shape != spec.shape:
                    raise ValueError(
                        f"The first values of the parameter {name!r} must have the shape "
                        f"{spec.shape}, got {values.shape}."
                    )
                self.layout.view(params, name)[member] = values
        return params

    def reset_statistics(self, params: np.ndarray) -> None:
        """Forget what layers have seen of their inputs.

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
            Changed in place.
        """
        rng = np.random.default_rng(0)  # first statistics are constants
        for name, spec in self.layout.specs.items():
            if not spec.trainable:
                self.layout.view(params, name)[...] = spec.init(rng, spec.shape)
