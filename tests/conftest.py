"""Hypothesis profiles: "dev" is a quick look, "ci" the default and repeatable, "thorough" long."""

import os

# Test processes run side by side; threads of BLAS on top of them would fight for the same cores.
# Set before NumPy is imported, for the processes that tests start too.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from skdnn import _trainer

settings.register_profile("dev", max_examples=5, deadline=None)
settings.register_profile(
    "ci",
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(autouse=True)
def _threads_share_small_networks_too(monkeypatch):
    """Networks of tests are too small for threads to gain anything; what they do is to be seen."""
    monkeypatch.setattr(_trainer, "NUMBERS_TO_SHARE", 1)


@pytest.fixture
def one_worker(monkeypatch, _threads_share_small_networks_too):
    """All members go through the same calls, for tests that count these or act there."""
    monkeypatch.setattr(_trainer, "NUMBERS_TO_SHARE", 10**9)
