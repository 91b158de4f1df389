"""The executors: what runs a program, or a formula that is none, in the memory of a thread."""

from __future__ import annotations

import numpy as np

from .formula import EagerExecutable, Formula
from .lowering import NumbaExecutable
from .numpy_executor import NumpyExecutable
from .plan import Program

Executable = EagerExecutable | NumpyExecutable | NumbaExecutable
"""A formula that is ready to run: ``run(feed)``.

Its `views` are the inputs and outputs by name, each with an axis of members in front; `constants`
are views too, each with what is to be written into it.
"""


class Memory:
    """Memory of one thread, which the programs that it runs use in turn.

    Parameters
    ----------
    dtype : dtype

    Attributes
    ----------
    n_bytes : int
    """

    def __init__(self, dtype: np.typing.DTypeLike) -> None:
        self.dtype = np.dtype(dtype)
        self.n_bytes = 0
        self._flat = np.zeros(0, dtype)
        self._bound: dict[tuple[int, int], tuple[Program | Formula, Executable]] = {}
        self._last: tuple[int, int] | None = None

    def executable(self, compiled: Program | Formula, n_members: int = 1) -> Executable:
        """Return what runs a program, or a formula at once, with its constants in place.

        It is bound to this memory before or now; what others have left there is overwritten.
        """
        key = (id(compiled), n_members)
        if key not in self._bound:
            self._bound[key] = compiled, self._bind(compiled, n_members)
        executable = self._bound[key][1]
        if self._last != key:
            for view, values in executable.constants:
                view[...] = values
            self._last = key
        return executable

    def _bind(self, compiled: Program | Formula, n_members: int) -> Executable:
        if isinstance(compiled, Formula):
            return EagerExecutable(compiled, n_members, self.dtype)
        size = n_members * compiled.size
        if len(self._flat) < size:
            self._bound.clear()
            self._last = None
            self._flat = np.zeros(size, self.dtype)
            self.n_bytes = self._flat.nbytes
        bind = NumpyExecutable if compiled.table is None else NumbaExecutable
        return bind(compiled, self._flat[:size].reshape(n_members, compiled.size))
