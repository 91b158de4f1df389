"""Hypothesis profiles: "dev" is a quick look, "quick" the default and repeatable.

`.ci/run` takes "ci", and "thorough" searches for long.
"""

import os
import signal

# Test processes run side by side; threads of BLAS on top of them would fight for the same cores.
# Set before NumPy is imported, for the processes that tests start too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", max_examples=5, deadline=None)
for name, max_examples in {"quick": 10, "ci": 100}.items():
    settings.register_profile(
        name,
        max_examples=max_examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
settings.register_profile("thorough", max_examples=1000, deadline=None)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "quick")
settings.load_profile(PROFILE)


@pytest.fixture
def handles_ctrl_c(monkeypatch):
    """Handle SIGINT as Python does, also where the tests run in the background and it is ignored.

    Interrupts of other tests, which are only milliseconds ago, are forgotten.
    """
    monkeypatch.setattr("skdnn.training.interrupt.Interrupt.last_request", -1e9)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)
