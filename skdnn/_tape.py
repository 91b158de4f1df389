"""A computation as a list of loops, which run one after the other without Python.

NumPy's functions are loops in C, which it picks and calls after a look at its arguments. On the
arrays of a mini-batch the look takes about as long as the loop, and threads wait for one another to
have theirs. But the arrays of a pass are fixed: what its functions find once, they find each time.
So a `Recorder` stands in for the array module, and writes on a `Tape` which loops run over which
memory; from then on one function that numba compiles runs these loops. They are the same ones, and
give the same numbers to the last bit.

Steps that follow each other differ in their batch, and in some numbers. What one step takes of them
lies beside what the step before took, always as far from it: so a tape runs many steps in one call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any, NamedTuple

import numpy as np

from ._loops import find_loop, find_streams
from ._passes import PASSES, ArrayModule, cut_batches
from ._random import RandomWords

N_ARRAYS = 4
"""Arrays of one call, at most."""

N_AXES = 3
"""Axes that a call is repeated along, at most."""

N_NUMBERS = 2
"""Numbers of one call, at most."""

MOST_TAPES = 8
"""Forms of the input of a computation that are recorded."""

Form = tuple[tuple[int, ...], tuple[int, ...], np.dtype]
"""Shape, strides and dtype of an array."""

Compute = Callable[[Any, int], Any]
"""``compute(x, step)``: a computation on an array, which is the batch of a step."""

Axes = list[tuple[int, list[int]]]
"""The length of each axis, with the strides of all arrays along it."""


class Series(NamedTuple):
    """An array of which each step takes a part, so many bytes after that of the step before."""

    array: np.ndarray
    n_bytes: int


class Tape:
    """Calls of loops, in order, with the addresses of what they read and write.

    Parameters
    ----------
    x : ndarray
        The batch of the step that is recorded: the one array that may lie elsewhere the next time,
        in the same shape and strides. That of the next step follows it along the axis of rows.
    step : int
        Which step it is.
    kinds : tuple of str
        What calls may be of: "ufunc", the names of passes, and "give_words".
    series : sequence of Series

    Attributes
    ----------
    is_complete : bool
        Whether all calls could be written down. A tape with gaps must not run.
    """

    def __init__(
        self, x: np.ndarray, step: int, kinds: tuple[str, ...], series: Sequence[Series] = ()
    ) -> None:
        self.is_complete = True
        self._dtype, self._kinds, self._step = x.dtype, kinds, step
        self._place_of_x, self._advance_of_x = _address(x), _bytes_of_rows(x)
        self._bounds_of_x = np.lib.array_utils.byte_bounds(x)
        self._series = [
            (*np.lib.array_utils.byte_bounds(array), n_bytes) for array, n_bytes in series
        ]
        self._kept: list[Any] = []  # memory that the calls lead to, but not that of x
        self._calls: list[tuple[list[int], ...]] = []
        self._numbers: list[list[float]] = []

    def note_ufunc(self, ufunc: np.ufunc, inputs: Sequence[Any], out: np.ndarray) -> None:
        """Write down a function of numbers, with one output."""
        # A Python number takes the precision of the arrays, as in NumPy.
        filled = (x if isinstance(x, np.ndarray) else np.array(x, out.dtype) for x in inputs)
        arrays = [*(np.broadcast_to(x, out.shape) for x in filled), out]
        axes = _merge_axes(out.shape, [array.strides for array in arrays])
        # The loop runs where most arrays are contiguous, and is long.
        axes.sort(key=lambda axis: (sum(step <= out.itemsize for step in axis[1]), axis[0]))
        *around, (n, steps) = axes
        self._note_loop(ufunc, arrays, around, [n], steps)

    def note_matmul(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> None:
        """Write down products of matrices."""
        before = out.shape[:-2]
        arrays = [*(np.broadcast_to(x, before + x.shape[-2:]) for x in (a, b)), out]
        *around, (n, steps) = _merge_axes(before, [array.strides[:-2] for array in arrays])
        dims = [n, *a.shape[-2:], b.shape[-1]]
        steps = steps + [step for array in arrays for step in array.strides[-2:]]
        self._note_loop(np.matmul, arrays, around, dims, steps)

    def note_pass(self, name: str, arguments: Sequence[Any]) -> None:
        """Write down a pass over the matrices of members; those of one lie side by side."""
        matrices, numbers = [], []
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                matrices.append(argument if argument.ndim == 3 else argument[:, np.newaxis])
            else:
                numbers.append(argument)
        if name in self._kinds and self._can_be_passed_over(matrices):
            self._note_members(name, matrices, numbers)
        else:
            self.is_complete = False

    def _note_members(
        self, name: str, matrices: list[np.ndarray], numbers: Sequence[float] = ()
    ) -> None:
        """Write down what is done with the matrices of one member after the other."""
        axes = _merge_axes(matrices[-1].shape[:1], [m.strides[:1] for m in matrices])
        dims = [n for matrix in matrices for n in matrix.shape[1:]]
        self._note([self._kinds.index(name), 0, 0], matrices, axes, dims, [], numbers)

    def _can_be_passed_over(self, matrices: list[np.ndarray]) -> bool:
        """Say whether there is a matrix for each member, without gaps, and of what kernels take."""
        return all(
            len(matrix) == len(matrices[-1])
            and matrix[0].flags.c_contiguous
            and (matrix.dtype == self._dtype or matrix.dtype.kind in "iu")
            for matrix in matrices
        )

    def note_words(self, words: RandomWords, drawn: np.ndarray) -> np.ndarray:
        """Return a copy of random words; later calls are given others."""
        copy = drawn.copy()
        arrays = [find_streams(words.rngs), words.ahead.view(np.uint64), words.n_given, copy]
        self._kept.append(words)
        self._note_members("give_words", [array[:, np.newaxis] for array in arrays])
        return copy

    def close(self) -> Tape | None:
        """Bring the calls into the form that `skdnn._kernels.run_calls` takes.

        Returns None if the tape is not complete.
        """
        if not (self.is_complete and self._calls):
            return None
        columns = [np.array(column, np.int64) for column in zip(*self._calls, strict=True)]
        one = self._dtype.type(1)
        self._table = (*columns, np.array(self._numbers), np.empty(N_ARRAYS, np.int64), one)
        return self

    def run(self, x: np.ndarray, steps: range, run_calls: Callable[..., None]) -> None:
        """Run the calls of some steps, by `skdnn._kernels.run_calls`; x is the batch of the first.

        Those of the others follow it.
        """
        way = (steps.start - self._step) * self._advance_of_x
        shift = _address(x) - self._place_of_x - way
        run_calls(*self._table, shift, steps.start, steps.stop)

    def _note_loop(
        self,
        ufunc: np.ufunc,
        arrays: list[np.ndarray],
        around: Axes,
        dims: list[int],
        steps: list[int],
    ) -> None:
        loop = find_loop(ufunc, [array.dtype for array in arrays])
        if loop is None or len(arrays) > N_ARRAYS or len(around) > N_AXES:
            self.is_complete = False
        else:
            self._note([self._kinds.index("ufunc"), *loop], arrays, around, dims, steps)

    def _note(
        self,
        function: list[int],
        arrays: list[np.ndarray],
        around: Axes,
        dims: list[int],
        steps: list[int],
        numbers: Sequence[float] = (),
    ) -> None:
        axes = [(1, [0])] * (N_AXES - len(around)) + around
        places = [_address(array) for array in arrays]
        first, end = self._bounds_of_x
        are_x = [first <= place < end for place in places]
        self._kept += [array for array, is_x in zip(arrays, are_x, strict=True) if not is_x]
        advances = [
            self._advance_of_x if is_x else self._advance(place)
            for place, is_x in zip(places, are_x, strict=True)
        ]
        starts = [
            place - self._step * advance for place, advance in zip(places, advances, strict=True)
        ]
        self._calls.append(
            (
                [*function, len(arrays), *(n for n, _ in axes)],
                _pad(starts, N_ARRAYS),
                [step for _, strides in axes for step in _pad(strides, N_ARRAYS)],
                _pad(advances, N_ARRAYS),
                _pad(are_x, N_ARRAYS),
                _pad(dims, 2 * N_ARRAYS),
                _pad(steps, 3 * N_ARRAYS),
            )
        )
        self._numbers.append([*map(float, numbers), *[0.0] * (N_NUMBERS - len(numbers))])

    def _advance(self, place: int) -> int:
        """Return the bytes from one step to the next for what lies at a place."""
        return next((n for first, end, n in self._series if first <= place < end), 0)


class Recorder(ArrayModule):
    """The functions of an array module, for one computation, which is recorded.

    What is recorded computes by these functions alone, with `out=`, in arrays that stay.

    Parameters
    ----------
    xp : ArrayModule
        What computes, and has `run_calls`.
    series : sequence of Series, default=()
        What it takes a part of in each step, beside its batch.
    """

    def __init__(self, xp: ArrayModule, series: Sequence[Series] = ()) -> None:
        self._xp, self._series, self._may_record = xp, series, True
        self._open: Tape | None = None
        self._tapes: dict[Form, Tape | None] = {}
        for name in PASSES:
            setattr(self, name, self._make_pass(name))

    def run(self, compute: Compute, x: Any, n_steps: int = 1) -> Any:
        """Compute the steps on the batches in x, which is always the same in the same arrays.

        For each shape and strides of a batch, the second run is recorded, which takes about a
        millisecond. One that is sparse is not.
        """
        result = None
        for step, batch in enumerate(cut_batches(x, n_steps)):
            if not isinstance(batch, np.ndarray):
                result = compute(batch, step)
                continue
            form = (batch.shape, batch.strides, batch.dtype)
            tape = self._tapes.get(form)
            if tape is not None:
                tape.run(batch, range(step, n_steps), self._xp.run_calls)
                return self._result
            result = self._compute(compute, batch, step, form)
        return result

    def _compute(self, compute: Compute, x: np.ndarray, step: int, form: Form) -> Any:
        """Compute a step, and record it if it is not the first."""
        if form in self._tapes and self._may_record:
            return self._record(compute, x, step, form)
        if len(self._tapes) < MOST_TAPES:
            self._tapes[form] = None
        return compute(x, step)

    def _record(self, compute: Compute, x: np.ndarray, step: int, form: Form) -> Any:
        self._open = tape = Tape(x, step, self._xp.call_kinds, self._series)
        try:
            self._result = compute(x, step)
        finally:
            self._open = None
        self._tapes[form] = tape.close()
        self._may_record = self._tapes[form] is not None
        return self._result

    def matmul(self, a: np.ndarray, b: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Compute products of matrices."""
        if self._open is not None:
            self._open.note_matmul(a, b, out)
        return self._xp.matmul(a, b, out=out)

    def copyto(self, out: np.ndarray, x: Any) -> None:
        """Copy numbers."""
        if self._open is not None:
            self._open.note_ufunc(np.positive, [x], out)
        self._xp.copyto(out, x)

    def note_words(self, words: RandomWords, drawn: np.ndarray) -> np.ndarray:
        """Return random words in an array that stays."""
        return drawn if self._open is None else self._open.note_words(words, drawn)

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._xp, name)
        if isinstance(function, np.ufunc):
            function = self._make_ufunc(function)
            setattr(self, name, function)
        elif callable(function) and self._open is not None:
            self._open.is_complete = False
        return function

    def _make_ufunc(self, function: np.ufunc) -> Callable[..., np.ndarray]:
        def call(*inputs: Any, out: np.ndarray | None = None) -> np.ndarray:
            if self._open is not None:
                if out is None:
                    self._open.is_complete = False
                else:
                    self._open.note_ufunc(function, inputs, out)
            return function(*inputs, out=out)

        return call

    def _make_pass(self, name: str) -> Callable[..., np.ndarray]:
        function = getattr(self._xp, name)
        n_used = sum(parameter != "work" for parameter in signature(PASSES[name]).parameters)

        def call(*arguments: Any) -> np.ndarray:
            if self._open is not None:
                self._open.note_pass(name, arguments[:n_used])
            return function(*arguments)

        return call


class WatchedWords:
    """Random words that a recorder knows of.

    Parameters
    ----------
    words : RandomWords
    recorder : Recorder
    """

    def __init__(self, words: RandomWords, recorder: Recorder) -> None:
        self._words, self._recorder = words, recorder

    def draw(self, size: int) -> np.ndarray:
        """Return integers as `RandomWords.draw` does."""
        return self._recorder.note_words(self._words, self._words.draw(size))


def is_recordable(part: Any) -> bool:
    """Say whether a part of a computation says so in its own class.

    One that inherits from another may compute in another way.
    """
    return "is_recordable" in vars(type(part)) and part.is_recordable


def record(xp: ArrayModule, *parts: Any, series: Sequence[Series] = ()) -> ArrayModule:
    """Return a Recorder for a computation by some parts, if they and the module allow for one."""
    can_be_recorded = hasattr(xp, "run_calls") and all(map(is_recordable, parts))
    return Recorder(xp, series) if can_be_recorded else xp


def _merge_axes(shape: Sequence[int], strides: Sequence[tuple[int, ...]]) -> Axes:
    """Describe the axes of arrays, as few as can be and one at least."""
    axes: Axes = []
    for n, *steps in zip(shape, *strides, strict=True):
        if n == 1:
            continue
        if axes and axes[-1][1] == [n * step for step in steps]:
            axes[-1] = (axes[-1][0] * n, steps)
        else:
            axes.append((n, steps))
    return axes or [(1, [0] * len(strides))]


def _bytes_of_rows(x: np.ndarray) -> int:
    """Return how far behind a batch that of the next step lies."""
    return x.shape[-2] * x.strides[-2] if x.ndim > 1 else 0


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _pad(values: Sequence[int], size: int) -> list[int]:
    return [*values, *[0] * (size - len(values))]
