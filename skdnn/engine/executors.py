"""The executors: what runs a program, or a formula that is none, in the memory of a thread."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .feed import Feed
from .formula import EagerExecutable, Formula
from .lowering import NumbaExecutable
from .numpy_executor import NumpyExecutable
from .plan import Program


class Executable(Protocol):
    """A formula that is ready to run, and views of its inputs and outputs."""

    views: dict[str, np.ndarray]

    def write_constants(self) -> None:
        """Write the constants of the program into its memory."""

    def run(self, feed: Feed) -> None:
        """Run once for each row of ``feed.index``."""


class Memory:
    """Memory of one thread, which the programs that it runs use in turn.

    Parameters
    ----------
    dtype : dtype
    """

    def __init__(self, dtype: np.typing.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self._flat = np.zeros(0, dtype)
        self._bound: dict[tuple[int, int], tuple[Program | Formula, Executable]] = {}
        self._last: tuple[int, int] | None = None

    @property
    def n_bytes(self) -> int:
        return self._flat.nbytes

    def take(self, n_members: int, size: int) -> np.ndarray:
        """Return memory of shape (n_members, size)."""
        if len(self._flat) < n_members * size:
            self._bound, self._last = {}, None
            self._flat = np.zeros(n_members * size, self.dtype)
        return self._flat[: n_members * size].reshape(n_members, size)

    def executable(self, compiled: Program | Formula, n_members: int = 1) -> Executable:
        """Return what runs a program, or a formula at once, with its constants in place.

        It is bound to this memory before or now; what others have left there is overwritten.
        """
        key = (id(compiled), n_members)
        if key not in self._bound:
            executable: Executable
            if isinstance(compiled, Formula):
                executable = EagerExecutable(compiled, n_members, self.dtype)
            else:
                bind = NumpyExecutable if compiled.table is None else NumbaExecutable
                executable = bind(compiled, self.take(n_members, compiled.size))
            self._bound[key] = (compiled, executable)
        if self._last != key:
            self._bound[key][1].write_constants()
            self._last = key
        return self._bound[key][1]
