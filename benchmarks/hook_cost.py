"""Show what a fit pays for being able to stop: callbacks, Ctrl-C and `max_time`, none of them set.

The calls that a fit makes for their sake are counted, each kind is timed by itself in a tight loop,
and the sum is divided by the time of the fit. A difference of two whole fits would drown in noise.

    python benchmarks/hook_cost.py [--repeats 7] [--output hook_cost.json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from skdnn import DeepBinaryClassifier
from skdnn.training.interrupt import Interrupt, listen_for_interrupts
from skdnn.training.progress import NO_TASKS

# rows, features, hidden layer sizes, members: from the smallest fit, where hooks weigh most
CASES = [
    (100, 5, (10,), 1),
    (100, 5, (64, 64), 4),
    (1_000, 20, (64, 64), 4),
    (20_000, 20, (64, 64), 4),
]


def time_call(call: Callable[[], object], n_calls: int = 20_000) -> float:
    """Return the seconds that one call takes: the median of several loops."""
    runs = []
    for _ in range(7):
        started = time.perf_counter()
        for _ in range(n_calls):
            call()
        runs.append((time.perf_counter() - started) / n_calls)
    return median(runs)


def listen() -> None:
    """Enter and leave the context that handles Ctrl-C."""
    with listen_for_interrupts():
        pass


def tell_of_an_epoch() -> None:
    """Make the calls that stand around each epoch."""
    NO_TASKS.begin_epoch()
    NO_TASKS.end_epoch()
    time.perf_counter()


def run(repeats: int) -> list[dict]:
    """Time every case, and print a line for each."""
    per_fit, per_epoch = time_call(listen, 2_000), time_call(tell_of_an_epoch)
    per_batch = time_call(Interrupt().check)
    print(f"{'rows':>7}{'hidden':>12}{'members':>9}{'fit ms':>10}{'hooks us':>10}{'share':>9}")
    results = []
    for n_samples, n_features, hidden, n_members in CASES:
        rng = np.random.default_rng(0)
        X = rng.normal(size=(n_samples, n_features)).astype(np.float32)
        y = (X[:, 0] + rng.normal(size=n_samples) > 0).astype(np.int64)
        model = DeepBinaryClassifier(
            hidden,
            "relu",
            encoder=None,
            n_members=n_members,
            solver="adam",
            batch_size=200,
            max_iter=20,
            early_stopping=False,
            n_jobs=1,
            random_state=0,
        )
        fits = []
        for _ in range(repeats):
            started = time.perf_counter()
            model.fit(X, y)
            fits.append(time.perf_counter() - started)
        n_batches = model.n_iter_ * -(-n_samples // 200)
        hooks = per_fit + model.n_iter_ * per_epoch + n_batches * per_batch
        share = hooks / median(fits)
        print(
            f"{n_samples:7}{hidden!s:>12}{n_members:9}{median(fits) * 1e3:10.1f}"
            f"{hooks * 1e6:10.1f}{share:9.2%}",
            flush=True,
        )
        results.append(
            {
                "n_samples": n_samples,
                "hidden_layer_sizes": hidden,
                "n_members": n_members,
                "fit_seconds": fits,
                "hook_seconds": hooks,
                "share": share,
            }
        )
    return results


def main() -> None:
    """Parse the command line, run, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=7, help="fits of each case")
    parser.add_argument("--output", help="file to write the figures to, as JSON")
    arguments = parser.parse_args()
    results = run(arguments.repeats)
    if arguments.output:
        with open(arguments.output, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
