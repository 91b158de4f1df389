"""From a trace to a program: which operations are needed, and where in memory each value lies.

All floats of a program lie in one array, its arena: first constants, then inputs, then what is
computed. A value's place is free again after its last use, and the result of an operation on each
element takes the place of an operand that is not needed any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

from . import ops
from .ops import Op, Shape
from .trace import Node, Symbol, Trace, Value

ALIGNMENT = 16
"""Values begin at multiples of so many numbers: of 64 bytes in float32, a line of the cache."""


class Operand(NamedTuple):
    """Where an array lies: in the arena ("floats"), among random bits, or the sparse input."""

    memory: str
    offset: int
    shape: Shape
    size: int
    is_transposed: bool = False
    block: tuple[int, int] = (0, 0)  # offset and size of the memory that it is a part of


class Instruction(NamedTuple):
    """One operation, on operands and results that have their places."""

    op: Op
    operands: tuple[Operand, ...]
    results: tuple[Operand, ...]
    attributes: dict[str, Any]


@dataclass(eq=False)
class Program:
    """Instructions over one arena.

    Attributes
    ----------
    instructions : list of Instruction
    size : int
        Numbers of the arena.
    inputs : dict of str to Operand
        What is to be written before a run, by name, and what has been written after it.
    constants : list of (Operand, ndarray)
        What the arena holds from the beginning.
    n_bits : int
        Random numbers of 16 bits that a run takes.
    table : Table or None
        The program for compiled kernels, if `lowering.lower` has written it.
    """

    instructions: list[Instruction]
    size: int
    inputs: dict[str, Operand]
    constants: list[tuple[Operand, Any]]
    n_bits: int
    table: Any = None


@dataclass(eq=False)
class _Block:
    """Memory for a value, or for several: from the first operation that needs it to the last."""

    size: int
    first: int
    last: int
    last_read: int = -1  # of what lies there before the first operation
    offset: int = 0


def plan(trace: Trace, outputs: dict[str, Symbol]) -> Program:
    """Plan what computes the outputs, each of which is written into the input of its name.

    Raises
    ------
    ValueError
        If an output has not the shape of its input, or an operand would reach beyond its memory.
    """
    stores = {}
    for name, symbol in outputs.items():
        shape = trace.inputs[name].shape
        if symbol.shape != shape:
            raise ValueError(f"{name} has the shape {symbol.shape}, not {shape}.")
        stores[name] = plain = trace.plain(symbol)
        if plain.value.node is None and plain.value.key in outputs.keys() - {name}:
            stores[name] = trace.record(ops.copy, (plain,))  # before that is written over
    return _Planner(trace, stores).program()


class _Planner:
    """Decides where the values of a trace lie.

    Parameters
    ----------
    trace : Trace
    stores : dict of str to Symbol
        What each output is to be in the end.
    """

    def __init__(self, trace: Trace, stores: dict[str, Symbol]) -> None:
        self.trace, self.stores, self.nodes = trace, stores, trace.needed(stores)
        self.position: dict[Node, int] = {}
        self.last_use: dict[Value, int] = {}
        for i, node in enumerate(self.nodes):
            self.position[node] = i
            for symbol in node.operands:
                self.last_use[symbol.value] = i
            self.last_use[node.results[0].value] = i  # others may be left out
        for symbol in stores.values():
            self.last_use[symbol.value] = len(self.nodes)
        self.places: dict[Value, tuple[_Block, int]] = {}  # a block, and where in it

    def program(self) -> Program:
        trace, inputs = self.trace, self.trace.inputs
        constants = [s for s in trace.constants.values() if s.value in self.last_use]
        for symbol in (*constants, *inputs.values()):  # which stay from run to run
            last_read = self.last_use.get(symbol.value, -1)
            self.places[symbol.value] = _Block(symbol.size, -1, len(self.nodes), last_read), 0
        steps = list[Node]()
        for name, symbol in self.stores.items():
            steps += self._join((symbol,), inputs[name].value)
        for node in reversed(self.nodes):
            whole = node.results[0]
            if node.op.name == "concat" and node.attributes["axis"] == 0:
                self._place(whole.value)
                steps[:0] = self._join(node.operands, whole.value)
            else:
                steps.insert(0, node)
        for node in self.nodes:
            for result in node.results:
                if result.value in self.last_use:
                    self._place(result.value)
        size = self._allocate()
        instructions, operand = list[Instruction](), self._operand
        for node in steps:
            places = tuple(map(operand, node.operands)), tuple(map(operand, node.results))
            instructions.append(Instruction(node.op, *places, node.attributes))
        of_inputs = {name: operand(symbol) for name, symbol in inputs.items()}
        of_constants = [(operand(symbol), symbol.value.constant) for symbol in constants]
        return Program(instructions, size, of_inputs, of_constants, trace.bits.size)

    def _join(self, parts: tuple[Symbol, ...], whole: Value) -> list[Node]:
        """Let parts of an array be computed where they belong; return copies of those that cannot.

        For what lies there before may still be needed, or a part has its place already.
        """
        copies, start = list[Node](), 0
        block, first = self.places[whole]
        for part in parts:
            value, node = part.value, part.value.node
            if node is not None and value not in self.places and part.size == value.size:
                # As in `_dying_operand`, also the operation that reads it last may write over it.
                is_whole = part.size == block.size and node.op.is_elementwise
                if block.last_read < self.position[node] + is_whole:
                    self._place(value, (block, first + start))
            if self.places.get(value) != (block, first + start - part.offset):
                target = Symbol(self.trace, whole, part.shape, start)
                copies.append(Node(ops.copy, (part,), {}, (target,)))
            start += part.size
        return copies

    def _place(self, value: Value, place: tuple[_Block, int] | None = None) -> None:
        """Give a value a place, unless it has one, from where it is computed to its last use.

        If none is given, it is that of an operand that dies there, or a new one.
        """
        if value in self.places or value.node is None:
            return
        i = self.position[value.node]
        block, offset = place or (self._dying_operand(i, value) or _Block(value.size, i, i), 0)
        block.first, block.last = min(block.first, i), max(block.last, self.last_use[value])
        self.places[value] = block, offset

    def _dying_operand(self, i: int, value: Value) -> _Block | None:
        """Return the block of an operand that the result of its last use may be written over.

        It must be all of the block: then a result lies on an operand of its size or beside it, and
        executors need not look for other overlaps.
        """
        op = self.nodes[i].op
        if op.is_elementwise and op.n_results == 1:
            for symbol in self.nodes[i].operands:
                block, _ = self.places.get(symbol.value, (_Block(0, i, -1), 0))
                is_last = self.last_use[symbol.value] == block.last == i
                if is_last and symbol.size == value.size == block.size:
                    return block
        return None

    def _allocate(self) -> int:
        """Give each block an offset, the lowest that is free while it lives; return the end."""
        end = 0
        placed: list[_Block] = []
        blocks = dict.fromkeys(block for block, _ in self.places.values())
        for block in sorted(blocks, key=attrgetter("first")):
            placed = [b for b in placed if b.last >= block.first]
            for other in sorted(placed, key=attrgetter("offset")):
                if block.offset + block.size <= other.offset:
                    break
                next_free = other.offset + -(-other.size // ALIGNMENT) * ALIGNMENT
                block.offset = max(block.offset, next_free)
            end = max(end, block.offset + block.size)
            placed.append(block)
        return -(-end // ALIGNMENT) * ALIGNMENT

    def _operand(self, symbol: Symbol) -> Operand:
        value = symbol.value
        if value.memory == "floats" and value not in self.places:  # nobody needs it
            return Operand("floats", 0, (0,), 0)
        block, offset = self.places.get(value, (_Block(value.size, 0, 0), 0))
        at, own = offset + symbol.offset, (block.offset, block.size)
        if not 0 <= at <= block.size - symbol.size:
            raise ValueError(f"An array of shape {symbol.shape} would reach beyond its memory.")
        place = value.memory, block.offset + at, symbol.shape, symbol.size
        return Operand(*place, symbol.is_transposed, own)
