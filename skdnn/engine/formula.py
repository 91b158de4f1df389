"""A formula with its inputs, and how it becomes a program."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from .lowering import Kernel, lower
from .ops import Shape, SparseRows
from .plan import Program, plan
from .trace import ADVICE, Symbol, Trace, UntraceableError, Value

TakeBits = Callable[[int, int], Any]

MOST_KEPT = 16
"""Programs that are kept for the next formula of the same operations."""

LARGEST_KEPT = 1 << 20
"""Numbers of the arena of a program that is kept: to plan a larger one takes little of its run, and
its constants much memory."""

_programs: dict[Any, Program] = {}


@dataclass(frozen=True)
class Formula:
    """A pure function of named arrays.

    Attributes
    ----------
    function : callable
        ``function(arrays, take_bits) -> arrays``, both by name. Each output is written where the
        input of its name lies; ``take_bits(start, size)`` returns random bits.
    shapes : dict of str to tuple of int
        Of the inputs, and of outputs that are no inputs.
    is_sparse : bool
        Whether the input "x" is sparse.
    """

    function: Callable[[dict[str, Any], TakeBits], dict[str, Any]]
    shapes: dict[str, Shape]
    is_sparse: bool = False

    @cached_property
    def n_bits(self) -> int:
        """How many random numbers of 16 bits the formula takes."""
        needed = [0]

        def take_bits(start: int, size: int) -> np.ndarray:
            needed.append(start + size)
            return np.zeros(size, np.uint16)

        arrays: dict[str, Any] = {name: np.ones(shape) for name, shape in self.shapes.items()}
        if self.is_sparse:
            arrays["x"] = SparseRows(csr_array(self.shapes["x"]))
        self.call(arrays, take_bits)
        return max(needed)

    def call(self, arrays: dict[str, Any], take_bits: TakeBits) -> dict[str, Any]:
        """Return the outputs for arrays of NumPy's, read-only ones where others need them too."""
        try:
            return self.function(arrays, take_bits)
        except ValueError as error:
            if "read-only" not in str(error):
                raise
            raise TypeError(f"A formula must not write into an array; {ADVICE}") from error

    def trace(self, kernels: Collection[str] = ()) -> tuple[Trace, dict[str, Symbol]]:
        """Call the function with symbols; return what that has recorded, and its outputs.

        Parameters
        ----------
        kernels : collection of str, default=()
            Names of fused operations to record as they are.

        Raises
        ------
        UntraceableError
            If it does what a program cannot do.
        """
        trace, arrays = Trace(kernels), dict[str, Any]()
        for name, shape in self.shapes.items():
            is_sparse = name == "x" and self.is_sparse
            value = Value(name, math.prod(shape), memory="sparse" if is_sparse else "floats")
            arrays[name] = Symbol(trace, value, shape)
            if not is_sparse:
                trace.inputs[name] = arrays[name]
        return trace, self.function(arrays, trace.random_bits)

    def compile(self, executor: str = "numpy", *, is_checked: bool = True) -> Program:
        """Trace the formula, and plan a program for an executor, "numpy" or "numba".

        A formula of the same operations as one before, as that of the next part of a stream, has
        the same program. If it is not yet `is_checked`, a new one is traced twice.

        Raises
        ------
        UntraceableError
            If it does what a program cannot do, or not the same each time.
        """
        kernels = Kernel.__members__ if executor == "numba" else ()
        trace, outputs = self.trace(kernels)
        key = executor, *self._list_operations(trace, outputs)
        program = _programs.get(key)
        if program is None:
            if not is_checked:
                again = self.trace(kernels)
                is_same = key == (executor, *self._list_operations(*again))
                again[0].clear()
                if not is_same:
                    raise UntraceableError(
                        "a formula does not compute the same each time that it is called"
                    )
            program = plan(trace, outputs)
            program = lower(program) if executor == "numba" else program
            if len(_programs) >= MOST_KEPT:
                _programs.clear()
            if program.size <= LARGEST_KEPT:
                _programs[key] = program
        trace.clear()
        return program

    def _list_operations(self, trace: Trace, outputs: dict[str, Symbol]) -> tuple[Any, ...]:
        """Return all that a program depends on."""
        stored = tuple((name, trace.plain(output).key) for name, output in outputs.items())
        return self.is_sparse, tuple(self.shapes.items()), tuple(trace.known), stored
