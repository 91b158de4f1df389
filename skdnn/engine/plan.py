"""From a trace to a program: which operations are needed, and where in memory each value lies.

All floats of a program lie in one array, its arena: first constants, then inputs, then what is
computed. A value's place is free again after its last use, and the result of an operation on each
element takes the place of an operand that is not needed any more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np

from . import ops
from .ops import FusedOp, Op, Shape
from .trace import Node, SparseSymbol, Symbol, Trace, Value

ALIGNMENT = 16
"""Values begin at multiples of so many numbers: of 64 bytes in float32, a line of the cache."""


class Operand(NamedTuple):
    """Where an array lies: in the arena ("floats"), among random bits, or the sparse input."""

    memory: str
    offset: int
    shape: Shape
    is_transposed: bool = False
    block: tuple[int, int] = (0, 0)  # offset and size of the memory that it is a part of

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class Instruction(NamedTuple):
    """One operation, on operands and results that have their places."""

    op: Op | FusedOp
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
    constants: list[tuple[Operand, np.ndarray]]
    n_bits: int
    table: Any = None


@dataclass(eq=False)
class _Block:
    """Memory of one value, or of several that follow each other in it."""

    size: int
    first: int
    last: int
    offset: int = 0

    @property
    def end(self) -> int:
        """Where the next block may begin."""
        return self.offset + -(-self.size // ALIGNMENT) * ALIGNMENT


class _Place(NamedTuple):
    block: _Block
    offset: int


def plan(trace: Trace, outputs: dict[str, Symbol]) -> Program:
    """Plan what computes the outputs, each of which is written into the input of its name."""
    stores = {name: trace.plain(symbol) for name, symbol in outputs.items()}
    for name, symbol in stores.items():
        value = symbol.value
        if value.node is None and value.key in outputs and value.key != name:
            # Another output would overwrite it.
            stores[name] = trace.append(ops.copy, (symbol,), {}, [symbol.shape])[0]
    program = _Planner(trace, stores).program()
    check_operands(program)
    return program


class _Planner:
    def __init__(self, trace: Trace, stores: dict[str, Symbol]) -> None:
        self.trace, self.stores = trace, stores
        self.nodes = trace.needed(stores)
        self.position = {id(node): i for i, node in enumerate(self.nodes)}
        self.last_use: dict[int, int] = {}
        for i, node in enumerate(self.nodes):
            for symbol in node.operands:
                if isinstance(symbol, Symbol):
                    self.last_use[id(symbol.value)] = i
        for symbol in stores.values():
            self.last_use[id(symbol.value)] = len(self.nodes)
        self.places: dict[int, _Place] = {}
        self.blocks: list[_Block] = []

    def program(self) -> Program:
        inputs, bits = self.trace.inputs, self.trace.inputs.get("bits")
        known = self.trace.constants.values()
        constants = [
            (v, v.constant) for v in known if v.constant is not None and id(v) in self.last_use
        ]
        for value in (*(v for v, _ in constants), *inputs.values()):  # which stay from run to run
            if not value.is_bits:
                self._place(value, _Place(self._block(value, -1, len(self.nodes)), 0))
        copies = self._place_outputs()
        self._place_parts_of_concatenations()
        for i, node in enumerate(self.nodes):
            self._place_results(i, node)
        size = self._allocate()
        instructions = [
            Instruction(
                node.op,
                tuple(self._operand(s) for s in node.operands),
                tuple(self._operand(s) for s in node.results),
                node.attributes,
            )
            for node in self.nodes
            if not self._is_in_place(node)
        ]
        for name, symbol in copies:
            target = self._operand(Symbol(self.trace, inputs[name], symbol.shape))
            instructions.append(Instruction(ops.copy, (self._operand(symbol),), (target,), {}))
        return Program(
            instructions,
            size,
            {
                name: self._operand(Symbol(self.trace, value, self.trace.shapes[name]))
                for name, value in inputs.items()
            },
            [(self._operand(Symbol(self.trace, v, c.shape)), c) for v, c in constants],
            0 if bits is None else bits.size,
        )

    def _block(self, value: Value, first: int, last: int) -> _Block:
        block = _Block(value.size, first, last)
        self.blocks.append(block)
        return block

    def _place(self, value: Value, place: _Place) -> None:
        """Give a value a place, which is taken from where it is computed to its last use."""
        self.places[id(value)], block = place, place.block
        if block.first >= 0:
            i = self.position[id(value.node)]
            block.first = min(block.first, i)
            block.last = max(block.last, self.last_use.get(id(value), i))

    def _place_outputs(self) -> list[tuple[str, Symbol]]:
        """Let outputs be computed in their places; return those that have to be copied there."""
        copies = []
        for name, symbol in self.stores.items():
            value, target = symbol.value, self.trace.inputs[name]
            if value is target and symbol.offset == 0 and symbol.size == target.size:
                continue
            node, last_read = value.node, self.last_use.get(id(target), -1)
            if node is not None and value.size == target.size and id(value) not in self.places:
                i = self.position[id(node)]
                if last_read < i or (last_read == i and node.op.is_elementwise):
                    self._place(value, self.places[id(target)])
                    continue
            copies.append((name, symbol))
        return copies

    def _place_parts_of_concatenations(self) -> None:
        """Let parts of one flat array be computed where they belong."""
        for i, node in enumerate(self.nodes):
            if not _is_flat_concatenation(node):
                continue
            whole = node.results[0].value
            if id(whole) not in self.places:
                self._place(whole, _Place(self._block(whole, i, i), 0))
            block, start = self.places[id(whole)]
            for part in node.operands:
                value = part.value
                is_computed = value.node is not None and part.size == value.size
                if block.first >= 0 and is_computed and id(value) not in self.places:
                    self._place(value, _Place(block, start))
                start += part.size

    def _is_in_place(self, node: Node) -> bool:
        """Say whether a concatenation is done by having computed its parts."""
        if not _is_flat_concatenation(node):
            return False
        block, start = self.places[id(node.results[0].value)]
        for part in node.operands:
            own = self.places[id(part.value)]
            if own.block is not block or own.offset + part.offset != start:
                return False
            start += part.size
        return True

    def _place_results(self, i: int, node: Node) -> None:
        """Give each result the place of an operand that dies here, or one of its own."""
        for result in node.results:
            value = result.value
            if id(value) not in self.places:
                place = self._dying_operand(i, node, value.size)
                self._place(value, place or _Place(self._block(value, i, i), 0))

    def _dying_operand(self, i: int, node: Node, size: int) -> _Place | None:
        if node.op.is_elementwise and len(node.results) == 1:
            for symbol in node.operands:
                if isinstance(symbol, Symbol) and symbol.size == symbol.value.size == size:
                    place = self.places[id(symbol.value)]
                    is_last = self.last_use[id(symbol.value)] == place.block.last == i
                    if is_last and place.block.first >= 0:
                        return place
        return None

    def _allocate(self) -> int:
        """Give each block an offset, the lowest that is free while it lives; return the end."""
        end = 0
        placed: list[_Block] = []
        for block in sorted(self.blocks, key=attrgetter("first")):
            placed = [b for b in placed if b.last >= block.first]
            for other in sorted(placed, key=attrgetter("offset")):
                if block.offset + block.size <= other.offset:
                    break
                block.offset = max(block.offset, other.end)
            end = max(end, block.end)
            placed.append(block)
        return end

    def _operand(self, symbol: Any) -> Operand:
        if isinstance(symbol, SparseSymbol):
            return Operand("sparse", 0, symbol.shape)
        if symbol.value.is_bits:
            return Operand("bits", symbol.offset, symbol.shape)
        block, offset = self.places[id(symbol.value)]
        at = block.offset + offset + symbol.offset
        place = (block.offset, block.size)
        return Operand("floats", at, symbol.shape, symbol.is_transposed, place)


def _is_flat_concatenation(node: Node) -> bool:
    return node.op.name == "concat" and len(node.operands[0].shape) == 1


def check_operands(program: Program) -> None:
    """Check that every operand lies within its memory.

    Raises
    ------
    ValueError
        If one does not.
    """
    limits = {"floats": program.size, "bits": program.n_bits, "sparse": np.inf}
    for instruction in program.instructions:
        for x in (*instruction.operands, *instruction.results):
            if x.offset < 0 or x.offset + x.size > limits[x.memory]:
                raise ValueError(f"{instruction.op.name} reaches beyond its memory: {x}.")
