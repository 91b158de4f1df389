"""Time one training step against MLPClassifier, PyTorch and skorch.

Each network is trained for one pass over the same float32 rows by each library's public way
(`partial_fit`; for PyTorch a plain loop with fused Adam), and the time is divided by the number of
batches. Runs of all libraries alternate, and medians are compared. The last column is the share of
our step that the matrix products alone would take, timed by `np.dot` on the same shapes. Our step
takes numba's passes where it is installed, as any fit does that takes its time; `--no-numba` leaves
them out.

    python benchmarks/step_time.py [--repeats 15] [--threads 1 2] [--no-numba]
                                   [--output step_time.json]
"""

from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from statistics import median

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_info, threadpool_limits

from skdnn import DeepBinaryClassifier, _passes

# hidden layer sizes, batch size, features, batches in a pass: enough for the checks that each
# library makes at the beginning of a pass to vanish among the steps
CASES = [
    ((100,), 200, 10, 500),
    ((64, 64), 200, 30, 300),
    ((256, 256, 256), 256, 30, 40),
    ((512, 512), 1024, 100, 10),
]

WARM_UP_SECONDS = 1.5


def make_rows(n_samples: int, n_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Return standard normal rows, and labels that half depend on them."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, n_features)).astype(np.float32)
    y = (X[:, 0] + X[:, 1] * X[:, 2] + rng.normal(size=n_samples) > 0).astype(np.int64)
    return X, y


def skdnn_epoch(hidden, batch_size, X, y) -> Callable[[], object]:
    """Return a function that trains our network for one pass."""
    model = DeepBinaryClassifier(
        hidden,
        "relu",
        encoder=None,
        n_members=1,
        dropout=0.0,
        alpha=1e-4,
        solver="adam",
        batch_size=batch_size,
    )
    return lambda: model.partial_fit(X, y, classes=[0, 1])


def mlp_epoch(hidden, batch_size, X, y) -> Callable[[], object]:
    """Return a function that trains scikit-learn's network for one pass."""
    model = MLPClassifier(hidden, batch_size=batch_size)
    return lambda: model.partial_fit(X, y, classes=[0, 1])


def torch_module(hidden, n_features):
    """Return the same network in PyTorch."""
    import torch

    sizes = [n_features, *hidden]
    layers: list = []
    for n_in, n_out in pairwise(sizes):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], 1), torch.nn.Flatten(0))


def torch_epoch(hidden, batch_size, X, y) -> Callable[[], object]:
    """Return a function that trains PyTorch's network for one pass of a plain loop."""
    import torch

    model = torch_module(hidden, X.shape[1])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    cost = torch.nn.BCEWithLogitsLoss()
    X, y = torch.from_numpy(X), torch.from_numpy(y.astype(np.float32))

    def epoch() -> None:
        order = torch.randperm(len(X))
        for start in range(0, len(X), batch_size):
            rows = order[start : start + batch_size]
            optimizer.zero_grad()
            cost(model(X[rows]), y[rows]).backward()
            optimizer.step()

    return epoch


def skorch_epoch(hidden, batch_size, X, y) -> Callable[[], object]:
    """Return a function that trains skorch's classifier for one pass."""
    import torch
    from skorch import NeuralNetBinaryClassifier

    model = NeuralNetBinaryClassifier(
        torch_module(hidden, X.shape[1]),
        optimizer=torch.optim.Adam,
        optimizer__fused=True,
        lr=1e-3,
        max_epochs=1,
        batch_size=batch_size,
        train_split=None,
        iterator_train__shuffle=True,
        verbose=0,
    )
    target = y.astype(np.float32)
    model.initialize()
    return lambda: model.partial_fit(X, target)


def dot_epoch(hidden, batch_size, X, y) -> Callable[[], object]:
    """Return a function that computes the matrix products of one pass and nothing else."""
    rng = np.random.default_rng(0)
    sizes = [X.shape[1], *hidden, 1]
    x = [rng.normal(size=(batch_size, n)).astype(np.float32) for n in sizes]
    W = [rng.normal(size=s).astype(np.float32) for s in pairwise(sizes)]
    grad_x, grad_W = [np.empty_like(a) for a in x], [np.empty_like(a) for a in W]

    def epoch() -> None:
        for _ in range(len(X) // batch_size):
            for layer, weights in enumerate(W):
                np.dot(x[layer], weights, out=grad_x[layer + 1])
            for layer in range(len(W) - 1, -1, -1):
                np.dot(x[layer].T, x[layer + 1], out=grad_W[layer])
                if layer > 0:
                    np.dot(x[layer + 1], W[layer].T, out=grad_x[layer])

    return epoch


LIBRARIES = {
    "skdnn": skdnn_epoch,
    "MLPClassifier": mlp_epoch,
    "torch": torch_epoch,
    "skorch": skorch_epoch,
    "np.dot": dot_epoch,
}


def warm_up(epoch: Callable[[], object]) -> None:
    """Train for long enough that all is loaded and compiled, numba's passes too."""
    ends_at = time.perf_counter() + WARM_UP_SECONDS
    while time.perf_counter() < ends_at:
        epoch()
    epoch()


def time_case(
    hidden, batch_size: int, n_features: int, n_batches: int, repeats: int
) -> dict[str, list[float]]:
    """Return the microseconds per step of each library that is installed, run by run."""
    X, y = make_rows(n_batches * batch_size, n_features)
    epochs = {}
    for name, make in LIBRARIES.items():
        try:
            epochs[name] = make(hidden, batch_size, X, y)
        except ImportError:
            continue
        warm_up(epochs[name])
    times: dict[str, list[float]] = {name: [] for name in epochs}
    for _ in range(repeats):
        for name, epoch in epochs.items():
            started = time.perf_counter()
            epoch()
            times[name].append((time.perf_counter() - started) / n_batches * 1e6)
    return times


def run(threads: list[int], repeats: int) -> Iterator[dict]:
    """Time every case with every number of threads, and print a line for each."""
    peers = [name for name in LIBRARIES if name not in ("skdnn", "np.dot")]
    print(f"{'hidden':18}{'batch':>6}{'threads':>8}{'skdnn us':>10}", end="")
    print("".join(f"{name + ' us':>18}{'ratio':>7}" for name in peers) + f"{'dot share':>11}")
    for n_threads in threads:
        for hidden, batch_size, n_features, n_batches in CASES:
            with threadpool_limits(n_threads):
                times = time_case(hidden, batch_size, n_features, n_batches, repeats)
            medians = {name: median(runs) for name, runs in times.items()}
            ours = medians["skdnn"]
            line = f"{hidden!s:18}{batch_size:6}{n_threads:8}{ours:10.0f}"
            for name in peers:
                if name in medians:
                    line += f"{medians[name]:18.0f}{medians[name] / ours:7.2f}"
                else:
                    line += f"{'not installed':>18}{'':7}"
            print(f"{line}{medians['np.dot'] / ours:11.0%}", flush=True)
            yield {
                "hidden_layer_sizes": hidden,
                "batch_size": batch_size,
                "n_features": n_features,
                "n_threads": n_threads,
                "microseconds_per_step": times,
                "median": medians,
                "ratio": {name: medians[name] / ours for name in peers if name in medians},
            }


def environment() -> dict[str, object]:
    """Describe what the figures depend on."""
    versions = {}
    for package in ("numpy", "scipy", "scikit-learn", "numba", "torch", "skorch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    blas = [
        {key: info[key] for key in ("internal_api", "version", "architecture") if key in info}
        for info in threadpool_info()
        if info["user_api"] == "blas"
    ]
    return {"python": platform.python_version(), "packages": versions, "blas": blas}


def main() -> None:
    """Parse the command line, run, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=15, help="passes of each library")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="BLAS threads")
    parser.add_argument("--no-numba", action="store_true", help="time the NumPy passes")
    parser.add_argument("--output", help="file to write the figures to, as JSON")
    arguments = parser.parse_args()
    if arguments.no_numba:
        _passes.SECONDS_BEFORE_LOADING = float("inf")
    warnings.simplefilter("ignore", ConvergenceWarning)
    results = list(run(arguments.threads, arguments.repeats))
    if arguments.output:
        with open(arguments.output, "w") as file:
            json.dump({"environment": environment(), "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
