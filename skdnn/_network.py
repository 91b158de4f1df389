"""From layers and one flat array to a forward and a backward pass that runs.

All parameters of all members live in one C-contiguous array of shape (n_members, n_params), all
gradients in a second one. `Layout` knows where each parameter stands in it; `Network.bind` makes
the views and the work buffers. Views are never kept on an estimator: binding again takes
microseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType, SimpleNamespace

import numpy as np

from .layers import Layer, ParamSpec, Plan, Slot

BLOCK_BYTES = 1 << 22
"""Prediction goes through its rows in blocks whose widest buffer takes about this much memory."""


@dataclass(frozen=True)
class Entry:
    """The place of one parameter in the flat array: which columns, in which shape."""

    name: str
    spec: ParamSpec
    columns: slice


class Layout:
    """Where each parameter of a network stands in the flat array.

    Parameters that decay come first, and among these the ones with the same learning-rate factor
    stand together: each such group is one contiguous range of columns.
    """

    def __init__(self, specs: dict[str, ParamSpec]) -> None:
        def group(item: tuple[str, ParamSpec]) -> tuple[bool, float]:
            return (not item[1].weight_decay, item[1].lr_scale)

        entries, start = {}, 0
        for name, spec in sorted(specs.items(), key=group):  # stable: the layers' order within
            size = int(np.prod(spec.shape))
            entries[name] = Entry(name, spec, slice(start, start + size))
            start += size
        self.entries: dict[str, Entry] = entries
        self.n_params: int = start

    @property
    def decayed(self) -> slice:
        """The columns that weight decay and the L2 penalty act on."""
        stops = [e.columns.stop for e in self.entries.values() if e.spec.weight_decay]
        return slice(0, max(stops, default=0))

    @property
    def lr_scales(self) -> list[tuple[slice, float]]:
        """Contiguous column ranges with their learning-rate factors, as few as possible."""
        ranges: list[tuple[slice, float]] = []
        for entry in self.entries.values():
            columns, scale = entry.columns, entry.spec.lr_scale
            if ranges and ranges[-1][1] == scale:
                ranges[-1] = (slice(ranges[-1][0].start, columns.stop), scale)
            else:
                ranges.append((columns, scale))
        return ranges

    @property
    def largest_matrix(self) -> int:
        """The number of entries of the largest parameter."""
        return max(e.columns.stop - e.columns.start for e in self.entries.values())

    def view(self, flat: np.ndarray, name: str) -> np.ndarray:
        """View one parameter of all members: shape (n_members, *spec.shape)."""
        entry = self.entries[name]
        return flat[:, entry.columns].reshape(len(flat), *entry.spec.shape)


@dataclass(frozen=True)
class Network:
    """A stack of layers over `n_in` features, `n_members` times side by side.

    Holds descriptions only. Parameters are created by `init_params`, and joined with the layers by
    `bind`. The last layer must have one unit: its output is the logit.
    """

    layers: tuple[Layer, ...]
    n_in: int
    n_members: int = 1

    @cached_property
    def plans(self) -> tuple[Plan, ...]:
        plans, n_units = [], self.n_in
        for layer in self.layers:
            plans.append(layer.plan(n_units))
            n_units = plans[-1].n_out
        return tuple(plans)

    @cached_property
    def layer_names(self) -> tuple[str, ...]:
        """Lower-case class names, counted from 1: dense_1, activation_1, dense_2."""
        count: Counter[str] = Counter()
        names = []
        for layer in self.layers:
            kind = type(layer).__name__.lower()
            count[kind] += 1
            names.append(f"{kind}_{count[kind]}")
        return tuple(names)

    @cached_property
    def layout(self) -> Layout:
        return Layout(
            {
                f"{layer_name}.{spec.name}": spec
                for layer_name, plan in zip(self.layer_names, self.plans, strict=True)
                for spec in plan.params
            }
        )

    def init_params(
        self, rngs: Sequence[np.random.Generator], dtype: np.typing.DTypeLike = np.float64
    ) -> np.ndarray:
        """Draw first values; each member draws from its own stream, layer by layer."""
        params = np.empty((self.n_members, self.layout.n_params), dtype)
        for layer_name, plan in zip(self.layer_names, self.plans, strict=True):
            for spec in plan.params:
                view = self.layout.view(params, f"{layer_name}.{spec.name}")
                for member, rng in enumerate(rngs):
                    view[member] = spec.init(rng, spec.shape)
        return params

    def bind(
        self,
        params: np.ndarray,
        n_samples: int,
        *,
        grads: np.ndarray | None = None,
        rngs: Sequence[np.random.Generator] = (),
        xp: ModuleType = np,
    ) -> Pass:
        """Make the views and buffers for batches of `n_samples` rows.

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
        n_samples : int
            Rows in a batch.
        grads : ndarray of shape (n_members, n_params), default=None
            Where the backward pass writes. None makes a pass that only predicts: layers are told
            that they are not in training, and no buffer of the backward pass is allocated.
        rngs : sequence of Generator, default=()
            One stream for each member, for layers that draw random numbers in training.
        xp : module, default=numpy
            The array module that `params` belongs to.
        """
        return Pass(self, params, n_samples, grads=grads, rngs=rngs, xp=xp)

    def logits(self, params: np.ndarray, X: np.ndarray) -> np.ndarray:
        """Run the prediction pass over X in blocks of rows.

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
        X : ndarray of shape (n_samples, n_in)

        Returns
        -------
        logits : ndarray of shape (n_members, n_samples)
        """
        widest = max((buffer.width for plan in self.plans for buffer in plan.buffers), default=1)
        n_rows = max(1, BLOCK_BYTES // (self.n_members * widest * params.itemsize))
        logits = np.empty((self.n_members, len(X)), params.dtype)
        prediction: Pass | None = None
        for start in range(0, len(X), n_rows):
            block = X[np.newaxis, start : start + n_rows]
            if prediction is None or block.shape[1] != prediction.n_samples:
                prediction = self.bind(params, block.shape[1])
            logits[:, start : start + n_rows] = prediction.forward(block)
        return logits


class Pass:
    """One network bound to its parameters and to fixed buffers for `n_samples` rows."""

    def __init__(
        self,
        network: Network,
        params: np.ndarray,
        n_samples: int,
        *,
        grads: np.ndarray | None,
        rngs: Sequence[np.random.Generator],
        xp: ModuleType,
    ) -> None:
        self.n_samples = n_samples
        self.training = grads is not None
        shape = (network.n_members, n_samples)
        ones = xp.ones((1, 1, n_samples), params.dtype)
        scratch: dict[tuple[str, int], np.ndarray] = {}
        self._steps: list[tuple[Layer, Slot]] = []
        for layer, layer_name, plan in zip(
            network.layers, network.layer_names, network.plans, strict=True
        ):
            slot = Slot()
            slot.xp, slot.rngs, slot.ones = xp, rngs, ones
            views = {spec.name: f"{layer_name}.{spec.name}" for spec in plan.params}
            slot.params = _namespace(network.layout, params, views)
            slot.grads = _namespace(network.layout, grads, views)
            slot.work = SimpleNamespace()
            for buffer in plan.buffers:
                if buffer.kind == "backward" and not self.training:
                    continue
                dtype = params.real.dtype if buffer.real else params.dtype
                array = scratch.get((buffer.name, buffer.width))
                if array is None or buffer.kind != "scratch":
                    array = xp.empty((*shape, buffer.width), dtype)
                if buffer.kind == "scratch":
                    scratch[buffer.name, buffer.width] = array
                setattr(slot.work, buffer.name, array)
            self._steps.append((layer, slot))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """Return logits (n_members, n_samples) for x (n_members or 1, n_samples, n_in)."""
        for layer, slot in self._steps:
            x = layer.forward(x, slot, training=self.training)
        return x[:, :, 0]

    def backward(self, grad_logits: np.ndarray) -> None:
        """Fill the flat gradient array from the gradient of the loss at the logits.

        Layer by layer from the last to the first: the chain rule. The gradient at the input of the
        network is nobody's parameter and is not computed.
        """
        grad = grad_logits[:, :, np.newaxis]
        first_layer, first_slot = self._steps[0]
        for layer, slot in self._steps[:0:-1]:
            grad = layer.backward(grad, slot, need_grad_x=True)
        first_layer.backward(grad, first_slot, need_grad_x=False)


def _namespace(layout: Layout, flat: np.ndarray | None, names: dict[str, str]) -> SimpleNamespace:
    if flat is None:
        return SimpleNamespace()
    return SimpleNamespace(**{short: layout.view(flat, name) for short, name in names.items()})
