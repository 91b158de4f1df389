"""A network as nodes: one for each operation that its formulas record when they are traced.

All tensors have an axis of members in front, of length 1 where they are the same for all members,
so that one node computes all members with the same layers.

Formulas are traced for two numbers of rows. From the differences between the traces follows which
lengths depend on the number of rows, which is open in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from ..engine.ops import Shape
from ..engine.trace import Node, Symbol, UntraceableError, locate
from ..nn import Network, Sequential
from ..training.step import prediction_formula
from .graph import BOOL, DOUBLE, FLOAT, INT64, Graph

SIZES = (5, 7)
"""The two numbers of rows; neither is 1, along which arrays are repeated."""

BY_ROWS = "what it computes depends on the number of rows"

ONNX_FUSED = {FLOAT: frozenset({"sigmoid"}), DOUBLE: frozenset[str]()}
"""Fused operations that ONNX has. Versions of onnxruntime before 1.24 make of ``z * sigmoid(z)`` an
operation that they have for float32 alone."""


class Tensor(NamedTuple):
    """A tensor of the graph, (n_members or 1, *shape)."""

    name: str
    n_members: int
    shape: Shape  # in the first trace


class Length(NamedTuple):
    """A length or a position: ``fixed + per_row * n_samples``."""

    fixed: int
    per_row: int


def find_lengths(first: Any, second: Any) -> list[Length]:
    """Return how lengths depend on the number of rows, from their values in the two traces."""
    per_row, rest = np.divmod(np.subtract(second, first, dtype=int), SIZES[1] - SIZES[0])
    if rest.any():
        raise UntraceableError(BY_ROWS)
    fixed = np.array(first, int) - per_row * SIZES[0]
    return list(map(Length, fixed.tolist(), per_row.tolist()))


def write_network(graph: Graph, network: Network, params: np.ndarray, x: str) -> str:
    """Write the logits of all members, (n_members, n_samples), from what enters the network.

    Raises
    ------
    TypeError
        If a formula does what no graph can do, with the place where it stands.
    """
    groups: dict[int, list[int]] = {}  # members with the same layers
    for member in range(network.n_members):
        groups.setdefault(network.kind_of_member(member), []).append(member)
    x = graph.node("Unsqueeze", x, np.array([0]))
    try:
        logits = [
            _Writer(graph, x, network, network.of_member(own[0]), params[own]).logits()
            for own in groups.values()
        ]
    except UntraceableError as error:
        raise TypeError(
            f"The network cannot be written as ONNX: {locate(error)}. Write formulas with "
            "operators and the functions of skdnn.nn.functions."
        ) from error
    return graph.concat(logits, axis=0)


class _Writer:
    """Writes the members of a network that have the same layers.

    Parameters
    ----------
    graph : Graph
    x : str
        What enters, (1, n_samples, n_in).
    network : Network
    layers : Sequential
    params : ndarray of shape (n_members, n_params)
    """

    def __init__(
        self, graph: Graph, x: str, network: Network, layers: Sequential, params: np.ndarray
    ) -> None:
        self.graph, self._x, self.dtype = graph, x, params.dtype
        self.type = DOUBLE if params.dtype == np.float64 else FLOAT
        n_trainable = network.layout.n_trainable
        self._state = {"params": params[:, :n_trainable], "statistics": params[:, n_trainable:]}
        self._traces = [
            prediction_formula(network, layers, size, is_sparse=False).trace(ONNX_FUSED[self.type])
            for size in SIZES
        ]
        self._tensors: dict[int, Tensor] = {}  # by the id of a value of the first trace

    @cached_property
    def _n_samples(self) -> str:
        return self.graph.node("Gather", self.graph.node("Shape", self._x), np.array([1]))

    def logits(self) -> str:
        """Write all that the logits depend on, and return them."""
        (trace, outputs), (second_trace, second_outputs) = self._traces
        nodes, seconds = trace.needed(outputs), second_trace.needed(second_outputs)
        if [node.op.name for node in nodes] != [node.op.name for node in seconds]:
            raise UntraceableError(BY_ROWS)
        x = trace.inputs["x"]
        self._tensors[id(x.value)] = Tensor(self._x, 1, x.shape)
        for node, second in zip(nodes, seconds, strict=True):
            self._write(node, second)
        return self._view(outputs["logits"], second_outputs["logits"]).name

    def _write(self, node: Node, second: Node) -> None:
        name, result = node.op.name, node.results[0]
        if name not in WRITE:
            raise UntraceableError(f"the operation {name} is none of ONNX")
        n_axes = result.ndim if name in ELEMENTWISE else 0
        pairs = zip(node.operands, second.operands, strict=True)
        operands = [self._view(*pair, n_axes) for pair in pairs]
        n_members = max(operand.n_members for operand in operands)
        if name in ("concat", "take_rows"):  # which do not repeat members by themselves
            operands = [self._repeat(operand, n_members) for operand in operands]
        attributes = node.attributes | {
            key: find_lengths(np.ravel(node.attributes[key]), np.ravel(second.attributes[key]))
            for key in ("index", "shape")
            if key in node.attributes
        }
        written = WRITE[name](self, *operands, **attributes)
        self._tensors[id(result.value)] = Tensor(written, n_members, result.shape)

    def _view(self, symbol: Symbol, second: Symbol, n_axes: int = 0) -> Tensor:
        """Return the tensor of a symbol: of a value, or of part of one, in some shape.

        If it has fewer axes than wanted, some are inserted in front. `second` is the same symbol in
        the second trace.
        """
        array = self._read(symbol)
        more = (1,) * (n_axes - symbol.ndim)
        shape, second_shape = more + symbol.shape, more + second.shape
        if array is None:
            operand = self._cut(symbol, second)
            if symbol.is_transposed:
                operand = self._reshape(operand, _swap(symbol.shape), _swap(second.shape))
                axes = _swap(range(symbol.ndim + 1))
                name = self.graph.node("Transpose", operand.name, perm=axes)
                operand = Tensor(name, operand.n_members, symbol.shape)
            return self._reshape(operand, shape, second_shape)
        if shape != second_shape and array.size and not np.ptp(array):  # ones, for instance
            lengths = self.vector([Length(1, 0), *find_lengths(shape, second_shape)])
            return Tensor(self.graph.node("Expand", array.flat[0], lengths), 1, shape)
        same = self._read(second)
        if same is None or not np.array_equal(array, same):
            raise UntraceableError(BY_ROWS)
        return Tensor(self.graph.constant(array.reshape(-1, *shape)), len(array), shape)

    def _read(self, symbol: Symbol) -> np.ndarray | None:
        """Return the value of a constant or parameter, (n_members or 1, *shape), else None."""
        value = symbol.value
        if value.constant is not None:
            flat = value.constant.astype(self.dtype).reshape(1, -1)
        elif value.node is None and value.key in self._state:
            flat = self._state[value.key]
        else:
            return None
        part = flat[:, symbol.offset : symbol.offset + symbol.size]
        if symbol.is_transposed:
            return part.reshape(len(part), *_swap(symbol.shape)).mT
        return part.reshape(len(part), *symbol.shape)

    def _cut(self, symbol: Symbol, second: Symbol) -> Tensor:
        """Return the value that a symbol is, or the part that it is of one, as a vector."""
        operand = self._tensors[id(symbol.value)]
        if symbol.size == symbol.value.size:
            return operand
        start, size = find_lengths([symbol.offset, symbol.size], [second.offset, second.size])
        end = Length(start.fixed + size.fixed, start.per_row + size.per_row)
        flat = self.graph.node("Reshape", operand.name, np.array([0, -1]))
        ends = (self.vector([start]), self.vector([end]))
        name = self.graph.node("Slice", flat, *ends, np.array([1]))
        return Tensor(name, operand.n_members, (symbol.size,))

    def _reshape(self, operand: Tensor, shape: Shape, second_shape: Shape) -> Tensor:
        if shape == operand.shape:
            return operand
        lengths = [-1 if n.per_row else n.fixed for n in find_lengths(shape, second_shape)]
        if lengths.count(-1) > 1:
            raise UntraceableError("an array has the number of rows along two axes")
        name = self.graph.node("Reshape", operand.name, np.array([0, *lengths]))
        return Tensor(name, operand.n_members, shape)

    def _repeat(self, operand: Tensor, n_members: int) -> Tensor:
        if operand.n_members == n_members:
            return operand
        lengths = np.array([n_members, *(1 for _ in operand.shape)])
        name = self.graph.node("Expand", operand.name, lengths)
        return Tensor(name, n_members, operand.shape)

    def vector(self, lengths: list[Length]) -> str:
        """Return lengths or positions as a tensor."""
        fixed, per_row = np.array(lengths).T
        if not per_row.any():
            return self.graph.constant(fixed)
        return self.graph.node("Add", self.graph.node("Mul", self._n_samples, per_row), fixed)

    def number(self, value: float) -> np.ndarray:
        """Return a number in the dtype of the tensors."""
        return np.array(value, self.dtype)

    def node(self, op_type: str, *inputs: Any, **attributes: Any) -> str:
        """Append a node; inputs may be tensors of this writer too."""
        names = [x.name if isinstance(x, Tensor) else x for x in inputs]
        return self.graph.node(op_type, *names, **attributes)

    def cast(self, x: str | Tensor, to: int | None = None) -> str:
        """Convert a tensor to another type, if none is given to that of the tensors."""
        return self.node("Cast", x, to=self.type if to is None else to)


def _swap(shape: Any) -> tuple[int, ...]:
    """Swap the last two of some axes, or of their lengths."""
    *first, m, n = shape
    return (*first, n, m)


Write = Callable[..., str]
"""``write(writer, *operands, **attributes)`` returns the name of the result."""


def _same(op_type: str) -> Write:
    """Write an operation that ONNX has."""
    return lambda w, *operands: w.node(op_type, *operands)


def _write_comparison(op_type: str) -> Write:
    """Write a comparison that ONNX has; its result is 1 or 0 in formulas."""
    return lambda w, a, b: w.cast(w.node(op_type, a, b))


def _write_cos(w: _Writer, a: Tensor) -> str:
    if w.type == FLOAT:
        return w.node("Cos", a)
    # Of float64, versions of onnxruntime before 1.24 have the sine alone.
    return w.node("Sin", w.node("Add", a, w.number(np.pi / 2.0)))


def _write_sum(w: _Writer, a: Tensor, *, axis: int | None, keepdims: bool) -> str:
    if axis is None:
        raise UntraceableError("a sum over all axes mixes the rows")
    return w.node("ReduceSum", a, np.array([axis + 1]), keepdims=int(keepdims))


def _write_slice(w: _Writer, a: Tensor, *, index: list[Length]) -> str:
    starts, ends = w.vector(index[::2]), w.vector(index[1::2])
    return w.node("Slice", a, starts, ends, np.arange(1, len(a.shape) + 1))


def _write_take_rows(w: _Writer, tables: Tensor, codes: Tensor) -> str:
    """Write a lookup in each member's table; codes beyond it stand for its first or last row."""
    index = w.node("Clip", codes, w.number(0.0), w.number(tables.shape[0] - 1.0))
    index = w.node("Unsqueeze", w.cast(index, INT64), np.array([-1]))
    return w.node("GatherND", tables, index, batch_dims=1)


ELEMENTWISE: dict[str, Write] = {
    "add": _same("Add"),
    "subtract": _same("Sub"),
    "multiply": _same("Mul"),
    "divide": _same("Div"),
    "power": _same("Pow"),
    "maximum": _same("Max"),
    "minimum": _same("Min"),
    "greater": _write_comparison("Greater"),
    "greater_equal": _write_comparison("GreaterOrEqual"),
    "less": _write_comparison("Less"),
    "less_equal": _write_comparison("LessOrEqual"),
    "equal": _write_comparison("Equal"),
    "not_equal": lambda w, a, b: w.cast(w.node("Not", w.node("Equal", a, b))),
    "negative": _same("Neg"),
    "absolute": _same("Abs"),
    "sign": _same("Sign"),
    "square": lambda w, a: w.node("Mul", a, a),
    "sqrt": _same("Sqrt"),
    "exp": _same("Exp"),
    "expm1": lambda w, a: w.node("Sub", w.node("Exp", a), w.number(1.0)),
    "log": _same("Log"),
    "log1p": lambda w, a: w.node("Log", w.node("Add", a, w.number(1.0))),
    "tanh": _same("Tanh"),
    "sin": _same("Sin"),
    "cos": _write_cos,
    "erf": lambda w, a: w.cast(w.node("Erf", w.cast(a, FLOAT))),  # float64 is not supported
    "sigmoid": _same("Sigmoid"),
    "clip": lambda w, a, *, low, high: w.node("Clip", a, w.number(low), w.number(high)),
    "where": lambda w, c, a, b: w.node("Where", w.cast(c, BOOL), a, b),
    "copy": _same("Identity"),
    "broadcast": lambda w, a, *, shape: w.node("Expand", a, w.vector([Length(1, 0), *shape])),
}
"""What writes an operation on each element; operands have as many axes as the result."""

WRITE: dict[str, Write] = {
    **ELEMENTWISE,
    "matmul": _same("MatMul"),
    "sum": _write_sum,
    "transpose": lambda w, a: w.node("Transpose", a, perm=_swap(range(len(a.shape) + 1))),
    "copy_slice": _write_slice,
    "concat": lambda w, *arrays, axis: w.node("Concat", *arrays, axis=axis + 1),
    "take_rows": _write_take_rows,
}
"""What writes each operation. Those that are missing have no place in a prediction."""
