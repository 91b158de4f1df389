"""Run the steps of each member: programs, the memory they run in, and what they are fed.

Members know nothing of each other: each trains by itself, for whole epochs, in the memory of the
thread that has it, and so it is the same training however many threads there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..engine.executors import Executable, Memory
from ..engine.feed import Feed
from ..engine.formula import Formula
from ..engine.plan import Program
from ..nn import Network, Sequential
from .rows import Selection
from .step import gradient_formula, prediction_formula

BYTES_OF_A_BLOCK = 1 << 17
"""Prediction goes through its rows in batches whose widest array takes about this much: more would
not fit into a core's cache."""

FEWEST_ROWS = 128
"""Rows of a batch, however wide: products of fewer are slow."""

NUMBERS_AT_ONCE = 1 << 17
"""Numbers that one call of NumPy is to compute, in the widest layer: with fewer, Python takes
longer than NumPy."""

State = dict[str, np.ndarray]
"""Arrays of some members, by the names of a program's inputs."""


class Programs:
    """The programs of a network's members, made when they are first needed.

    Parameters
    ----------
    network : Network
    executor : {"numpy", "numba", "eager"}
        What runs them; "eager" stands for formulas that run at once.
    training_formula : callable or None, default=None
        ``f(network, layers, n_samples, is_sparse=...)`` returns the formula of a step.
    """

    def __init__(
        self,
        network: Network,
        executor: str,
        training_formula: Callable[..., Formula] | None = None,
    ) -> None:
        self.network, self.executor = network, executor
        self._training_formula = training_formula
        self._compiled: dict[Any, Program | Formula] = {}
        self._kinds: list[Sequential] = []
        self._kind_of: dict[int, int] = {}
        self._checked: set[int] = set()  # kinds whose step was traced twice

    def _kind(self, member: int) -> int:
        """Return a number that is the same for members with the same layers."""
        if member not in self._kind_of:
            layers = self.network.of_member(member)
            if layers not in self._kinds:
                self._kinds.append(layers)
            self._kind_of[member] = self._kinds.index(layers)
        return self._kind_of[member]

    def compile(
        self,
        member: int,
        n_samples: int,
        make: Callable[..., Formula] | None = prediction_formula,
        *,
        is_sparse: bool,
        is_training: bool = False,
    ) -> Program | Formula:
        """Return what runs a formula, that of a step in training, for a member on so many rows."""
        kind, make = self._kind(member), self._training_formula if is_training else make
        key = (kind, n_samples, is_sparse, make)
        if key not in self._compiled:
            if make is None:
                raise ValueError("These programs are for predictions alone.")
            formula = make(self.network, self._kinds[kind], n_samples, is_sparse=is_sparse)
            if self.executor == "eager":
                self._compiled[key] = formula
            else:
                is_checked = not is_training or kind in self._checked
                self._compiled[key] = formula.compile(self.executor, is_checked=is_checked)
                self._checked |= {kind} if is_training else set()
        return self._compiled[key]

    def logits(
        self,
        members: list[int],
        params: np.ndarray,
        X: Any,
        index: np.ndarray,
        memory: Memory,
        *,
        n_batch: int = 0,
    ) -> np.ndarray:
        """Return the logits of members of one kind for some rows: (n_members, n_rows).

        Parameters
        ----------
        members : list of int
        params : ndarray of shape (n_all_members, n_params)
        X : ndarray, Selection or CSR array of shape (n_samples, n_features)
        index : ndarray of int of shape (n_rows,) or (n_members, n_rows)
            Which rows, the same for all or each member's own.
        memory : Memory
            Its dtype is that of X and of the computation; parameters may be in a narrower one.
        n_batch : int, default=0
            Rows of a batch; 0 stands for what suits so many rows.
        """
        X, index = compose(X, index)
        n_rows = index.shape[-1]
        n_batch = n_batch or self.batch_rows(n_rows, memory.dtype.itemsize)
        shape = (len(members), -(-n_rows // n_batch), n_batch)
        positions = np.empty((len(members), shape[1] * n_batch), np.intp)
        positions[:, :n_rows] = index
        positions[:, n_rows:] = index[..., :1]  # filled up by one of them
        compiled = self.compile(members[0], n_batch, is_sparse=issparse(X))
        executable = memory.executable(compiled, len(members))
        load(executable, self.state_of(params), members)
        logits = np.empty(shape, memory.dtype)
        executable.run(Feed(X, positions.reshape(shape), logits=logits))
        return logits.reshape(len(members), -1)[:, :n_rows]

    def batch_rows(self, n_rows: int, n_bytes: int) -> int:
        """Return the size of batches of the same size to predict so many rows in.

        It is a power of two or a multiple of 16, so that there are few programs.

        Parameters
        ----------
        n_rows : int
        n_bytes : int
            Of a number.
        """
        if n_rows <= 16:
            return 1 << max(n_rows - 1, 0).bit_length()
        most = max(BYTES_OF_A_BLOCK // (self.network.widest * n_bytes) // 16 * 16, FEWEST_ROWS)
        n_batches = -(-n_rows // most)
        return -(-n_rows // n_batches // 16) * 16

    def gradients(
        self, members: list[int], params: np.ndarray, X: np.ndarray, memory: Memory
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the logits of members of one kind for their rows, and the gradients by these.

        Parameters
        ----------
        members : list of int
        params : ndarray of shape (n_all_members, n_params)
        X : ndarray of shape (n_members, n_samples, n_in)
        memory : Memory

        Returns
        -------
        logits : ndarray of shape (n_members, n_samples)
        grads : ndarray of shape (n_members, n_samples, n_in)
        """
        n_members, n_rows, n_in = X.shape
        logits, grads = np.empty(X.shape[:2], X.dtype), np.empty_like(X)
        n_batch = self.batch_rows(n_rows, X.itemsize)
        compiled = self.compile(members[0], n_batch, gradient_formula, is_sparse=False)
        executable = memory.executable(compiled, n_members)
        load(executable, self.state_of(params), members)
        firsts = np.arange(n_members)[:, np.newaxis, np.newaxis] * n_rows
        found = np.empty((n_members, 1, n_batch), X.dtype)
        for start in range(0, n_rows, n_batch):
            rows = np.minimum(np.arange(start, start + n_batch), n_rows - 1)
            executable.run(Feed(X.reshape(-1, n_in), firsts + rows, logits=found))
            logits[:, rows], grads[:, rows] = found[:, 0], executable.views["grad_x"]
        return logits, grads

    def groups(
        self, members: Sequence[int], n_rows: int, n_threads: int = 1, *, n_compiled: int = 1
    ) -> list[list[int]]:
        """Return members that run side by side, in batches of so many rows.

        They have the same layers. Small batches of several members are as much work for NumPy as
        pays for a call; compiled code gets `n_compiled` in a call, and runs them one by one.
        """
        n_numbers = max(n_rows * self.network.widest, 1)
        is_numpy = self.executor == "numpy"
        most = max(1, NUMBERS_AT_ONCE // n_numbers) if is_numpy else n_compiled
        most = min(most, -(-len(members) // n_threads))
        by_kind: dict[int, list[int]] = {}
        for member in members:
            by_kind.setdefault(self._kind(member), []).append(member)
        groups = []
        for alike in by_kind.values():
            n_groups = -(-len(alike) // most)
            groups += [alike[i::n_groups] for i in range(n_groups)]
        return groups

    def state_of(self, params: np.ndarray, prefix: str = "") -> State:
        """View the flat parameters of members as inputs of a program."""
        n_trainable = self.network.layout.n_trainable
        state = {f"{prefix}params": params[:, :n_trainable]}
        if params.shape[1] > n_trainable:
            state[f"{prefix}statistics"] = params[:, n_trainable:]
        return state


def load(executable: Executable, state: State, members: list[int]) -> None:
    """Write the state of members into the memory of a program."""
    for name, array in state.items():
        for view, member in zip(executable.views[name], members, strict=True):
            view[...] = array[member]


def store(executable: Executable, state: State, members: list[int]) -> None:
    """Read the state of members from the memory of a program."""
    for name, array in state.items():
        for view, member in zip(executable.views[name], members, strict=True):
            array[member] = view


def compose(X: Any, index: np.ndarray) -> tuple[Any, np.ndarray]:
    """Return a table, and positions in it, instead of a selection from it."""
    if isinstance(X, Selection):
        return X.table, X.index[index]
    return X, index


def draw_bits(rngs: Sequence[np.random.Generator], n_steps: int, n_bits: int) -> np.ndarray | None:
    """Draw random numbers of 16 bits, (n_members, n_steps, n_bits), from a stream for each member.

    They are the same ones if each step draws by itself.
    """
    if not n_bits:
        return None
    n_words = -(-n_bits // 4)  # of 64 bits
    words = [rng.bit_generator.random_raw(n_steps * n_words) for rng in rngs]
    flat = np.stack(words) if len(words) > 1 else words[0][np.newaxis]
    return flat.view(np.uint16).reshape(len(rngs), n_steps, 4 * n_words)[..., :n_bits]
