"""The contract that every layer keeps.

A layer is a frozen description: it knows its hyperparameters and its formulas, and holds no arrays.
`Network` reads its `Plan`, allocates what the plan asks for, and hands it back as a `Slot` of
views.

Axis order is always (n_members, n_samples, n_units): members first, never transposed. The first
layer's input may have one member only; it then broadcasts over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Literal, Protocol

import numpy as np

from ..initializers import Initializer


@dataclass(frozen=True)
class ParamSpec:
    """One trainable array of one member: its name, shape and first values."""

    name: str
    shape: tuple[int, ...]
    init: Initializer
    weight_decay: bool = True
    lr_scale: float = 1.0


@dataclass(frozen=True)
class Buffer:
    """One fixed array of shape (n_members, n_samples, width) that a layer works in.

    A "forward" buffer lives from the forward pass to the backward pass; a "backward" buffer exists
    only where gradients are wanted; "scratch" is valid within one call and shared by all layers.
    A real buffer stays real when a gradient check runs the network on complex numbers.
    """

    name: str
    width: int
    kind: Literal["forward", "backward", "scratch"] = "forward"
    real: bool = False


@dataclass(frozen=True)
class Plan:
    """What a layer needs once it knows how many units come in."""

    n_out: int
    params: tuple[ParamSpec, ...] = ()
    buffers: tuple[Buffer, ...] = ()


class Slot:
    """The arrays of one layer within one pass, as views: what `Plan` asked for.

    Attributes
    ----------
    params, grads : SimpleNamespace
        Views of shape (n_members, *spec.shape) into the flat parameter and gradient arrays.
    work : SimpleNamespace
        The buffers of the plan, by name.
    ones : ndarray of shape (1, 1, n_samples)
        A row of ones: sums over samples run as matrix products, three times as fast as `sum`.
    rngs : sequence of Generator
        One random stream for each member.
    xp : module
        The array module; layers call its functions with `out=` and nothing else.
    x, y : ndarray
        Input and output of the last forward pass, kept by layers whose backward pass needs them.
    """

    __slots__ = ("grads", "ones", "params", "rngs", "work", "x", "xp", "y")

    params: SimpleNamespace
    grads: SimpleNamespace
    work: SimpleNamespace
    ones: np.ndarray
    rngs: Sequence[np.random.Generator]
    xp: ModuleType
    x: np.ndarray
    y: np.ndarray


class Layer(Protocol):
    """A plan, a forward pass, and the backward pass that belongs to it."""

    def plan(self, n_in: int) -> Plan:
        """Say how many units come out, and which parameters and buffers that takes."""

    def forward(self, x: np.ndarray, slot: Slot, *, training: bool) -> np.ndarray:
        """Return the output for `x`, which is left as it is."""

    def backward(self, grad_y: np.ndarray, slot: Slot, *, need_grad_x: bool) -> np.ndarray:
        """Write the gradients of the parameters into `slot.grads`; return that of the input.

        `grad_y` is the layer's to overwrite, and may come back as the gradient of the input. Where
        that is not needed, what comes back has no meaning.
        """
