"""Members in threads: the same training whatever their number, and as easy to stop."""

import signal
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from itertools import chain, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.exceptions import ConvergenceWarning
from tables import pose_training
from threadpoolctl import threadpool_info, threadpool_limits
from trainings import even_folds, noisy_rows

from skdnn import _trainer
from skdnn._loading import load_compiled
from skdnn._tape import Recorder
from skdnn._trainer import Trainer, Validation, share_out
from skdnn._training import train
from skdnn._values import frozen
from skdnn._worker import Worker
from skdnn.losses import BinaryCrossEntropy
from skdnn.training import threads as _threads
from skdnn.training.interrupt import Interrupt, listen_for_interrupts

pytestmark = pytest.mark.usefixtures("many_workers")

N_MEMBERS = 5


def pose(n_threads, rows, **parameters):
    """Pose a training of five members on some threads."""
    parameters = {"max_iter": 3, "batch_size": 16, "activation": "tanh", **parameters}
    plan, state = pose_training(rows, members=range(N_MEMBERS), **parameters)
    return replace(plan, n_threads=n_threads), state


def train_quietly(plan, state, rows, validation=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        train(plan, state, rows, validation)
    return state


def heavy_rows():
    rows = noisy_rows(50)
    weight = np.random.default_rng(0).exponential(size=50)
    return replace(rows, sample_weight=weight).normalize_weights()


SETTINGS = {
    **{solver: {"solver": solver} for solver in ("gd", "sgd", "rmsprop", "adam", "nadam")},
    "decay": {"solver": "adamw", "max_grad_norm": 0.1, "alpha": 1.0},
    "dropout and average": {"dropout": 0.3, "ema_decay": 0.9},
    "batch normalisation": {"normalization": "batch", "hidden_layer_sizes": (7, 7)},
    "layer normalisation": {"normalization": "layer", "activation": "gelu", "residual": True},
    "without shuffling": {"shuffle": False, "activation": "relu"},
    "by rows seen": {"solver": "sgd", "learning_rate": "invscaling"},
    "focal": {"loss": "focal", "learning_rate": "cosine"},
    "lost epochs": {"solver": "sgd", "learning_rate_init": 1e150, "momentum": 0.0},
}


ALL_TOGETHER = 10**9
"""Numbers to share that leave all members to one worker; of 1, each member has its own."""


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", ["rows", "folds", "sparse", "float32"])
def test_training_does_not_depend_on_threads_and_workers(monkeypatch, setting, kind):
    """To the last bit: weights, moments, random streams, and what is written down."""
    rows = heavy_rows().astype(np.float32) if kind == "float32" else heavy_rows()
    if kind == "float32" and "learning_rate_init" in setting:
        setting = {**setting, "learning_rate_init": 1e38}
    if kind == "sparse":
        rows = replace(rows, X=csr_matrix(rows.X))
    folds = even_folds(np.arange(50) % 3, N_MEMBERS, 3) if kind == "folds" else None
    validation = None if folds is None else Validation(rows, folds=folds)
    states = []
    for n_threads, n_numbers in ((1, ALL_TOGETHER), (1, 300), (2, 300), (8, 1)):
        monkeypatch.setattr(_trainer, "NUMBERS_TO_SHARE", n_numbers)
        plan, state = pose(n_threads, rows, dtype=rows.y.dtype.type, **setting)
        with suppress(ValueError):  # that training diverged, which is an outcome too
            train_quietly(plan, state, rows, validation)
        states.append(state)
    for other in states[1:]:
        assert_same(states[0], other)


def assert_same(one, other):
    for name in (
        "params",
        "ema_params",
        "final_params",
        "rate_factor",
        "n_averaged",
        "n_samples_seen",
    ):
        np.testing.assert_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_equal(one.optimizer, other.optimizer)
    for name in set(one.history) - {"seconds"}:
        np.testing.assert_equal(one.history[name], other.history[name], err_msg=name)
    for purpose in ("shuffling", "dropout"):
        streams = [getattr(state.streams, purpose) for state in (one, other)]
        for ours, theirs in zip(*streams, strict=True):
            assert ours.bit_generator.state == theirs.bit_generator.state


def test_compiled_passes_do_not_depend_on_the_number_of_threads(monkeypatch):
    pytest.importorskip("numba")
    monkeypatch.setattr(_trainer, "choose_module", lambda dtype, *_: load_compiled(dtype))
    rows, states = heavy_rows(), []
    for n_threads in (1, 2):
        plan, state = pose(n_threads, rows, activation="relu", alpha=1.0, max_iter=8)
        states.append(train_quietly(plan, state, rows))
    assert_same(*states)


@pytest.mark.parametrize(("n_epochs", "n_recorded"), [(5, 0), (6, 1), (23, 1), (24, 2)])
def test_batches_are_recorded_where_enough_of_their_size_are_to_come(
    monkeypatch, n_epochs, n_recorded
):
    """An epoch has four batches of twelve rows, and one of two."""
    pytest.importorskip("numba")
    monkeypatch.setattr(_trainer, "choose_module", lambda dtype, *_: load_compiled(dtype))
    rows = heavy_rows()
    plan, state = pose(1, rows, batch_size=12, max_iter=n_epochs)
    trainer = Trainer(plan, state, rows)
    for epoch in range(2):
        trainer.run_epoch(5 * epoch, 5 * n_epochs)
    recorders = [gradient._xp for gradient in trainer.workers[0]._gradients.values()]
    are_recorded = [isinstance(xp, Recorder) and any(xp._tapes.values()) for xp in recorders]
    assert are_recorded == [n_recorded > 0, n_recorded > 1]


def test_error_while_members_are_judged_ends_the_work_of_the_other_threads(monkeypatch):
    rows, judged, main = heavy_rows(), [], threading.current_thread()

    def predict(worker, X, out):
        judged.append(worker)
        if threading.current_thread() is main:
            raise MemoryError("as a test")
        time.sleep(0.2)

    monkeypatch.setattr(Worker, "predict", predict)
    trainer = Trainer(*pose(2, rows), rows)
    with trainer.pool, pytest.raises(MemoryError, match="as a test"):
        trainer.predict(rows.X)
    assert [len(team) for team in trainer.teams] == [3, 2]
    assert len(judged) <= 2


@pytest.mark.parametrize("setting", ["adam", "nadam", "dropout and average"])
def test_training_goes_on_exactly_on_another_number_of_threads(setting):
    rows = heavy_rows()
    plan, whole = pose(1, rows, **SETTINGS[setting], max_iter=6)
    train_quietly(plan, whole, rows)
    plan, parts = pose(3, rows, **SETTINGS[setting])
    train_quietly(plan, parts, rows)
    train_quietly(replace(plan, n_threads=2), parts, rows)
    assert_same(parts, whole)


@pytest.mark.parametrize("n_numbers", [1, 320, ALL_TOGETHER])
@pytest.mark.parametrize("n_threads", range(1, 8))
def test_each_member_has_one_worker(monkeypatch, n_threads, n_numbers):
    """A call of NumPy computes 160 numbers for each member."""
    monkeypatch.setattr(_trainer, "NUMBERS_TO_SHARE", n_numbers)
    plan, state = pose(n_threads, noisy_rows(), hidden_layer_sizes=10)
    trainer = Trainer(plan, state, noisy_rows())
    most_threads, most_members = {1: (5, 1), 320: (2, 3), ALL_TOGETHER: (1, 5)}[n_numbers]
    assert len(trainer.teams) == min(n_threads, most_threads)
    members = [[list(worker.members) for worker in team] for team in trainer.teams]
    assert list(chain(*chain(*members))) == list(range(N_MEMBERS))
    of_threads = [sum(map(len, team)) for team in members]
    assert max(of_threads) - min(of_threads) <= 1
    assert max(map(len, chain(*members))) == most_members


@given(st.integers(0, 3), st.integers(0, 20), st.data())
def test_shares_are_as_equal_as_can_be_and_the_first_is_the_largest(start, size, data):
    members, n_parts = range(start, start + size), data.draw(st.integers(1, max(size, 1)))
    shares = share_out(members, n_parts)
    assert len(shares) == n_parts
    assert list(chain(*shares)) == list(members)
    assert len(shares[0]) == max(map(len, shares)) <= min(map(len, shares)) + 1


def test_workers_of_a_team_compute_in_the_same_memory_and_others_do_not():
    plan, state = pose(2, noisy_rows())
    trainer = Trainer(plan, state, noisy_rows())
    trainer.predict(noisy_rows().X)
    buffers = [[worker.workspace._arrays for worker in team] for team in trainer.teams]
    for arrays, *others in buffers:
        assert all(other is arrays for other in others)
    assert not any(np.shares_memory(*pair) for pair in product(*(team[0] for team in buffers)))


@frozen
class LossWithAnEvent(BinaryCrossEntropy):
    """Let something happen whenever a thread comes to the gradient of a batch."""

    action: object = None

    def gradient(self, y_true, logits, sample_weight, gradient_out, xp=np):
        self.action()
        return super().gradient(y_true, logits, sample_weight, gradient_out, xp)


def test_error_in_a_thread_reaches_the_caller_and_ends_the_others():
    """In the middle of an epoch: of 2,000 batches, the caller's own thread takes a few."""
    main, n_steps = threading.current_thread(), []
    both_begin = threading.Barrier(2, timeout=60.0)

    def fail_elsewhere():
        if not n_steps or threading.current_thread() is not main:
            both_begin.wait()
        if threading.current_thread() is not main:
            raise ZeroDivisionError("in a thread")
        n_steps.append(None)
        time.sleep(0.001)

    rows = noisy_rows(2000)
    plan, state = pose(2, rows, batch_size=1)
    plan = replace(plan, loss=LossWithAnEvent(fail_elsewhere))
    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError, match="in a thread"):
        train(plan, state, rows)
    assert set(threading.enumerate()) <= before  # those of other tests may have ended
    assert 1 <= len(n_steps) < 2000


@pytest.fixture
def takes_interrupts():
    """Python's own handler, which a process started in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("takes_interrupts")
@pytest.mark.parametrize("validated", [False, True])
def test_interrupt_ends_training_in_all_threads_and_keeps_the_weights(monkeypatch, validated):
    """Ctrl-C comes while a thread is at its tenth batch."""
    monkeypatch.setattr(Interrupt, "last_request", -10.0)
    main, calls, rows = threading.current_thread(), [], noisy_rows()

    def press():
        if threading.current_thread() is not main:
            calls.append(None)
            if len(calls) == 10:
                signal.raise_signal(signal.SIGINT)

    plan, state = pose(2, rows, max_iter=10**6)
    plan = replace(plan, loss=LossWithAnEvent(press))
    validation = Validation(rows, folds=even_folds(np.arange(60) % 3, N_MEMBERS, 3))
    with (
        pytest.warns(ConvergenceWarning, match="Training was interrupted after"),
        listen_for_interrupts() as interrupt,
    ):
        train(plan, state, rows, validation if validated else None, interrupt=interrupt)
    assert np.isfinite(state.final_params).all()
    assert state.progress.ended_by == "interrupt"
    assert state.progress.n_epochs < 100
    assert state.optimizer["step"] >= 5  # two members have taken these batches


@pytest.mark.usefixtures("takes_interrupts")
def test_second_interrupt_aborts(monkeypatch):
    monkeypatch.setattr(Interrupt, "last_request", -10.0)
    rows = noisy_rows()

    def press():
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    plan, state = pose(2, rows, max_iter=10**6)
    plan = replace(plan, loss=LossWithAnEvent(press))
    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt), listen_for_interrupts() as interrupt:
        train(plan, state, rows, interrupt=interrupt)
    assert set(threading.enumerate()) <= before  # those of other tests may have ended
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("n_rows", "n_threads"), [(3, 1), (4, 2), (6, 3), (60, 3)])
def test_threads_that_would_have_too_little_to_compute_are_left_out(monkeypatch, n_rows, n_threads):
    """A call of NumPy is about 5 members of some rows in the widest layer, of 10 units."""
    monkeypatch.setattr(_trainer, "NUMBERS_TO_SHARE", 100)
    plan, state = pose(3, noisy_rows(), batch_size=n_rows, hidden_layer_sizes=10)
    assert len(Trainer(plan, state, noisy_rows()).teams) == n_threads


def test_members_share_the_threads_and_a_large_network_leaves_them_to_blas():
    """However many threads there are: BLAS rounds differently where it takes several."""
    wide = {"hidden_layer_sizes": (2000,), "batch_size": 20}
    for members, setting, expected in (((0, 1), wide, 1), ((0,), wide, 2), ((0,), {}, 1)):
        rows = noisy_rows()
        plan, state = pose_training(rows, members=members, **setting)
        wide_enough = plan.network.layout.largest_matrix * plan.batch_size
        trainer = Trainer(plan, state, rows)
        with pytest.MonkeyPatch.context() as patch, threadpool_limits(2, user_api="blas"):
            patch.setattr(_threads, "SMALL_PRODUCT", 20_000)
            assert (wide_enough > 20_000) == (setting is wide)
            with trainer.hold_blas():
                blas = [i for i in threadpool_info() if i["user_api"] == "blas"]
                assert {info["num_threads"] for info in blas} == {expected}
