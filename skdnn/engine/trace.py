"""Formulas called with symbolic arrays, and the operations that this records.

A `Symbol` knows its shape and stands for an array. What a formula does with it is recorded in a
`Trace`; an operation that was recorded before is not recorded again, so that a formula may compute
in the backward pass what it has computed in the forward pass. What cannot be recorded is an error
where it stands.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from traceback import walk_tb
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from . import ops
from .ops import FusedOp, Op, Shape, Traced


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
    is_bits : bool
        Whether it holds random bits, 16 a number, and no floats.
    """

    key: Any
    size: int
    node: Node | None = None
    constant: np.ndarray | None = None
    is_bits: bool = False


@dataclass(eq=False, slots=True)
class Node:
    """One operation of a program."""

    op: Op | FusedOp
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
        is_vector = 1 in shape[-2:]  # whose numbers lie in the same order
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
            known = -math.prod(shape)
            shape = tuple(plain.size // max(known, 1) if n == -1 else n for n in shape)
        if math.prod(shape) != plain.size:
            raise ValueError(f"cannot reshape {self.shape} into {shape}.")
        return Symbol(self.trace, plain.value, shape, plain.offset)

    def __getitem__(self, index: Any) -> Symbol:
        return self.trace.take_slice(self, index)

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
        return self.trace.record(op, inputs, {})

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


class SparseSymbol(Traced):
    """A batch of rows of a CSR matrix, which only enters products."""

    def __init__(self, trace: Trace, shape: Shape, is_transposed: bool = False) -> None:
        self.trace, self.shape, self.is_transposed = trace, shape, is_transposed
        self.key = ("sparse", is_transposed)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def mT(self) -> SparseSymbol:  # noqa: N802
        return SparseSymbol(self.trace, self.shape[::-1], not self.is_transposed)

    def __matmul__(self, other: Any) -> Any:
        if self.is_transposed:
            return ops.csr_transposed_matmul(self.mT, other)
        return ops.csr_matmul(self, other)


KEY = attrgetter("key")

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
    np.zeros_like: lambda a: ops.broadcast_to(a.trace.constant(0.0), a.shape),
    np.ones_like: lambda a: ops.broadcast_to(a.trace.constant(1.0), a.shape),
}


@dataclass
class Trace:
    """The operations that formulas have come to.

    Attributes
    ----------
    kernels : set of str
        Names of fused operations to record as they are.
    nodes : list of Node
    inputs : dict of str to Value
    shapes : dict of str to tuple of int
        Of the inputs.
    constants : dict
    known : dict
        The results of the nodes, by operation, operands and attributes: the same for the same
        formulas.
    """

    kernels: frozenset[str] = frozenset()
    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, Value] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    constants: dict[Any, Value] = field(default_factory=dict)
    known: dict[Any, tuple[Symbol, ...]] = field(default_factory=dict)

    def input(self, name: str, shape: Shape) -> Symbol:
        """Return a symbol for an array that is given, and may be written in the end."""
        value = self.inputs[name] = Value(name, math.prod(shape))
        self.shapes[name] = shape
        return Symbol(self, value, shape)

    def random_bits(self, start: int, size: int) -> Symbol:
        """Return a symbol for some of the random numbers of 16 bits that a step has."""
        if "bits" not in self.inputs:
            self.inputs["bits"] = Value("bits", 0, is_bits=True)
        value = self.inputs["bits"]
        value.size = max(value.size, start + size)
        self.shapes["bits"] = (value.size,)
        return Symbol(self, value, (size,), start)

    def constant(self, array: Any) -> Symbol:
        """Return a symbol for numbers that never change."""
        array = np.asarray(array, dtype=np.float64)
        key = (array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = Value(key, array.size, constant=array)
        return Symbol(self, self.constants[key], array.shape)

    def plain(self, operand: Any) -> Symbol:
        """Return an operand whose numbers lie in the order of its shape."""
        if isinstance(operand, Symbol):
            if not operand.is_transposed:
                return operand
            return self.append(ops.transpose, (operand.mT,), {}, [operand.shape])[0]
        if isinstance(operand, int | float | np.ndarray | np.number):
            return self.constant(operand)
        raise UntraceableError(f"an operand is a {type(operand).__name__}")

    def record(self, op: Op, operands: Sequence[Any], attributes: dict[str, Any]) -> Symbol:
        """Append an operation, unless it is known."""
        first, *others = operands
        if others and isinstance(others[0], int | float | np.number):
            if op in (ops.multiply, ops.divide) and others[0] == 1:
                return first
            if op is ops.power and others[0] == 2:
                return self.record(ops.square, (first,), {})
        if op is ops.matmul:
            n_axes = [len(x.shape) for x in operands]
            if n_axes[0] != n_axes[1] or n_axes[0] < 2:
                raise UntraceableError(f"a product of arrays with {n_axes} axes cannot be traced")
        symbols, shapes = [], []
        for x in operands:
            is_ready = isinstance(x, SparseSymbol) or (op is ops.matmul and isinstance(x, Symbol))
            symbols.append(x if is_ready else self.plain(x))
            shapes.append(symbols[-1].shape)
        return self.append(op, tuple(symbols), attributes, [op.shape(*shapes, **attributes)])[0]

    def take_slice(self, symbol: Symbol, index: Any) -> Symbol:
        """Return part of an array, without an operation where the part lies together."""
        index = list(index) if isinstance(index, tuple) else [index]
        n_given = len([i for i in index if i is not None and i is not Ellipsis])
        at = next((j for j, i in enumerate(index) if i is Ellipsis), len(index))
        index[at : at + 1] = [slice(None)] * (symbol.ndim - n_given)
        slices: list[slice] = []
        kept_shape: list[int] = []
        lengths = iter(symbol.shape)
        for i in index:
            if i is None:
                kept_shape.append(1)
                continue
            n = next(lengths)
            if isinstance(i, slice) and i.step in (None, 1):
                start, stop, _ = i.indices(n)
                slices.append(slice(start, max(start, stop)))
                kept_shape.append(max(stop - start, 0))
            elif isinstance(i, int | np.integer):
                at = int(i) + n if i < 0 else int(i)
                if not 0 <= at < n:
                    raise IndexError(f"index {i} is out of range for an axis of length {n}.")
                slices.append(slice(at, at + 1))
            else:
                raise UntraceableError(f"an index is {i!r}: only numbers and ranges are known")
        part = self._cut(self.plain(symbol), slices)
        return Symbol(self, part.value, tuple(kept_shape), part.offset)

    def _cut(self, symbol: Symbol, slices: list[slice]) -> Symbol:
        lengths = [s.stop - s.start for s in slices]
        is_whole = [n == own for n, own in zip(lengths, symbol.shape, strict=True)]
        # Contiguous: single positions first, then one range, then whole axes.
        first = next((i for i, n in enumerate(lengths) if n != 1), len(lengths))
        if all(is_whole[first + 1 :]):
            offset, stride = symbol.offset, symbol.size
            for s, n in zip(slices, symbol.shape, strict=True):
                stride //= max(n, 1)
                offset += s.start * stride
            return Symbol(self, symbol.value, tuple(lengths), offset)
        attributes = {"index": tuple((s.start, s.stop) for s in slices)}
        return self.append(ops.copy_slice, (symbol,), attributes, [tuple(lengths)])[0]

    def append(
        self,
        op: Op | FusedOp,
        symbols: tuple[Any, ...],
        attributes: dict[str, Any],
        shapes: Sequence[Shape],
    ) -> tuple[Symbol, ...]:
        """Return the results of an operation, which is appended unless it is known."""
        key = (op.name, tuple(map(KEY, symbols)), tuple(sorted(attributes.items())))
        if key not in self.known:
            node, i = Node(op, symbols, attributes), len(self.nodes)
            for j, shape in enumerate(shapes):
                value = Value((i, j), math.prod(shape), node)
                node.results = (*node.results, Symbol(self, value, shape))
            self.nodes.append(node)
            self.known[key] = node.results
        return self.known[key]

    def needed(self, outputs: dict[str, Symbol]) -> list[Node]:
        """Return the nodes that an output depends on, in their order."""
        wanted = {id(symbol.value.node) for symbol in outputs.values()}
        nodes = []
        for node in reversed(self.nodes):
            if id(node) in wanted:
                nodes.append(node)
                wanted |= {id(s.value.node) for s in node.operands if isinstance(s, Symbol)}
        return nodes[::-1]

    def clear(self) -> None:
        """Forget the operations: symbols, values and nodes know each other in circles."""
        for node in self.nodes:
            node.operands = node.results = ()
        self.nodes.clear()
        self.known.clear()
