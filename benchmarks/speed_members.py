"""Time what it gains to train members side by side: in threads, and in one batched product."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from joblib import cpu_count
from speed_measure import alternate, limited, make_rows, paired_ratios, warm_up
from speed_report import Row, at_least, show_medians

from skdnn import DeepBinaryClassifier

N_SAMPLES, N_FEATURES = 8_000, 20
N_MEMBERS, WIDTH = 8, 64
BATCH_SIZES = (32, 64, 128, 256)


def thread_rows(repeats: int) -> Iterator[Row]:
    """Compare a fit of the default ensemble by two threads with one by a single thread."""
    path = f"fit of the default ensemble, {N_SAMPLES:,} x {N_FEATURES}, 2 threads"
    against, target = "1 thread", at_least(1.7)
    if cpu_count() < 2:
        yield Row(path, against, target=target, missing="there is one processor")
        return
    X, y = make_rows(N_SAMPLES, N_FEATURES)
    models = {n_jobs: DeepBinaryClassifier(n_jobs=n_jobs, random_state=0) for n_jobs in (1, 2)}
    for model in models.values():
        warm_up(lambda model=model: model.fit(X, y))
    seconds = alternate(
        {f"{n} threads": lambda model=model: model.fit(X, y) for n, model in models.items()},
        repeats,
    )
    one, two = seconds.values()
    yield Row(path, against, paired_ratios(one, two), "x", target, show_medians(seconds, seconds))


@dataclass(frozen=True)
class Plain:
    """Plain networks without early stopping, whose members do not depend on one another."""

    batch_size: int
    n_epochs: int = 3

    def make(self, n_members: int, seed: int) -> DeepBinaryClassifier:
        """Return an estimator of some members."""
        return DeepBinaryClassifier(
            (WIDTH, WIDTH),
            "relu",
            encoder=None,
            n_members=n_members,
            dropout=0.0,
            solver="adam",
            learning_rate="constant",
            n_iter_no_change=float("inf"),
            batch_size=self.batch_size,
            max_iter=self.n_epochs,
            early_stopping=False,
            n_jobs=1,
            random_state=seed,
        )

    def fit_together(self, X, y) -> None:
        """Fit all members at once."""
        self.make(N_MEMBERS, 0).fit(X, y)

    def fit_one_by_one(self, X, y) -> None:
        """Fit each member by itself."""
        for seed in range(N_MEMBERS):
            self.make(1, seed).fit(X, y)


def member_rows(repeats: int) -> Iterator[Row]:
    """Compare members in one array with as many fits, on one thread, by batch size."""
    X, y = make_rows(N_SAMPLES // 2, N_FEATURES)
    for batch_size in BATCH_SIZES:
        plain = Plain(batch_size)
        calls = {
            "together": lambda plain=plain: plain.fit_together(X, y),
            "one by one": lambda plain=plain: plain.fit_one_by_one(X, y),
        }
        with limited(1):
            for call in calls.values():
                warm_up(call)
            seconds = alternate(calls, repeats)
        yield Row(
            f"fit of {N_MEMBERS} members of width {WIDTH} together, batch {batch_size}, 1 thread",
            "one by one",
            paired_ratios(seconds["one by one"], seconds["together"]),
            "x",
            at_least(1.5),
            show_medians(seconds, seconds),
        )
