"""A graph while it is written, and a network in it: a node for each operation of its formulas.

All tensors of a network have the axis of members in front, so that one node computes all members
with the same layers. Formulas are traced for two numbers of rows: from the differences between the
traces follows which lengths depend on the number of rows, which is open in the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from ..engine.ops import Shape
from ..engine.trace import Node, Symbol, UntraceableError, locate
from ..nn import Network
from ..training.step import prediction_formula

OPSET, ML_OPSET = 13, 2
"""The versions of ONNX's operators that are written.

From 13 on, ``ReduceSum`` and ``Unsqueeze`` take their axes as inputs; all later versions read these
nodes the same way, so that they fit into a graph of any of them. 2 is the first whose
``LabelEncoder`` looks up strings and integers.
"""

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
BOOL, STRING = TensorProto.BOOL, TensorProto.STRING

LARGEST_INT64 = 2**63 - 1

SIZES = (5, 7)
"""The two numbers of rows; neither is 1, along which arrays are repeated."""

BY_ROWS = "what it computes depends on the number of rows"
SOME_ROWS = "it takes some of the rows"

ONNX_FUSED = {FLOAT: frozenset({"sigmoid"}), DOUBLE: frozenset[str]()}
"""Fused operations that ONNX has. Versions of onnxruntime before 1.24 make of ``z * sigmoid(z)`` an
operation that they have for float32 alone."""


class Graph:
    """Nodes and constants, in the order in which they are written.

    Parameters
    ----------
    prefix : str
        What the names begin with that nobody has given.
    nodes : list of NodeProto
    initializers : list of TensorProto
        Where nodes and constants are appended.
    """

    def __init__(
        self, prefix: str, nodes: list[NodeProto], initializers: list[TensorProto]
    ) -> None:
        self._prefix, self.nodes, self.initializers = prefix, nodes, initializers

    def node(self, op_type: str, *inputs: Any, name: str = "", **attributes: Any) -> str:
        """Append a node with one output, and return the output's name.

        Inputs are names of tensors, or arrays, which become constants.
        """
        names = [x if isinstance(x, str) else self.constant(x) for x in inputs]
        name = name or self._new_name(op_type)
        self.nodes.append(helper.make_node(op_type, names, [name], name, **attributes))
        return name

    def cast(self, x: str, to: int) -> str:
        """Convert a tensor to another type."""
        return self.node("Cast", x, to=to)

    def concat(self, parts: list[str], axis: int) -> str:
        """Join tensors along an axis."""
        return parts[0] if len(parts) == 1 else self.node("Concat", *parts, axis=axis)

    def constant(self, array: Any) -> str:
        """Append a constant, and return its name."""
        array, name = np.asarray(array), self._new_name("constant")
        array = array.astype(object if array.dtype.kind == "U" else array.dtype)
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def _new_name(self, kind: str) -> str:
        return f"{self._prefix}_{kind}_{len(self.nodes) + len(self.initializers)}"


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
        logits = [_Writer(graph, x, network, own, params[own]).logits() for own in groups.values()]
    except UntraceableError as error:
        raise TypeError(
            f"The network cannot be written as ONNX: {locate(error)}. Write formulas with "
            "operators and the functions of skdnn.nn.functions."
        ) from error
    return graph.concat(logits, axis=0)


def compare(first: Any, second: Any) -> Any:
    """Return what is the same in both traces; for a length of k times the number of rows, -k."""
    if isinstance(first, tuple):
        return tuple(compare(*pair) for pair in zip(first, second, strict=True))
    if first == second:
        return first
    if isinstance(first, int) and first * SIZES[1] == second * SIZES[0]:
        return -(first // SIZES[0])
    raise UntraceableError(BY_ROWS)


class Tensor(NamedTuple):
    """A tensor of the graph, (n_members, *shape)."""

    name: str
    shape: Shape  # as `compare` returns it


class _Writer:
    """Writes the members of a network that have the same layers.

    Parameters
    ----------
    graph : Graph
    x : str
        What enters, (1, n_samples, n_in).
    network : Network
    members : list of int
    params : ndarray of shape (n_members, n_params)
        Of these members.
    """

    def __init__(
        self, graph: Graph, x: str, network: Network, members: list[int], params: np.ndarray
    ) -> None:
        self.graph, self._x, self._n_members = graph, x, len(members)
        self.dtype = params.dtype
        self.type = DOUBLE if params.dtype == np.float64 else FLOAT
        n_trainable = network.layout.n_trainable
        self._state = {"params": params[:, :n_trainable], "statistics": params[:, n_trainable:]}
        layers = network.of_member(members[0])
        self._traces = [
            prediction_formula(network, layers, size, is_sparse=False).trace(ONNX_FUSED[self.type])
            for size in SIZES
        ]
        self._tensors: dict[int, Tensor] = {}  # by the id of a value of the first trace

    def logits(self) -> str:
        """Write all that the logits depend on, and return them."""
        (first, first_outputs), (second, second_outputs) = self._traces
        nodes, others = first.needed(first_outputs), second.needed(second_outputs)
        if [node.op.name for node in nodes] != [node.op.name for node in others]:
            raise UntraceableError(BY_ROWS)
        x, second_x = first.inputs["x"], second.inputs["x"]
        uses = {n.op.name for n in nodes for operand in n.operands if operand.value is x.value}
        entering = self._x  # MatMul takes it for each member without a copy
        if uses != {"matmul"}:
            entering = self.node("Expand", entering, np.array([self._n_members, 1, 1]))
        self._tensors[id(x.value)] = Tensor(entering, compare(x.shape, second_x.shape))
        for node, other in zip(nodes, others, strict=True):
            self._write(node, other)
        return self._view(first_outputs["logits"], second_outputs["logits"]).name

    def _write(self, node: Node, other: Node) -> None:
        """Write an operation; `other` is the same one in the second trace."""
        name, (result,) = node.op.name, node.results
        if name not in WRITE:
            raise UntraceableError(f"the operation {name} is none of ONNX")
        n_axes = result.ndim if node.op.is_elementwise or name == "broadcast" else 0
        pairs = zip(node.operands, other.operands, strict=True)
        operands = [self._view(*pair, n_axes) for pair in pairs]
        attributes = {
            key: compare(value, other.attributes[key]) for key, value in node.attributes.items()
        }
        written = WRITE[name](self, *operands, **attributes)
        shape = compare(result.shape, other.results[0].shape)
        self._tensors[id(result.value)] = Tensor(written, shape)

    def _view(self, symbol: Symbol, other: Symbol, n_axes: int = 0) -> Tensor:
        """Return the tensor of a symbol: of a value, or of part of one, in some shape.

        If it has fewer axes than wanted, some are inserted in front.
        """
        shape = (1,) * (n_axes - symbol.ndim) + compare(symbol.shape, other.shape)
        stored = _swap(shape) if symbol.is_transposed else shape
        numbers, same = self._read(symbol), self._read(other)
        if numbers is None or same is None:
            name = self._reshape(self._cut(symbol, other), stored)
        elif min(shape, default=0) < 0 and not np.ptp(np.hstack([numbers, same])):  # as of ones
            name = self.expand(numbers[0, :1].reshape([1] * (len(shape) + 1)), stored)
        elif np.array_equal(numbers, same):
            name = self.graph.constant(numbers.reshape(-1, *stored))
        else:
            raise UntraceableError(BY_ROWS)
        if symbol.is_transposed:
            name = self.node("Transpose", name, perm=_swap(range(len(shape) + 1)))
        return Tensor(name, shape)

    def _read(self, symbol: Symbol) -> np.ndarray | None:
        """Return the numbers of a constant or parameter, (n_members, size), else None."""
        value = symbol.value
        flat = self._state.get(value.key)
        if value.constant is not None:
            constant = value.constant.astype(self.dtype).ravel()
            flat = np.broadcast_to(constant, (self._n_members, value.size))
        return None if flat is None else flat[:, symbol.offset : symbol.offset + symbol.size]

    def _cut(self, symbol: Symbol, other: Symbol) -> Tensor:
        """Return the value that a symbol is, or the part that it is of one, in two axes."""
        if symbol.size == symbol.value.size:
            return self._tensors[id(symbol.value)]
        first, second = ((s.value.size, s.offset, s.size) for s in (symbol, other))
        total, start, size = compare(first, second)
        if total < 0 and (start > 0 or size > 0):
            raise UntraceableError(SOME_ROWS)
        # Numbers of the same sample or, in an array without samples, single ones stand apart.
        flat = self.node("Reshape", self._tensors[id(symbol.value)], [0, abs(total), -1])
        ends = np.array([abs(start)]), np.array([abs(start + size)])
        part = self.node("Slice", flat, *ends, np.array([1]))
        return Tensor(part, (abs(size), -1 if total < 0 else 1))

    def _reshape(self, tensor: Tensor, shape: Shape) -> str:
        if shape == tensor.shape:
            return tensor.name
        lengths = [max(n, -1) for n in shape]
        if lengths.count(-1) > 1:
            raise UntraceableError("an array has the number of rows along two axes")
        return self.node("Reshape", tensor, np.array([0, *lengths]))

    def expand(self, x: Any, shape: Shape) -> str:
        """Repeat a tensor along axes of length 1."""
        lengths: Any = np.array([self._n_members, *shape])
        if lengths.min() < 0:
            by_rows = self.node("Mul", self._n_samples, np.maximum(-lengths, 0))
            lengths = self.node("Add", by_rows, np.maximum(lengths, 0))
        return self.node("Expand", x, lengths)

    @cached_property
    def _n_samples(self) -> str:
        return self.node("Gather", self.node("Shape", self._x), np.array([1]))

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


def _comparison(op_type: str) -> Write:
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


def _write_slice(w: _Writer, a: Tensor, *, index: tuple[tuple[int, int], ...]) -> str:
    if any(n < 0 and ends != (0, n) for n, ends in zip(a.shape, index, strict=True)):
        raise UntraceableError(SOME_ROWS)
    starts, ends = np.array(index).T
    ends = np.where(ends < 0, LARGEST_INT64, ends)
    return w.node("Slice", a, starts, ends, np.arange(1, len(a.shape) + 1))


def _write_take_rows(w: _Writer, tables: Tensor, codes: Tensor) -> str:
    """Write a lookup in each member's table; codes beyond it stand for its first or last row."""
    index = w.node("Clip", codes, w.number(0.0), w.number(tables.shape[0] - 1.0))
    index = w.node("Unsqueeze", w.cast(index, INT64), np.array([-1]))
    return w.node("GatherND", tables, index, batch_dims=1)


WRITE: dict[str, Write] = {
    "add": _same("Add"),
    "subtract": _same("Sub"),
    "multiply": _same("Mul"),
    "divide": _same("Div"),
    "power": _same("Pow"),
    "maximum": _same("Max"),
    "minimum": _same("Min"),
    "greater": _comparison("Greater"),
    "greater_equal": _comparison("GreaterOrEqual"),
    "less": _comparison("Less"),
    "less_equal": _comparison("LessOrEqual"),
    "equal": _comparison("Equal"),
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
    "broadcast": lambda w, a, *, shape: w.expand(a, shape),
    "matmul": _same("MatMul"),
    "sum": _write_sum,
    "transpose": lambda w, a: w.node("Transpose", a, perm=_swap(range(len(a.shape) + 1))),
    "copy_slice": _write_slice,
    "concat": lambda w, *arrays, axis: w.node("Concat", *arrays, axis=axis + 1),
    "take_rows": _write_take_rows,
}
"""What writes each operation. Those that are missing have no place in a prediction."""
