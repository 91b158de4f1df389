"""A computation as a list of loops, which run one after the other without Python.

NumPy's functions are loops in C, which it picks and calls after a look at its arguments. On the
arrays of a mini-batch the look takes about as long as the loop, and threads wait for one another to
have theirs. But the arrays of a pass are fixed: what its functions find once, they find each time.
So a `Recorder` stands in for the array module, and writes on a `Tape` which loops run over which
memory; from then on one function that numba compiles runs these loops. They are the same ones, and
give the same numbers to the last bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any
from weakref import ref

import numpy as np

from ._loops import find_loop
from ._passes import PASSES, ArrayModule
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

Axes = list[tuple[int, list[int]]]
"""The length of each axis, with the strides of all arrays along it."""


class Tape:
    """Calls of loops, in order, with the addresses of what they read and write.

    Parameters
    ----------
    x : ndarray
        The one array that may lie elsewhere the next time, in the same shape and strides.
    kinds : tuple of str
        What calls may be of: "ufunc", and the names of passes.

    Attributes
    ----------
    is_complete : bool
        Whether all calls could be written down. A tape with gaps must not run.
    """

    def __init__(self, x: np.ndarray, kinds: tuple[str, ...]) -> None:
        self.is_complete = True
        self._dtype, self._kinds = x.dtype, kinds
        self._last_x, self._shift = ref(x), 0
        self._place_of_x, self._bounds_of_x = _address(x), np.lib.array_utils.byte_bounds(x)
        self._kept: list[np.ndarray] = []  # memory that the calls lead to, but not that of x
        self._refills: list[tuple[RandomWords, np.ndarray]] = []
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
            axes = _merge_axes(matrices[-1].shape[:1], [m.strides[:1] for m in matrices])
            dims = [n for matrix in matrices for n in matrix.shape[1:]]
            self._note([self._kinds.index(name), 0, 0], matrices, axes, dims, [], numbers)
        else:
            self.is_complete = False

    def _can_be_passed_over(self, matrices: list[np.ndarray]) -> bool:
        """Say whether there is a matrix for each member, without gaps, and of what kernels take."""
        return all(
            len(matrix) == len(matrices[-1])
            and matrix[0].flags.c_contiguous
            and (matrix.dtype == self._dtype or matrix.dtype.kind in "iu")
            for matrix in matrices
        )

    def note_words(self, words: RandomWords, drawn: np.ndarray) -> np.ndarray:
        """Return a copy of random words; others are drawn into it before the calls run again."""
        copy = drawn.copy()
        self._refills.append((words, copy))
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

    def run(self, x: np.ndarray, run_calls: Callable[..., None]) -> None:
        """Run the calls, by `skdnn._kernels.run_calls`."""
        for words, copy in self._refills:
            copy[...] = words.draw(copy.shape[1])
        if x is not self._last_x():  # to ask an array where it lies takes two microseconds
            self._last_x, self._shift = ref(x), _address(x) - self._place_of_x
        run_calls(*self._table, self._shift)

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
        first, end = self._bounds_of_x
        places = [_address(array) for array in arrays]
        are_x = [first <= place < end for place in places]
        self._kept += [array for array, is_x in zip(arrays, are_x, strict=True) if not is_x]
        self._calls.append(
            (
                [*function, len(arrays), *(n for n, _ in axes)],
                _pad(places, N_ARRAYS),
                [step for _, strides in axes for step in _pad(strides, N_ARRAYS)],
                _pad(are_x, N_ARRAYS),
                _pad(dims, 2 * N_ARRAYS),
                _pad(steps, 3 * N_ARRAYS),
            )
        )
        self._numbers.append([*map(float, numbers), *[0.0] * (N_NUMBERS - len(numbers))])


class Recorder(ArrayModule):
    """The functions of an array module, for one computation, which is recorded.

    What is recorded computes by these functions alone, with `out=`, in arrays that stay.

    Parameters
    ----------
    xp : ArrayModule
        What computes, and has `run_calls`.
    n_before : int, default=1
        How often a computation runs before it is recorded, which takes about a millisecond.
    """

    def __init__(self, xp: ArrayModule, n_before: int = 1) -> None:
        self._xp, self._n_before, self._may_record = xp, n_before, True
        self._open: Tape | None = None
        self._tapes: dict[Form, Tape | None] = {}
        self._n_runs: Counter[Form] = Counter()
        for name in PASSES:
            setattr(self, name, self._make_pass(name))

    def run(self, compute: Callable[[Any], np.ndarray], x: Any) -> np.ndarray:
        """Return ``compute(x)``, which is always the same computation in the same arrays.

        It is recorded for each shape and strides of `x`, when it has run a few times. A sparse one
        is not recorded.
        """
        if not isinstance(x, np.ndarray):
            return compute(x)
        form = (x.shape, x.strides, x.dtype)
        tape = self._tapes.get(form)
        if tape is not None:
            tape.run(x, self._xp.run_calls)
            return self._result
        if form in self._tapes and self._may_record and self._n_runs[form] >= self._n_before:
            return self._record(compute, x, form)
        if form in self._tapes or len(self._tapes) < MOST_TAPES:
            self._tapes[form] = None
            self._n_runs[form] += 1
        return compute(x)

    def _record(
        self, compute: Callable[[np.ndarray], np.ndarray], x: np.ndarray, form: Form
    ) -> np.ndarray:
        self._open = tape = Tape(x, self._xp.call_kinds)
        try:
            self._result = compute(x)
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


def record(xp: ArrayModule, *parts: Any, n_before: int = 1) -> ArrayModule:
    """Return a Recorder for a computation by some parts, if they and the module allow for one."""
    can_run = hasattr(xp, "run_calls")
    return Recorder(xp, n_before) if can_run and all(map(is_recordable, parts)) else xp


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


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def _pad(values: Sequence[int], size: int) -> list[int]:
    return [*values, *[0] * (size - len(values))]
