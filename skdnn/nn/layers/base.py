"""The base class of layers, and layers made of layers.

A layer is a frozen dataclass of hyperparameters and holds no arrays. Its formulas are pure
functions of arrays of one member, of shape (n_samples, n_units), written with operators and the
functions of `skdnn.nn.functions` or NumPy's of the same names. The backward pass computes again
from the input what it needs of the forward pass: a program computes equal operations once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...engine.ops import N_BITS, concat, dropout_mask
from ..initializers import Initializer

Array = Any
"""A NumPy array, or the symbol that stands for one while formulas are traced."""

Grads = dict[str, Array]


@dataclass(frozen=True)
class ParamSpec:
    """Describe one array of parameters: its name, shape and first values.

    A parameter that is not trainable is a statistic: the layer computes it from the batches of
    training, see `Layer.statistics`. It has no gradient, and never decays.

    Parameters
    ----------
    name : str
        The layer finds the array as ``p.name``.
    shape : tuple of int
        The shape of one member's array.
    init : callable
        ``f(rng, shape) -> array``, the first values; see `skdnn.nn.initializers`.
    weight_decay : bool, default=True
        Whether the penalty `alpha` and `weight_decay` act on it; not for biases.
    lr_scale : float, default=1.0
        Factor of the learning rate.
    trainable : bool, default=True
        Whether the backward pass returns a gradient for it.

    Examples
    --------
    >>> from skdnn.nn import ParamSpec
    >>> from skdnn.nn.initializers import ones
    >>> ParamSpec("s", (3,), ones, weight_decay=False).shape
    (3,)
    """

    name: str
    shape: tuple[int, ...]
    init: Initializer
    weight_decay: bool = True
    lr_scale: float = 1.0
    trainable: bool = True


class Params:
    """Give the parameters of a layer by name, ``p.W``.

    Those of a layer within it are ``p[name]``.

    Parameters
    ----------
    arrays : mapping of str to array
        All parameters by their full names, such as ``"dense_1.W"``.
    prefix : str, default=""
        What the names of this layer's parameters begin with.

    Examples
    --------
    >>> import numpy as np
    >>> from skdnn.nn import Params
    >>> p = Params({"dense_1.b": np.array([1.0, 2.0])})
    >>> p["dense_1"].b
    array([1., 2.])
    """

    __slots__ = ("_arrays", "_prefix")

    def __init__(self, arrays: Mapping[str, Array], prefix: str = "") -> None:
        self._arrays, self._prefix = arrays, prefix

    def __getitem__(self, name: str) -> Params:
        return Params(self._arrays, f"{self._prefix}{name}.")

    def __getattr__(self, name: str) -> Array:
        try:
            return self._arrays[self._prefix + name]
        except KeyError:
            raise AttributeError(f"There is no parameter {self._prefix + name!r}.") from None


@dataclass(frozen=True)
class Context:
    """Say whether the network is being trained, and provide what layers need then.

    The default is a prediction.

    Parameters
    ----------
    training : bool, default=False
        Whether this is training, with dropout and the statistics of the batch.
    sample_weight : array of shape (n_samples,) or None, default=None
        The weights of the rows; None means equal ones.
    take_bits : callable or None, default=None
        ``f(start, size)`` returns some of the random numbers of a step, an array (size,) of uint16.
    path : str, default=""
        The place of the layer in the network.
    bits_of : dict of str to (int, int), default={}
        The start and size of what each layer has taken of them, by its path.

    Examples
    --------
    >>> from skdnn.nn import Context
    >>> Context().training, Context(training=True).training
    (False, True)
    """

    training: bool = False
    sample_weight: Array | None = None
    take_bits: Callable[[int, int], Array] | None = None
    path: str = ""
    bits_of: dict[str, tuple[int, int]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Context:
        """Return the context of a layer within this one."""
        return replace(self, path=f"{self.path}{name}.")

    def dropout_mask(self, x: Array, rate: float) -> Array:
        """Return random factors: 0 with probability `rate`, else 1 / (1 - rate).

        In a step, a layer gets the same factors in the forward and the backward pass.

        Parameters
        ----------
        x : array
            The array to multiply.
        rate : float
            The probability, in [0, 1); rounded to a multiple of 2^-16.

        Returns
        -------
        mask : array
            Of the shape of x.

        Raises
        ------
        ValueError
            If the context has no random bits.
        """
        if self.take_bits is None:
            raise ValueError("A dropout mask needs random bits; give the context some.")
        if self.path not in self.bits_of:
            n_taken = sum(size for _, size in self.bits_of.values())
            self.bits_of[self.path] = n_taken, math.prod(x.shape)
        bits = self.take_bits(*self.bits_of[self.path])
        n_dropped = min(round(rate * N_BITS), N_BITS - 1)
        mask = dropout_mask(bits.reshape(x.shape), n_dropped=n_dropped)
        return mask.astype(x.real.dtype) if isinstance(mask, np.ndarray) else mask


class Layer:
    """Return the input unchanged: the base class of layers.

    A layer of one's own is a frozen dataclass that derives from this class. It defines `params` if
    it has parameters, `n_out` if its output has another width than its input, and `forward` and
    `backward`, which are pure functions: they return new arrays and change none.
    `skdnn.check_gradients` checks `backward`.

    Shape: x (n_samples, n_in), y (n_samples, n_out).

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> from sklearn.datasets import make_moons
    >>> from skdnn import DeepBinaryClassifier, check_gradients
    >>> from skdnn.nn import Layer, ParamSpec
    >>> from skdnn.nn.initializers import zeros
    >>> @dataclass(frozen=True)
    ... class Shift(Layer):
    ...     def params(self, n_in):
    ...         return (ParamSpec("b", (n_in,), zeros, weight_decay=False),)
    ...     def forward(self, x, p, ctx):
    ...         return x + p.b
    ...     def backward(self, grad_y, x, p, ctx):
    ...         return grad_y, {"b": grad_y.sum(axis=0)}
    >>> X, y = make_moons(20, random_state=0)
    >>> check_gradients(DeepBinaryClassifier((Shift(), 5), "tanh"), X, y).passed
    True
    """

    def n_out(self, n_in: int) -> int:
        """Return the number of outputs.

        Parameters
        ----------
        n_in : int
            The number of inputs.

        Returns
        -------
        n_out : int
            The number of inputs, unless a layer overrides it.
        """
        return n_in

    def params(self, n_in: int) -> tuple[ParamSpec, ...]:
        """Return the specifications of the layer's own parameters.

        Parameters
        ----------
        n_in : int
            The number of inputs.

        Returns
        -------
        specs : tuple of ParamSpec
            One for each array of parameters.
        """
        return ()

    def forward(self, x: Array, p: Params, ctx: Context) -> Array:
        """Return the output.

        Parameters
        ----------
        x : array of shape (n_samples, n_in)
            The input.
        p : Params
            The parameters by name.
        ctx : Context
            Whether this is training, and what a layer needs there.

        Returns
        -------
        y : array of shape (n_samples, n_out)
            The output, a new array.
        """
        return x

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        """Return the gradients of the input and of the parameters.

        Parameters
        ----------
        grad_y : array of shape (n_samples, n_out)
            The derivative of the cost by the output.
        x : array of shape (n_samples, n_in)
            The input, as in the forward pass; so are `p` and `ctx`.
        p : Params
            The parameters by name.
        ctx : Context
            Whether this is training, and what a layer needs there.

        Returns
        -------
        grad_x : array of shape (n_samples, n_in)
            The derivative by the input.
        grads : dict of str to array
            The derivative by each trainable parameter, in its shape.
        """
        return grad_y, {}

    def statistics(self, x: Array, p: Params, ctx: Context) -> Grads:
        """Return the new values of parameters that are not trainable, after a batch of training.

        Parameters
        ----------
        x : array of shape (n_samples, n_in)
            The input.
        p : Params
            The parameters by name.
        ctx : Context
            Whether this is training, and what a layer needs there.

        Returns
        -------
        values : dict of str to array
            Those that are left out stay as they are.
        """
        return {}

    def children(self, n_in: int) -> Iterator[tuple[str, Layer, int]]:
        """Return the layers within this one: none, unless a layer overrides it.

        Parameters
        ----------
        n_in : int
            The number of inputs of this layer.

        Returns
        -------
        children : iterator of (str, Layer, int)
            The name of each layer, with which those of its parameters begin, the layer, and its
            number of inputs.
        """
        return iter(())

    def walk(self, n_in: int, path: str = "") -> Iterator[tuple[str, Layer, int]]:
        """Yield this layer and all layers within it, those within these too.

        Parameters
        ----------
        n_in : int
            The number of inputs of this layer.
        path : str, default=""
            The prefix of the names of its parameters.

        Yields
        ------
        path : str
            The prefix of the names of the layer's parameters, such as ``"residual_1.dense_1."``.
        layer : Layer
            The layer.
        n_in : int
            Its number of inputs.
        """
        yield path, self, n_in
        for name, layer, n_inner in self.children(n_in):
            yield from layer.walk(n_inner, f"{path}{name}.")


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
        for name, layer, n_in in self.children(x.shape[1]):
            y = layer.forward(read_only(x), p[name], ctx[name])
            _check_shape(layer, "forward", y, (len(x), layer.n_out(n_in)))
            x = y
        return x

    def backward(self, grad_y: Array, x: Array, p: Params, ctx: Context) -> tuple[Array, Grads]:
        grads: Grads = {}
        for name, layer, x_in in reversed(list(self._inputs(x, p, ctx))):
            grad_y, own = layer.backward(read_only(grad_y), x_in, p[name], ctx[name])
            _check_shape(layer, "backward", grad_y, x_in.shape)
            grads |= _within(name, own)
        return grad_y, grads

    def statistics(self, x: Array, p: Params, ctx: Context) -> Grads:
        values: Grads = {}
        for name, layer, x_in in self._inputs(x, p, ctx):
            values |= _within(name, layer.statistics(x_in, p[name], ctx[name]))
        return values

    def _inputs(self, x: Array, p: Params, ctx: Context) -> Iterator[tuple[str, Layer, Array]]:
        """Yield the layers with their names and inputs."""
        for name, layer, _ in self.children(x.shape[1]):
            x = read_only(x)
            yield name, layer, x
            x = layer.forward(x, p[name], ctx[name])


def _within(name: str, values: Grads) -> Grads:
    """Return values by parameter, with the name of the layer before those of its parameters."""
    return {f"{name}.{key}": value for key, value in values.items()}


def read_only(array: Array) -> Array:
    """Return a read-only view of a NumPy array, or a symbol as it is."""
    if isinstance(array, np.ndarray):
        array = array.view()
        array.flags.writeable = False
    return array


def _check_shape(layer: Layer, method: str, array: Array, shape: tuple[int, ...]) -> None:
    found = getattr(array, "shape", None)
    if found != shape:
        raise ValueError(
            f"{type(layer).__name__}.{method} must return an array of the shape {shape}, got "
            f"{type(array).__name__ if found is None else found}."
        )


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
            grads |= _within(j, own)
            start = stop
        return concat(grads_x, axis=1), grads

    def statistics(self, x: Array, p: Params, ctx: Context) -> Grads:
        values: Grads = {}
        for j, f, x_j in self._inputs(x):
            values |= _within(j, f.statistics(x_j, p[j], ctx[j]))
        return values

    def _inputs(self, x: Array) -> Iterator[tuple[str, Layer, Array]]:
        """Yield the names j of the branches, their layers f and the columns x_j that they take."""
        start = 0
        for name, layers, n_columns in self.children(x.shape[1]):
            yield name, layers, x[:, start : start + n_columns]
            start += n_columns
