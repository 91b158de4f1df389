"""Layers in their places, and the columns of the one flat array that are their parameters.

All parameters of all members live in one C-contiguous array of shape (n_members, n_params), all
gradients in a second one of shape (n_members, n_trainable): the statistics of some layers, which no
gradient moves, come last.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from ._values import frozen
from .layers import Layer, ParamSpec, Plan


@frozen
class Node:
    """A layer in its place within a network, with the chains of layers within it."""

    name: str
    layer: Layer
    plan: Plan
    inner: tuple[tuple[Node, ...], ...]

    def unfold(self) -> Iterator[Node]:
        """Yield this node and, one by one, all those within it."""
        yield self
        for chain in self.inner:
            for node in chain:
                yield from node.unfold()


def plan_layers(
    layers: Sequence[Layer], n_in: int, prefix: str, count: Counter[str]
) -> tuple[Node, ...]:
    """Plan a chain of layers, and name them.

    A name is that of the class, in lower case and counted from 1, after those of the layers around:
    dense_1, residual_1, residual_1.dense_1, dense_2. The chains within one layer share the count.
    """
    nodes = []
    for layer in layers:
        kind = type(layer).__name__.lower()
        count[kind] += 1
        name, plan = f"{prefix}{kind}_{count[kind]}", layer.plan(n_in)
        count_within: Counter[str] = Counter()
        inner = tuple(
            plan_layers(branch.layers, branch.n_columns, f"{name}.", count_within)
            for branch in plan.inner
        )
        nodes.append(Node(name, layer, plan, inner))
        n_in = plan.n_out
    return tuple(nodes)


@frozen
class Entry:
    """The place of one parameter in the flat array: which columns, in which shape."""

    name: str
    spec: ParamSpec
    columns: slice


class Layout:
    """Where each parameter of a network stands in the flat array.

    Parameters that decay come first, then the others, then statistics, which are not trainable;
    among these the ones with the same learning-rate factor stand together: each such group is one
    contiguous range of columns.
    """

    def __init__(self, specs: dict[str, ParamSpec]) -> None:
        def group(item: tuple[str, ParamSpec]) -> tuple[bool, bool, float]:
            spec = item[1]
            return (not spec.trainable, not spec.weight_decay, spec.lr_scale)

        entries, start = {}, 0
        for name, spec in sorted(specs.items(), key=group):  # stable: the layers' order within
            size = int(np.prod(spec.shape))
            entries[name] = Entry(name, spec, slice(start, start + size))
            start += size
        self.entries: dict[str, Entry] = entries
        self.n_params: int = start

    @property
    def trainable(self) -> slice:
        """The columns that have a gradient; those after them are statistics."""
        return slice(0, max((e.columns.stop for e in self._trained), default=0))

    @property
    def decayed(self) -> slice:
        """The columns that weight decay and the L2 penalty act on."""
        stops = [e.columns.stop for e in self._trained if e.spec.weight_decay]
        return slice(0, max(stops, default=0))

    @property
    def lr_scales(self) -> list[tuple[slice, float]]:
        """Contiguous ranges of trainable columns with their learning-rate factors, few of them."""
        ranges: list[tuple[slice, float]] = []
        for entry in self._trained:
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

    @property
    def _trained(self) -> list[Entry]:
        return [entry for entry in self.entries.values() if entry.spec.trainable]

    def view(self, flat: np.ndarray, name: str) -> np.ndarray:
        """View one parameter of all members: shape (n_members, *spec.shape)."""
        entry = self.entries[name]
        return flat[:, entry.columns].reshape(len(flat), *entry.spec.shape)
