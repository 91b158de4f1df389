"""Ctrl-C during training: the first one asks for a stop after the batch, a second one aborts.

Batches that a tape runs in one call count as one.

Interrupts that follow each other within seconds count together across fits, so that a grid search
can be aborted too and does not merely go on to its next fit.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

IN_QUICK_SUCCESSION = 2.0
"""Seconds within which a second Ctrl-C means: abort."""


class Interrupt:
    """Whether a stop was requested, and whether the user insists."""

    last_request = -IN_QUICK_SUCCESSION
    """When the last stop was requested, in any fit of this process."""

    def __init__(self) -> None:
        self.is_requested = False
        self.is_abort = False

    def request(self, *_: Any) -> None:
        """Take a Ctrl-C: note the first one, raise KeyboardInterrupt for the second."""
        now = time.monotonic()
        self.is_abort = self.is_requested or now - Interrupt.last_request < IN_QUICK_SUCCESSION
        self.is_requested, Interrupt.last_request = True, now
        if self.is_abort:
            raise KeyboardInterrupt

    def check(self) -> None:
        """Raise KeyboardInterrupt if a stop was requested; called where weights are consistent."""
        if self.is_requested:
            raise KeyboardInterrupt


@contextmanager
def listen_for_interrupts() -> Iterator[Interrupt]:
    """Handle Ctrl-C gently within the context.

    Signals reach the main thread only; elsewhere, and where somebody else has taken the signal, the
    handler stays as it is.
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
