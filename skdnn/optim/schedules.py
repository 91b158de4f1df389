"""Learning-rate schedules: pure functions of the progress of training.

A schedule is called as ``schedule(done, total)`` before every step and returns a multiplier of
`learning_rate_init`. `done` counts the steps before this one and `total` all steps of the fit; a
schedule that `counts` "samples" is given the rows seen before this epoch instead. One that needs a
`horizon` has no meaning without a known end, and `partial_fit` replaces it by `Constant`.

One of your own is a function ``f(done, total) -> float``, or an object with the attributes of
`Schedule` that is called so.

Examples
--------
>>> from skdnn.optim.schedules import Cosine
>>> [round(Cosine(warmup=0.1)(done, 100), 2) for done in (0, 10, 55, 99)]
[0.09, 1.0, 0.5, 0.0]
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal


class Schedule:
    """Multiply the learning rate by how far training has come.

    Attributes
    ----------
    counts : {"steps", "samples"}
        What it is called with.
    needs_horizon : bool
        Whether it must know the end of training.
    """

    counts: ClassVar[Literal["steps", "samples"]] = "steps"
    needs_horizon: ClassVar[bool] = True

    def __call__(self, done: int, total: int) -> float:
        """Return the multiplier for the step after `done` of `total`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """Leave the learning rate as it is: ``1``."""

    needs_horizon = False

    def __call__(self, done: int, total: int) -> float:
        return 1.0


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """Divide by a power of the rows seen: ``1 / (1 + samples)^power``, as MLPClassifier does.

    Parameters
    ----------
    power : float, default=0.5
        The exponent.
    """

    power: float = 0.5
    counts = "samples"
    needs_horizon = False

    def __call__(self, done: int, total: int) -> float:
        return float((1.0 + done) ** -self.power)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Rise linearly through the warm-up, then fall along half a cosine to zero.

    With ``t = done / total`` and warm-up w: ``t / w`` while t < w (from the first step on a little
    above zero), then ``(1 + cos(pi (t - w) / (1 - w))) / 2``.

    Parameters
    ----------
    warmup : float, default=0.05
        The share w of all steps.

    References
    ----------
    I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017,
    arXiv:1608.03983 (one cycle of it).
    """

    warmup: float = 0.05

    def __call__(self, done: int, total: int) -> float:
        t, w = done / total, self.warmup
        if t < w:
            return (done + 1) / (w * total + 1)
        return 0.5 * (1.0 + math.cos(math.pi * (t - w) / (1.0 - w)))


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rise along a cosine from 1/25 to 1 in the first 30% of the steps, then fall to 4e-6.

    The learning rate of PyTorch's OneCycleLR with its defaults; the momentum stays constant.

    Parameters
    ----------
    rise : float, default=0.3
        The share of all steps in which it rises.
    start, end : float, default=1/25, 4e-6
        The first and the last multiplier.

    References
    ----------
    L. N. Smith and N. Topin, "Super-convergence: very fast training of neural networks using large
    learning rates", 2017, arXiv:1708.07120.
    """

    rise: float = 0.3
    start: float = 1.0 / 25.0
    end: float = 1.0 / 25.0 / 1e4

    def __call__(self, done: int, total: int) -> float:
        peak = self.rise * total - 1.0
        if done < peak:
            return 1.0 + (self.start - 1.0) * _half_cosine(done / peak)
        peak, last = max(peak, 0.0), max(total - 1.0, 1.0)
        return self.end + (1.0 - self.end) * _half_cosine((done - peak) / (last - peak))


@dataclass(frozen=True)
class CosLog4(Schedule):
    """Swing four times between 0 and 1, each cycle about twice as long as the one before.

    ``(1 - cos(2 pi log2(1 + 15 t))) / 2`` with ``t = done / total``: zero at t = 0, 1/15, 1/5, 7/15
    and 1.

    References
    ----------
    D. Holzmueller, L. Grinsztajn and I. Steinwart, "Better by default: strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024, arXiv:2407.04491.
    """

    def __call__(self, done: int, total: int) -> float:
        return 0.5 * (1.0 - math.cos(2.0 * math.pi * math.log2(1.0 + 15.0 * done / total)))


def _half_cosine(t: float) -> float:
    """Fall from 1 to 0 as t goes from 0 to 1."""
    return 0.5 * (1.0 + math.cos(math.pi * t))


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "invscaling": InverseScaling,
    "adaptive": Constant,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "coslog4": CosLog4,
}


@dataclass(frozen=True)
class OwnSchedule(Schedule):
    """Take the multiplier from a function of one's own.

    Parameters
    ----------
    function : callable
        ``f(done, total) -> float``, of steps.
    """

    function: Callable[[int, int], float]

    def __call__(self, done: int, total: int) -> float:
        return float(self.function(done, total))


def make_schedule(schedule: Any, power_t: float = 0.5) -> Schedule:
    """Return the schedule of that name, or a function of one's own as a schedule.

    "adaptive" holds the rate constant until the loss stops falling; what happens then depends on
    the progress of training and not on time alone, so that `skdnn.training.loop` does it.
    """
    if not isinstance(schedule, str):
        return schedule if hasattr(schedule, "needs_horizon") else OwnSchedule(schedule)
    return InverseScaling(power_t) if schedule == "invscaling" else SCHEDULES[schedule]()
