"""Formulas called with symbolic arrays, and the operations that this records.

A `Symbol` knows its shape and stands for an array. What a formula does with it is recorded in a
`Trace`; an operation that was recorded before is not recorded again, so that a formula may compute
in the backward pass what it has computed in the forward pass. What cannot be recorded is an error
where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from . import ops
from .ops import Op, Shape, Traced


class UntraceableError(TypeError):
    """A formula does something that a program cannot do: it can only run at once."""


def locate(error: UntraceableError) -> str:
    """Say what cannot be traced, and the line of the formula where it stands."""
    own = Path(__file__).parent
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        code = frame.f_code
        if Path(code.co_filename).parent != own:
            return f"{error} ({code.co_qualname} in {code.co_filename}, line {line})"
    return str(error)


@dataclass(eq=False, slots=True)
class Value:
    """An array in the memory of a program: `size` numbers, one after the other.

    Attributes
    ----------
    key : hashable
        What it has in common with the same value of another trace; the name of an input.
    size : int
    node : Node or None
        What computes it; None stands for an input or a constant.
    constant : ndarray or None
    memory : {"floats", "bits", "sparse"}
        Whether it lies in the arena, among the random bits of a step, or is the sparse input.
    """

    key: Any
    size: int
    node: Node | None = None
    constant: np.ndarray | None = None
    memory: str = "floats"


@dataclass(eq=False, slots=True)
class Node:
    """One operation of a program."""

    op: Op
    operands: tuple[Symbol, ...]
    attributes: dict[str, Any]
    results: tuple[Symbol, ...] = ()


class Symbol(Traced, NDArrayOperatorsMixin):
    """An array of which only the shape is known, at an offset within a `Value`.

    Attributes
    ----------
    trace : Trace
    value : Value
    offset : int
        Where it begins within the value.
    shape : tuple of int
    is_transposed : bool
        Whether the numbers lie in the order of the transpose. Products take that as it is.
    ndim, size : int
    key : tuple
        What two symbols of the same numbers have in common.
    """

    __slots__ = ("is_transposed", "key", "ndim", "offset", "shape", "size", "trace", "value")

    def __init__(
        self,
        trace: Trace,
        value: Value,
        shape: Shape,
        offset: int = 0,
        is_transposed: bool = False,
    ) -> None:
        self.trace, self.value, self.shape = trace, value, tuple(shape)
        self.offset, self.is_transposed = offset, is_transposed
        self.ndim, self.size = len(self.shape), math.prod(self.shape)
        self.key = (value.key, offset, self.shape, is_transposed)

    @property
    def real(self) -> Symbol:
        return self

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def mT(self) -> Symbol:  # noqa: N802 - the array API's name
        shape = (*self.shape[:-2], self.shape[-1], self.shape[-2])
        # The numbers of a vector lie in the same order.
        is_vector = 1 in shape[-2:] and self.value.memory != "sparse"
        is_transposed = self.is_transposed if is_vector else not self.is_transposed
        return Symbol(self.trace, self.value, shape, self.offset, is_transposed)

    @property
    def T(self) -> Symbol:  # noqa: N802
        if self.ndim != 2:
            raise UntraceableError(f"T takes a matrix, got the shape {self.shape}; write mT.")
        return self.mT

    def reshape(self, *shape: Any) -> Symbol:
        if len(shape) == 1 and not isinstance(shape[0], int):
            shape = tuple(shape[0])
        plain = self.trace.plain(self)
        if -1 in shape:
            at, known = shape.index(-1), -math.prod(shape)
            shape = (*shape[:at], plain.size // max(known, 1), *shape[at + 1 :])
        if math.prod(shape) != plain.size:
            raise ValueError(f"cannot reshape {self.shape} into {shape}.")
        return Symbol(self.trace, plain.value, shape, plain.offset)

    def __getitem__(self, index: Any) -> Symbol:
        """Return a part, without an operation where its numbers lie together."""
        ranges, shape = _read_index(self.shape, index)
        symbol = self.trace.plain(self)
        offset, n_inner, is_whole, is_together = symbol.offset, 1, True, True
        for (start, stop), n in zip(ranges[::-1], self.shape[::-1], strict=True):
            is_together &= is_whole or stop - start == 1
            is_whole &= stop - start == n
            offset += start * n_inner
            n_inner *= n
        if not is_together:
            symbol = self.trace.record(ops.copy_slice, (symbol,), {"index": ranges})
            offset = symbol.offset
        return Symbol(self.trace, symbol.value, shape, offset)

    def sum(self, axis: int | None = None, keepdims: bool = False) -> Symbol:
        return ops.sum(self, axis, keepdims)

    def mean(self, axis: int | None = None, keepdims: bool = False) -> Symbol:
        return ops.mean(self, axis, keepdims)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        for out in kwargs.get("out", ()):
            if isinstance(out, Symbol):
                raise TypeError(
                    f"A formula must not change an array in place, of shape {out.shape}; {ADVICE}"
                )
        op = ops.UFUNCS.get(ufunc)
        if op is None or method != "__call__" or kwargs:
            how = f"{ufunc.__name__}.{method}" if method != "__call__" else ufunc.__name__
            what = f" with {sorted(kwargs)}" if kwargs else ""
            raise UntraceableError(f"{how}{what} cannot be traced")
        return self.trace.record(op, inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        replacement = ARRAY_FUNCTIONS.get(function)
        if replacement is None:
            raise UntraceableError(f"numpy.{function.__name__} cannot be traced")
        return replacement(*args, **kwargs)

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise UntraceableError("a function takes the numbers of an array, which a trace has not")

    def __getattr__(self, name: str) -> Any:
        if hasattr(np.ndarray, name) and not name.startswith("__"):
            raise UntraceableError(f"the method {name} of arrays cannot be traced")
        raise AttributeError(f"There is no attribute {name!r}.")

    def __bool__(self) -> bool:
        raise UntraceableError("a branch depends on the numbers in an array")

    def __float__(self) -> float:
        raise UntraceableError("a number is taken out of an array")

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(f"A formula must not write into an array, of shape {self.shape}; {ADVICE}")

    __hash__ = object.__hash__


KEY, SHAPE = attrgetter("key"), attrgetter("shape")

ADVICE = "return a new one, for example y = y * 2.0 for y *= 2.0."

ARRAY_FUNCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: ops.sum,
    np.mean: ops.mean,
    np.concatenate: ops.concat,
    np.where: ops.where,
    np.clip: lambda a, low, high: ops.minimum(ops.maximum(a, low), high),
    np.broadcast_to: ops.broadcast_to,
    np.reshape: lambda a, shape: a.reshape(shape),
    np.ndim: lambda a: a.ndim,
    np.shape: lambda a: a.shape,
    np.zeros_like: lambda a: ops.broadcast_to(a.trace.plain(0.0), a.shape),
    np.ones_like: lambda a: ops.broadcast_to(a.trace.plain(1.0), a.shape),
}


@dataclass
class Trace:
    """The operations that formulas have come to.

    Attributes
    ----------
    kernels : collection of str
        Names of fused operations to record as they are.
    nodes : list of Node
    inputs : dict of str to Symbol
    bits : Value
        The random numbers of a step.
    constants : dict of (shape, bytes) to Symbol
    known : dict
        The results of the nodes, by operation, operands and attributes: the same for the same
        formulas.
    """

    kernels: Collection[str] = ()
    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, Symbol] = field(default_factory=dict)
    bits: Value = field(default_factory=partial(Value, "bits", 0, memory="bits"))
    constants: dict[Any, Symbol] = field(default_factory=dict)
    known: dict[Any, tuple[Symbol, ...]] = field(default_factory=dict)

    def random_bits(self, start: int, size: int) -> Symbol:
        """Return a symbol for some of the random numbers of 16 bits that a step has."""
        self.bits.size = max(self.bits.size, start + size)
        return Symbol(self, self.bits, (size,), start)

    def plain(self, operand: Any) -> Symbol:
        """Return an operand whose numbers lie in the order of its shape.

        What is no symbol is a constant.
        """
        if isinstance(operand, Symbol):
            if operand.value.memory == "sparse":
                raise UntraceableError("a sparse X is not the first operand of a product")
            if not operand.is_transposed:
                return operand
            *first, m, n = operand.shape
            stored = Symbol(self, operand.value, (*first, n, m), operand.offset)
            return self.record(ops.transpose, (stored,))
        if not isinstance(operand, int | float | np.ndarray | np.number):
            raise UntraceableError(f"an operand is a {type(operand).__name__}")
        array = np.asarray(operand, dtype=np.float64)
        key = (array.shape, array.tobytes())
        if key not in self.constants:
            value = Value(key, array.size, constant=array)
            self.constants[key] = Symbol(self, value, array.shape)
        return self.constants[key]

    def record(
        self, op: Op, operands: tuple[Any, ...], attributes: dict[str, Any] | None = None
    ) -> Any:
        """Return the result of an operation on anything that can be an operand, or its results.

        They are those of before, if it is known.
        """
        attributes = attributes or {}
        if op is ops.power and isinstance(operands[1], int | float) and operands[1] == 2:
            op, operands = ops.square, operands[:1]
        if op is ops.matmul:  # which takes arrays in either order
            a, b = operands
            n_axes = list(map(len, (a.shape, b.shape)))
            if n_axes[0] != n_axes[1] or n_axes[0] < 2:
                raise UntraceableError(f"a product of arrays with {n_axes} axes cannot be traced")
            a = a if isinstance(a, Symbol) else self.plain(a)
            is_ready = isinstance(b, Symbol) and b.value.memory != "sparse"
            operands = a, b if is_ready else self.plain(b)
        else:
            operands = tuple(map(self.plain, operands))
        key = (op.name, tuple(map(KEY, operands)), tuple(sorted(attributes.items())))
        if key not in self.known:
            shape = op.shape(*map(SHAPE, operands), **attributes)
            node = Node(op, operands, attributes)
            for j in range(op.n_results):
                value = Value((len(self.nodes), j), math.prod(shape), node)
                node.results = (*node.results, Symbol(self, value, shape))
            self.nodes.append(node)
            self.known[key] = node.results
        results = self.known[key]
        return results[0] if op.n_results == 1 else results

    def needed(self, outputs: dict[str, Symbol]) -> list[Node]:
        """Return the nodes that an output depends on, in their order."""
        wanted, symbols = set[Node](), list[Any](outputs.values())
        while symbols:
            node = symbols.pop().value.node
            if node is not None and node not in wanted:
                wanted.add(node)
                symbols += node.operands
        return [node for node in self.nodes if node in wanted]

    def clear(self) -> None:
        """Forget the operations: symbols, values and nodes know each other in circles."""
        for node in self.nodes:
            node.operands = node.results = ()
        for kept in (self.nodes, self.inputs, self.constants, self.known):
            kept.clear()


def _read_index(shape: Shape, index: Any) -> tuple[ops.Ranges, Shape]:
    """Return the range along each axis that an index means, and the shape of that part."""
    index = index if isinstance(index, tuple) else (index,)
    n_free = len(shape)  # axes that the index says nothing of: they are taken whole
    for i in index:
        n_free -= i is not None and i is not Ellipsis
    ranges: list[tuple[int, int]] = []
    kept: list[int] = []
    for i in (*index, Ellipsis):
        rest = shape[len(ranges) :]
        if i is None:
            kept.append(1)
        elif i is Ellipsis:
            ranges += zip((0,) * n_free, rest, strict=False)
            kept += rest[:n_free]
            n_free = 0
        elif isinstance(i, slice) and i.step in (None, 1):
            start, stop, _ = i.indices(rest[0])
            ranges.append((start, max(start, stop)))
            kept.append(max(stop - start, 0))
        elif isinstance(i, int | np.integer):
            at = int(i) + rest[0] if i < 0 else int(i)
            if not 0 <= at < rest[0]:
                raise IndexError(f"index {i} is out of range for an axis of length {rest[0]}.")
            ranges.append((at, at + 1))
        else:
            raise UntraceableError(f"an index is {i!r}: only numbers and ranges are known")
    return tuple(ranges), tuple(kept)
