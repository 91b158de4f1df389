"""The contract that every layer keeps.

A layer is a frozen description: it knows its hyperparameters and its formulas, and holds no arrays.
`Network` reads its `Plan`, allocates what the plan asks for, and hands it back as a `Slot` of
views.

Axis order is always (n_members, n_samples, n_units): members first, never transposed. The first
layer's input may have one member only; it then broadcasts over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal, Protocol

import numpy as np

from .._passes import ArrayModule
from .._random import Words
from .._values import cached, frozen
from ..initializers import Initializer


@frozen
class ParamSpec:
    """One array that a member keeps from batch to batch: its name, shape and first values.

    Where there are several initializers, members take turns: each begins by the next one.

    One that is not trainable is a statistic: the layer writes it itself, in the forward pass of
    training, or nobody does. It has no gradient, and never decays.
    """

    name: str
    shape: tuple[int, ...]
    init: Initializer | tuple[Initializer, ...]
    weight_decay: bool = True
    lr_scale: float = 1.0
    trainable: bool = True

    def draw(self, rng: np.random.Generator, member: int) -> np.ndarray:
        """Draw the first values of a member."""
        inits = self.init if isinstance(self.init, tuple) else (self.init,)
        return inits[member % len(inits)](rng, self.shape)


@frozen
class Buffer:
    """One fixed array of shape (n_members, n_samples, width) that a layer works in.

    A "forward" buffer lives from the forward pass to the backward pass; "grad_x" exists only where
    the gradient at the layer's input is wanted; "scratch" is valid within one call and shared by
    all layers. A real buffer stays real when a gradient check runs the network on complex numbers;
    an integer one holds indices.
    """

    name: str
    width: int
    kind: Literal["forward", "grad_x", "scratch"] = "forward"
    real: bool = False
    integer: bool = False


@frozen
class Branch:
    """A chain of layers within a layer, over `n_columns` of the columns that enter there.

    A chain without layers passes them on.
    """

    n_columns: int
    layers: tuple[Layer, ...] = ()

    @cached
    def n_out(self) -> int:
        """The number of units that come out."""
        width = self.n_columns
        for layer in self.layers:
            width = layer.plan(width).n_out
        return width


@frozen
class Plan:
    """What a layer needs once it knows how many units come in.

    The branches in `inner` are chains of layers within the layer, which sends its input, or columns
    of it, through them; the network makes slots for them too.
    """

    n_out: int
    params: tuple[ParamSpec, ...] = ()
    buffers: tuple[Buffer, ...] = ()
    inner: tuple[Branch, ...] = ()


@dataclass(slots=True)
class Batch:
    """What is known of the rows that pass through: one object, which all slots of a pass share.

    The weights have the shape (n_members or 1, n_samples); None stands for equal ones.
    """

    sample_weight: np.ndarray | None = None


class Slot:
    """The arrays of one layer within one pass, as views: what `Plan` asked for.

    Attributes
    ----------
    params, grads : SimpleNamespace
        Views of shape (n_members, *spec.shape) into the flat parameter and gradient arrays.
        Statistics are among the parameters and have no gradient.
    work : SimpleNamespace
        The buffers of the plan, by name. What the backward pass needs and does not grow with the
        batch may be kept here as well.
    inner : tuple of tuples of (Layer, Slot)
        The chains of layers within this one, each layer with its own slot.
    training : bool
        Whether the layer acts as in training: with noise, and by the statistics of the batch.
    batch : Batch
        The weights of the rows.
    ones : ndarray of shape (1, 1, n_samples)
        A row of ones: sums over samples run as matrix products, three times as fast as `sum`.
    words : Words
        One random stream for each member.
    xp : module
        The array module; layers call its functions with `out=`, and its passes.
    x, y : ndarray
        Input and output of the last forward pass, kept by layers whose backward pass needs them.
    """

    __slots__ = (
        "batch",
        "grads",
        "inner",
        "ones",
        "params",
        "training",
        "words",
        "work",
        "x",
        "xp",
        "y",
    )

    params: SimpleNamespace
    grads: SimpleNamespace
    work: SimpleNamespace
    inner: tuple[Steps, ...]
    training: bool
    batch: Batch
    ones: np.ndarray
    words: Words
    xp: ArrayModule
    x: np.ndarray
    y: np.ndarray


class Layer(Protocol):
    """A plan, a forward pass, and the backward pass that belongs to it.

    A layer whose passes compute by functions of `slot.xp` alone, with `out=`, in arrays of their
    slot, and take the same steps whatever the numbers are, may say so: ``is_recordable = True`` in
    the class itself. What is recorded runs without Python from then on (see `skdnn._tape`).
    """

    def plan(self, n_in: int) -> Plan:
        """Say how many units come out, and which parameters and buffers that takes."""

    def forward(self, x: np.ndarray, slot: Slot) -> np.ndarray:
        """Return the output for `x`, which is left as it is."""

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        """Write the gradients of the parameters into `slot.grads`; return that of the input.

        `grad_y` is the layer's to overwrite, and may come back as the gradient of the input. Where
        that is not needed, what comes back has no meaning.
        """


Steps = tuple[tuple[Layer, Slot], ...]
"""A chain of layers, each with its slot."""


def forward_through(steps: Steps, x: Any) -> np.ndarray:
    """Send `x`, an array or a SparseBatch, through a chain of layers, from first to last."""
    for layer, slot in steps:
        x = layer.forward(x, slot)
    return x


def backward_through(steps: Steps, grad: np.ndarray, *, need_grad_x: bool) -> np.ndarray:
    """Send the gradient of the output back through a chain of layers: the chain rule."""
    for i in reversed(range(len(steps))):
        layer, slot = steps[i]
        grad = layer.backward(grad, slot, need_grad_x=need_grad_x or i > 0)
    return grad
