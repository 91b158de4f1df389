"""From layers and one flat array to a forward and a backward pass that runs.

`Network.bind` makes views of that array, where a `Layout` says, and the work buffers. Views are
never kept on an estimator: binding again takes microseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np

from ._layout import Layout, Node, plan_layers
from ._passes import NUMPY, ArrayModule
from ._random import RandomWords, Words
from ._sparse import InputBatch, SparseBatch, is_sparse
from ._tape import is_recordable, record
from ._values import cached, frozen
from ._workspace import Workspace
from .layers import (
    Batch,
    Buffer,
    Layer,
    Slot,
    Steps,
    backward_through,
    forward_through,
)
from .utils import cut_rows

BLOCK_BYTES = 1 << 17
"""Prediction goes through its rows in blocks whose widest buffer takes about this much for a
member: more would not fit into a core's cache. How many members there are makes no difference, so
that it makes none to what they predict."""

FEWEST_ROWS = 128
"""Rows of a block, however wide: products of fewer are slow."""


@frozen
class Network:
    """A stack of layers over `n_in` features, `n_members` times side by side.

    Holds descriptions only. Parameters are created by `init_params`, and joined with the layers by
    `bind`. The last layer must have one unit: its output is the logit.
    """

    layers: tuple[Layer, ...]
    n_in: int
    n_members: int = 1

    @cached
    def nodes(self) -> tuple[Node, ...]:
        """The layers of the stack, planned and named."""
        return plan_layers(self.layers, self.n_in, "", Counter())

    @cached
    def all_nodes(self) -> tuple[Node, ...]:
        """The layers of the stack, each followed by those within it."""
        return tuple(node for top in self.nodes for node in top.unfold())

    @cached
    def widest(self) -> int:
        """The number of units that come out of the widest layer."""
        return max(node.plan.n_out for node in self.all_nodes)

    @cached
    def is_recordable(self) -> bool:
        """Whether all layers are."""
        return all(is_recordable(node.layer) for node in self.all_nodes)

    @cached
    def layout(self) -> Layout:
        return Layout(
            {
                f"{node.name}.{spec.name}": spec
                for node in self.all_nodes
                for spec in node.plan.params
            }
        )

    def init_params(
        self, rngs: Sequence[np.random.Generator], dtype: np.typing.DTypeLike = np.float64
    ) -> np.ndarray:
        """Draw first values; each member draws from its own stream, layer by layer."""
        params = np.empty((self.n_members, self.layout.n_params), dtype)
        for node in self.all_nodes:
            for spec in node.plan.params:
                view = self.layout.view(params, f"{node.name}.{spec.name}")
                for member, rng in enumerate(rngs):
                    view[member] = spec.draw(rng, member)
        return params

    def reset_statistics(self, params: np.ndarray) -> None:
        """Forget what layers have seen of their inputs.

        What members take turns in is not of that kind: it says what they are.
        """
        rng = np.random.default_rng(0)  # first statistics are constants
        for node in self.all_nodes:
            for spec in node.plan.params:
                if not (spec.trainable or isinstance(spec.init, tuple)):
                    view = self.layout.view(params, f"{node.name}.{spec.name}")
                    view[...] = spec.init(rng, spec.shape)

    def bind(
        self,
        params: np.ndarray,
        n_samples: int,
        *,
        grads: np.ndarray | None = None,
        training: bool = False,
        need_grad_x: bool = False,
        words: Words | None = None,
        xp: ArrayModule = NUMPY,
        workspace: Workspace | None = None,
    ) -> Pass:
        """Make the views and buffers for batches of `n_samples` rows.

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
        n_samples : int
            Rows in a batch.
        grads : ndarray of shape (n_members, n_trainable), default=None
            Where the backward pass writes. None makes a pass that only goes forward: no buffer of
            the backward pass is allocated.
        training : bool, default=False
            Whether layers act as in training: dropout is on, and batch normalisation goes by the
            batch. Without it, gradients are those of the predictions.
        need_grad_x : bool, default=False
            Whether the backward pass may be asked for the gradient at the input of the network.
        words : Words, default=None
            Of these members, for layers that draw random numbers in training.
        xp : ArrayModule, default=NUMPY
            What layers compute with.
        workspace : Workspace, default=None
            What the buffers come from; the passes in it must take turns. None stands for a new one.

        Raises
        ------
        ValueError
            If the parameters are those of another network: compiled passes would read beyond them.
        """
        shape = (self.n_members, self.layout.n_params)
        if params.shape != shape:
            raise ValueError(
                f"The parameters of this network have the shape {shape}, got {params.shape}; pass "
                "as many as it has members."
            )
        return Pass(
            self,
            params,
            n_samples,
            grads=grads,
            training=training,
            need_grad_x=need_grad_x,
            words=words,
            xp=xp,
            workspace=workspace,
        )

    def logits(
        self,
        params: np.ndarray,
        X: Any,
        *,
        passes: dict[int, Pass] | None = None,
        workspace: Workspace | None = None,
        out: np.ndarray | None = None,
        block_bytes: int | None = None,
        xp: ArrayModule = NUMPY,
    ) -> np.ndarray:
        """Run the prediction pass over X in blocks of rows.

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
        X : ndarray or CSR matrix or array of shape (n_samples, n_in)
            Rows for all members; or for each its own, an ndarray of shape (n_members, n_samples,
            n_in) or a SparseBatch.
        passes : dict, default=None
            Passes of these parameters by their number of rows, to use again; filled where one is
            missing. None makes new ones.
        workspace : Workspace, default=None
            What passes that are missing work in.
        out : ndarray of shape (n_members, n_samples), default=None
            Where the logits go.
        block_bytes : int, default=None
            What the widest buffer of a member takes; None stands for `BLOCK_BYTES`.
        xp : ArrayModule, default=NUMPY
            What layers compute with in passes that are missing.

        Returns
        -------
        logits : ndarray of shape (n_members, n_samples)
        """
        x: InputBatch = X
        if len(X.shape) == 2:
            x = SparseBatch([X]) if is_sparse(X) else X[np.newaxis]
        shape = (self.n_members, x.shape[1])
        logits = np.empty(shape, params.dtype) if out is None else out
        for rows, prediction in self._predictions(
            params,
            x.shape[1],
            passes=passes,
            workspace=workspace,
            block_bytes=block_bytes,
            xp=xp,
        ):
            logits[:, rows] = prediction.predict(x[:, rows])
        return logits

    def input_gradients(self, params: np.ndarray, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Run the prediction pass forth and back: what each feature does to each logit.

        Parameters
        ----------
        params : ndarray of shape (n_members, n_params)
        X : ndarray of shape (n_samples, n_in)

        Returns
        -------
        logits : ndarray of shape (n_members, n_samples)
        grads : ndarray of shape (n_members, n_samples, n_in)
            The gradient of each member's logit of a row with respect to that row.
        """
        logits = np.empty((self.n_members, len(X)), params.dtype)
        grad_X = np.empty((*logits.shape, self.n_in), params.dtype)
        grads = np.empty_like(params[:, self.layout.trainable])  # written, and not looked at
        for rows, prediction in self._predictions(params, len(X), grads=grads):
            logits[:, rows] = prediction.forward(X[np.newaxis, rows])
            grad_logits = np.ones_like(logits[:, rows])
            grad_X[:, rows] = prediction.backward(grad_logits, need_grad_x=True)
        return logits, grad_X

    def _predictions(
        self,
        params: np.ndarray,
        n_samples: int,
        *,
        grads: np.ndarray | None = None,
        passes: dict[int, Pass] | None = None,
        workspace: Workspace | None = None,
        block_bytes: int | None = None,
        xp: ArrayModule = NUMPY,
    ) -> Iterator[tuple[slice, Pass]]:
        """Yield blocks of rows, each with a pass that predicts so many."""
        is_backward = grads is not None
        block_bytes = BLOCK_BYTES if block_bytes is None else block_bytes
        widths = (
            buffer.width
            for node in self.all_nodes
            for buffer in node.plan.buffers
            if buffer.kind != "grad_x" or is_backward
        )
        size = max(block_bytes // (max(widths, default=1) * params.itemsize), FEWEST_ROWS)
        # All passes work in the space of the largest. Those to use again may get more rows later.
        largest = min(size, n_samples) if passes is None else size
        passes = {} if passes is None else passes
        for rows in cut_rows(n_samples, n_values=size):
            n_block = rows.stop - rows.start
            for n_rows in (largest, n_block):
                if n_rows not in passes:
                    passes[n_rows] = self.bind(
                        params,
                        n_rows,
                        grads=grads,
                        need_grad_x=is_backward,
                        xp=xp if is_backward else record(xp, self),
                        workspace=passes[largest].workspace if passes else workspace,
                    )
            yield rows, passes[n_block]


def _bind_chain(
    nodes: Sequence[Node], need_grad_x: bool, make_slot: Callable[[Node, bool], Slot]
) -> Steps:
    """Make the slots of a chain of layers, and of the chains within them.

    `make_slot` does not know of this function: a cycle would keep the buffers of a pass that is
    over until the garbage collector comes.
    """
    steps = []
    for i, node in enumerate(nodes):
        # Only the first of a chain can do without the gradient at its input.
        is_needed = need_grad_x or i > 0
        slot = make_slot(node, is_needed)
        slot.inner = tuple(_bind_chain(chain, is_needed, make_slot) for chain in node.inner)
        steps.append((node.layer, slot))
    return tuple(steps)


class Pass:
    """One network bound to its parameters and to fixed buffers for `n_samples` rows."""

    def __init__(
        self,
        network: Network,
        params: np.ndarray,
        n_samples: int,
        *,
        grads: np.ndarray | None,
        training: bool,
        need_grad_x: bool,
        words: Words | None,
        xp: ArrayModule,
        workspace: Workspace | None,
    ) -> None:
        self.params, self.n_samples = params, n_samples
        self.training, self._xp = training, xp
        self.workspace = workspace = Workspace() if workspace is None else workspace
        words = RandomWords(()) if words is None else words
        self._batch = Batch()
        layout, shape = network.layout, (network.n_members, n_samples)
        ones = xp.ones((1, 1, n_samples), params.dtype)
        scratch: dict[Buffer, np.ndarray] = {}
        numbers = count()

        def allocate(buffer: Buffer) -> np.ndarray:
            dtype = params.real.dtype if buffer.real else params.dtype
            dtype = xp.intp if buffer.integer else dtype
            return workspace.take(next(numbers), (*shape, buffer.width), dtype, xp)

        def make_slot(node: Node, need_grad_x: bool) -> Slot:
            slot = Slot()
            slot.xp, slot.words, slot.ones = xp, words, ones
            slot.training, slot.batch = training, self._batch
            slot.params, slot.grads, slot.work = (SimpleNamespace() for _ in range(3))
            for spec in node.plan.params:
                name = f"{node.name}.{spec.name}"
                setattr(slot.params, spec.name, layout.view(params, name))
                if grads is not None and spec.trainable:
                    setattr(slot.grads, spec.name, layout.view(grads, name))
            for buffer in node.plan.buffers:
                if buffer.kind == "scratch":
                    if buffer not in scratch:
                        scratch[buffer] = allocate(buffer)
                    setattr(slot.work, buffer.name, scratch[buffer])
                elif buffer.kind == "forward" or (grads is not None and need_grad_x):
                    setattr(slot.work, buffer.name, allocate(buffer))
            return slot

        self._steps = _bind_chain(network.nodes, need_grad_x, make_slot)

    def forward(self, x: InputBatch, sample_weight: np.ndarray | None = None) -> np.ndarray:
        """Return logits (n_members, n_samples) for x (n_members or 1, n_samples, n_in).

        Weights of shape (n_members or 1, n_samples) are for layers that look at the whole batch.
        """
        self._batch.sample_weight = sample_weight
        return forward_through(self._steps, x)[:, :, 0]

    def predict(self, x: InputBatch) -> np.ndarray:
        """Return logits, as `forward` does, by a tape where the array module is a recorder."""
        return self._xp.run(lambda batch, _: self.forward(batch), x)

    def backward(self, grad_logits: np.ndarray, *, need_grad_x: bool = False) -> np.ndarray | None:
        """Fill the flat gradient array from the gradient of the loss at the logits.

        The gradient at the input of the network is nobody's parameter: it is computed, and returned
        in the shape (n_members, n_samples, n_in), only where it is asked for.
        """
        grad = grad_logits[:, :, np.newaxis]
        grad_x = backward_through(self._steps, grad, need_grad_x=need_grad_x)
        return grad_x if need_grad_x else None
