"""Networks: layers of layers, members, and their parameters as a flat array.

All parameters of all members live in one C-contiguous array of shape (n_members, n_params): the
trainable ones first, and then the statistics of some layers, which no gradient moves.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..engine.ops import concat
from .layers import Array, Context, Grads, Layer, Params, ParamSpec


@dataclass(frozen=True)
class Sequential(Layer):
    """Apply layers one after the other.

    Forward:  ``y = f_k(... f_2(f_1(x)))``

    Backward: the chain rule, from the last layer to the first.

    Shape: x (n_samples, n_in), y (n_samples, n_out of the last layer).

    Parameters
    ----------
    layers : tuple of Layer
        From the input to the output.

    Examples
    --------
    >>> from skdnn.nn import Activation, Dense, Sequential
    >>> layers = Sequential((Dense(4), Activation("relu"), Dense(1)))
    >>> layers.n_out(3), [name for name, _, _ in layers.children(3)]
    (1, ['dense_1', 'activation_1', 'dense_2'])
    """

    layers: tuple[Layer, ...]

    def children(self, n_in: int) -> Iterator[tuple[str, Layer, int]]:
        """Yield the layers with their names: dense_1, activation_1, dense_2, ...

        Parameters
        ----------
        n_in : int
            The number of inputs of the first layer.

        Yields
        ------
        name : str
            The class of the layer, and its count so far.
        layer : Layer
            The layer.
        n_in : int
            Its number of inputs.
        """
        count: Counter[str] = Counter()
        for layer in self.layers:
            kind = type(layer).__name__.lower()
            count[kind] += 1
            yield f"{kind}_{count[kind]}", layer, n_in
            n_in = layer.n_out(n_in)

    def n_out(self, n_in: int) -> int:
        for layer in self.layers:
            n_in = layer.n_out(n_in)
        return n_in

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        return self._run(x, p, ctx)[1]

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        grads, (steps, _) = Grads(), self._run(x, p, ctx)
        for name, layer, x_in in reversed(steps):
            grad_x, own = layer.backward(grad_y, x_in, p[name], ctx[name])
            grad_y = _checked(grad_x, x_in.shape, layer, "backward")
            grads |= {f"{name}.{key}": grad for key, grad in own.items()}
        return grad_y, grads

    def statistics(self, x: Array, p: Params, ctx: Context) -> Grads:
        return _statistics(self._run(x, p, ctx)[0], p, ctx)

    def _run(self, x: Array, p: Params, ctx: Context) -> tuple[list[Any], Array]:
        """Return name, layer and input of each layer, and the output of the last one."""
        steps = []
        for name, layer, n_in in self.children(x.shape[1]):
            steps.append((name, layer, x))
            y = layer.forward(x, p[name], ctx[name])
            x = _checked(y, (len(x), layer.n_out(n_in)), layer, "forward")
        return steps, x


def _statistics(steps: Iterable[tuple[str, Layer, Array]], p: Params, ctx: Context) -> Grads:
    """Return the statistics of some layers, each with its name and its input."""
    values = Grads()
    for name, layer, x in steps:
        own = layer.statistics(x, p[name], ctx[name])
        values |= {f"{name}.{key}": value for key, value in own.items()}
    return values


def _checked(array: Array, shape: tuple[int, ...], layer: Layer, method: str) -> Array:
    """Return what a layer returns if it has the right shape; one of NumPy becomes read-only."""
    found = getattr(array, "shape", None)
    if found != shape:
        raise ValueError(
            f"{type(layer).__name__}.{method} must return an array of the shape {shape}, got "
            f"{type(array).__name__ if found is None else found}."
        )
    if isinstance(array, np.ndarray):  # a layer that writes into what enters it is told so
        array = array.view()
        array.flags.writeable = False
    return array


@dataclass(frozen=True)
class Residual(Sequential):
    """Add the output of some layers to their input.

    Forward:  ``y = x + f(x)``, f the layers one after the other

    Backward: ``grad_x = grad_y + f'(x)^T grad_y``

    The gradient reaches x undiminished whatever f is, and f only has to learn a correction of x.

    Shape: x and y (n_samples, n_units).

    Parameters
    ----------
    layers : tuple of Layer
        The layers of f, which ends with as many units as it begins with.

    Raises
    ------
    ValueError
        By `n_out`, if it ends with another number of them.

    References
    ----------
    K. He, X. Zhang, S. Ren and J. Sun, "Deep residual learning for image recognition", CVPR 2016,
    arXiv:1512.03385.

    Examples
    --------
    >>> from skdnn.nn import Activation, Dense, Residual
    >>> Residual((Dense(16), Activation("silu"), Dense(8))).n_out(8)
    8
    """

    def n_out(self, n_in: int) -> int:
        n_out = super().n_out(n_in)
        if n_out != n_in:
            raise ValueError(
                f"The layers of a Residual must end with as many units as they begin with, "
                f"{n_in}, got {n_out}; change their widths or leave the Residual out."
            )
        return n_in

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        return x + super().forward(x, p, ctx)

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        grad_x, grads = super().backward(grad_y, x, p, ctx)
        return grad_y + grad_x, grads


@dataclass(frozen=True)
class Branch:
    """Apply layers to some columns: a branch of a `Concatenate`.

    Without layers, the columns are passed on.

    Parameters
    ----------
    n_columns : int
        The number of columns; they follow those of the branches before.
    layers : tuple of Layer, default=()
        The layers, one after the other.

    Examples
    --------
    >>> from skdnn.nn import Branch, Concatenate, Dense
    >>> Concatenate((Branch(2, (Dense(5),)), Branch(3))).n_out(5)
    8
    """

    n_columns: int
    layers: tuple[Layer, ...] = ()


@dataclass(frozen=True)
class Concatenate(Layer):
    """Apply layers of its own to each range of columns, and concatenate the outputs.

    Forward:  ``y = [f_1(x_1), f_2(x_2), ...]``, x_j the columns of branch j and f_j its layers

    Backward: ``grad_x = [f_1'(x_1)^T grad_y_1, f_2'(x_2)^T grad_y_2, ...]``

    A table has columns of several kinds, such as numbers and categories.

    Shape: x (n_samples, n_in), with n_in the sum of the branches' n_columns; y (n_samples, sum of
    their n_out).

    Parameters
    ----------
    branches : tuple of Branch
        The ranges from left to right, ``Branch(n_columns, layers)``. One without layers passes its
        columns on.

    Raises
    ------
    ValueError
        By `n_out`, if the branches do not take all columns, or one of them takes none.

    Examples
    --------
    >>> from skdnn.nn import Branch, CategoricalEmbedding, Concatenate, Dense
    >>> lookup = CategoricalEmbedding(sizes=(12, 31), n_units=(4, 5))
    >>> Concatenate((Branch(3), Branch(2, (lookup,)))).n_out(5)
    12
    """

    branches: tuple[Branch, ...]

    def children(self, n_in: int) -> Iterator[tuple[str, Layer, int]]:
        """Yield the branches: branch_1, branch_2, ...

        Parameters
        ----------
        n_in : int
            The number of columns.

        Yields
        ------
        name : str
            The name of the branch.
        layers : Sequential
            Its layers as one.
        n_columns : int
            The number of its columns.
        """
        for i, branch in enumerate(self.branches, start=1):
            yield f"branch_{i}", Sequential(branch.layers), branch.n_columns

    def n_out(self, n_in: int) -> int:
        n_columns = [branch.n_columns for branch in self.branches]
        if sum(n_columns) != n_in or min(n_columns, default=1) < 1:
            raise ValueError(
                f"The branches of a Concatenate must take at least one column each and all "
                f"{n_in} together, got n_columns={n_columns!r}; change them to add up."
            )
        return sum(layers.n_out(n) for _, layers, n in self.children(n_in))

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        return concat([f.forward(x_j, p[j], ctx[j]) for j, f, x_j in self._inputs(x)], axis=1)

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        grads_x, grads, start = [], Grads(), 0
        for j, f, x_j in self._inputs(x):
            stop = start + f.n_out(x_j.shape[1])
            grad_x, own = f.backward(grad_y[:, start:stop], x_j, p[j], ctx[j])
            grads_x.append(grad_x)
            grads |= {f"{j}.{key}": grad for key, grad in own.items()}
            start = stop
        return concat(grads_x, axis=1), grads

    def statistics(self, x: Array, p: Params, ctx: Context) -> Grads:
        return _statistics(self._inputs(x), p, ctx)

    def _inputs(self, x: Array) -> Iterator[tuple[str, Layer, Array]]:
        """Yield the names j of the branches, their layers f and the columns x_j that they take."""
        start = 0
        for name, layers, n_columns in self.children(x.shape[1]):
            yield name, layers, x[:, start : start + n_columns]
            start += n_columns


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
        self.lr_factors: tuple[tuple[int, float], ...] = ()
        self._names: dict[bool, list[str]] = {True: [], False: []}  # of trainable ones and others

        def place(name: str) -> tuple[bool, bool, float]:
            spec = self.specs[name]
            return not spec.trainable, not spec.weight_decay, spec.lr_scale

        for name in sorted(self.specs, key=place):
            spec = self.specs[name]
            start, size = self.n_params, math.prod(spec.shape)
            self.n_params = start + size
            self.columns[name] = slice(start, self.n_params)
            self._names[spec.trainable].append(name)
            if spec.trainable:
                self.n_trainable = self.n_params
                self.n_decayed = self.n_params if spec.weight_decay else self.n_decayed
                self.lr_factors += ((size, spec.lr_scale),)

    def view(self, flat: np.ndarray, name: str) -> np.ndarray:
        """View one parameter of all members: shape (n_members, *spec.shape)."""
        return flat[:, self.columns[name]].reshape(len(flat), *self.specs[name].shape)

    def unflatten(self, trainable: Array, statistics: Array = None) -> Params:
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
        return self._join(grads, trainable=True)

    def flatten_statistics(self, values: Grads, params: Params) -> Array:
        """Return one member's statistics as one array, those that have no new value as before."""
        known = {name: getattr(params, name) for name in self._names[False]}
        return self._join(known | values, trainable=False)

    def _join(self, arrays: Grads, *, trainable: bool) -> Array:
        """Join arrays of all parameters that are trainable, or of all that are not."""
        names = self._names[trainable]
        if set(names) != arrays.keys():
            must = "Layer.statistics must return values of parameters that are not trainable"
            if trainable:
                must = "The backward pass must return a gradient of each trainable parameter"
            raise ValueError(f"{must} and of nothing else, {sorted(names)}, got {sorted(arrays)}.")
        flat = []
        for name in names:
            shape, found = self.specs[name].shape, getattr(arrays[name], "shape", None)
            if found != shape:
                what = "gradient" if trainable else "new value"
                raise ValueError(
                    f"The {what} of the parameter {name!r} must have its shape, {shape}, got "
                    f"{found}."
                )
            flat.append(arrays[name].reshape(-1))
        return concat(flat)


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
        return max(layer.n_out(n) for _, layer, n in Sequential(self.layers).children(self.n_in))

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
