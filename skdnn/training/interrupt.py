"""Ctrl-C during training: the first one asks for a stop after the batch, a second one aborts.

Batches that run in one call of compiled code count as one.

Interrupts that follow each other within seconds count together across fits, so that a grid search
can be aborted too and does not merely go on to its next fit.
"""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from ..utils import find_stack_level

IN_QUICK_SUCCESSION = 2.0
"""Seconds within which a second Ctrl-C aborts."""


class Interrupt:
    """Whether a stop was requested, and whether training has been stopped for it."""

    last_request = -IN_QUICK_SUCCESSION
    """When the last stop was requested, in any fit of this process."""

    is_requested = is_answered = is_abort = False

    def request(self, *_: Any) -> None:
        """Handle a Ctrl-C: record the first one, raise KeyboardInterrupt for the second."""
        now = time.monotonic()
        self.is_abort = self.is_requested or now - Interrupt.last_request < IN_QUICK_SUCCESSION
        self.is_requested, Interrupt.last_request = True, now
        if self.is_abort:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if a stop was requested and is not answered yet.

        Called where weights are consistent.
        """
        if self.is_requested and not self.is_answered:
            raise KeyboardInterrupt

    def answer(self) -> None:
        """Record that training is being stopped; raise KeyboardInterrupt at a second Ctrl-C.

        To be called where a KeyboardInterrupt was caught, from whichever source.
        """
        if self.is_abort or self.is_answered:
            raise KeyboardInterrupt
        self.is_answered = True

    @contextmanager
    def after_training(self) -> Iterator[None]:
        """Run what follows a training. A first Ctrl-C ends it with a warning, a second one aborts.

        Python's own handler is back, which raises KeyboardInterrupt at once.
        """
        try:
            yield
        except KeyboardInterrupt:
            self.answer()
            warnings.warn(
                "Fitting was interrupted when training was over. The model keeps what it has "
                "learned; rows that it held out may not have been judged, nor callbacks told of "
                "the end.",
                ConvergenceWarning,
                stacklevel=find_stack_level(),
            )


@contextmanager
def listen_for_interrupts() -> Iterator[Interrupt]:
    """Handle Ctrl-C gently within the context.

    Signals reach the main thread only; in other threads, and where another handler is installed,
    nothing changes.
    """
    interrupt = Interrupt()
    is_ours_to_take = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    )
    if not is_ours_to_take:
        yield interrupt
        return
    signal.signal(signal.SIGINT, interrupt.request)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
