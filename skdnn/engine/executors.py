"""The executors by name: what turns a formula into something that runs."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from .feed import Feed
from .formula import EagerExecutable, Formula
from .lowering import NumbaExecutable, lower
from .numpy_executor import NumpyExecutable
from .opcodes import KERNELS
from .plan import Program


class Executable(Protocol):
    """A formula that is ready to run, and views of its inputs and outputs."""

    views: dict[str, np.ndarray]

    def write_constants(self) -> None:
        """Write the constants of the program into its memory."""

    def run(self, feed: Feed) -> None:
        """Run once for each row of ``feed.index``."""


class Executor:
    """How formulas are run: "numpy", "numba" or "eager".

    Parameters
    ----------
    name : str
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def compile(self, formula: Formula) -> Program | Formula:
        """Return a program for the formula; "eager" runs the formula itself."""
        if self.name == "eager":
            return formula
        return lower(formula.compile(KERNELS)) if self.name == "numba" else formula.compile()

    def bind(self, compiled: Program | Formula, n_members: int, memory: Memory) -> Executable:
        """Return what runs in this memory; what has run in it before is overwritten."""
        if isinstance(compiled, Formula):
            return EagerExecutable(compiled, n_members, memory.dtype)
        bind = NumbaExecutable if self.name == "numba" else NumpyExecutable
        return bind(compiled, memory.take(n_members, compiled.size))


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
        self.loaded: Any = None  # what the last program was given and has not changed

    @property
    def n_bytes(self) -> int:
        return self._flat.nbytes

    def take(self, n_members: int, size: int) -> np.ndarray:
        """Return memory of shape (n_members, size)."""
        if len(self._flat) < n_members * size:
            self._bound, self._last, self.loaded = {}, None, None
            self._flat = np.zeros(n_members * size, self.dtype)
        return self._flat[: n_members * size].reshape(n_members, size)

    def executable(
        self, executor: Executor, compiled: Program | Formula, n_members: int = 1
    ) -> Executable:
        """Return what runs a program here, bound before or now, with its constants in place."""
        key = (id(compiled), n_members)
        if key not in self._bound:
            executable = executor.bind(compiled, n_members, self)
            self._bound[key] = (compiled, executable)
        if self._last != key:
            self._bound[key][1].write_constants()
            self._last, self.loaded = key, None
        return self._bound[key][1]
