"""Time training steps against MLPClassifier and PyTorch, and draw what an epoch costs.

Each network is trained for one pass over the same float32 rows by each library's public way
(`partial_fit`; for PyTorch a plain loop with fused Adam), and the time is divided by the number of
batches. The share of the matrix products is what they alone would take, timed by `np.dot` on the
same shapes. In the picture, members of MLPClassifier and PyTorch are as many networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
from measure import Call, Row, alternate, compare_times, limited, make_rows, warm_up
from sklearn.neural_network import MLPClassifier

from skdnn import DeepBinaryClassifier


@dataclass(frozen=True)
class Case:
    """A network, its batches, and how many times longer the others' steps should be, in order.

    `n_batches` in a pass are enough for the checks that each library makes at the beginning of a
    pass to vanish among the steps. `targets` are those of `LIBRARIES`; the last is a share.
    """

    hidden: tuple[int, ...]
    batch_size: int
    n_features: int
    n_batches: int
    targets: tuple[float | None, ...]

    @property
    def n_warm_up(self) -> int:
        """Passes until numba is loaded: rows seen make half a second of NumPy's work."""
        return 8 if self.n_batches >= 1000 else 1


CASES = [
    Case((100,), 200, 10, 2000, (6.0, 5.0, None)),
    Case((64, 64), 200, 30, 1000, (4.0, 3.5, None)),
    Case((256, 256, 256), 256, 30, 400, (1.7, 1.2, 0.85)),
    Case((512, 512), 1024, 100, 100, (1.4, 1.1, 0.9)),
]


def skdnn_epoch(hidden, batch_size, X, y, n_members=1) -> Call:
    """Return a function that trains our network for one pass."""
    model = DeepBinaryClassifier(
        hidden,
        "relu",
        encoder=None,
        n_members=n_members,
        dropout=0.0,
        alpha=1e-4,
        solver="adam",
        ema_decay=None,
        batch_size=batch_size,
    )
    return lambda: model.partial_fit(X, y, classes=[0, 1])


def mlp_epoch(hidden, batch_size, X, y) -> Call:
    """Return a function that trains scikit-learn's network for one pass."""
    model = MLPClassifier(hidden, batch_size=batch_size)
    return lambda: model.partial_fit(X, y, classes=[0, 1])


def torch_epoch(hidden, batch_size, X, y) -> Call:
    """Return a function that trains PyTorch's network for one pass of a plain loop."""
    import torch

    layers: list = []
    for n_in, n_out in pairwise([X.shape[1], *hidden]):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(hidden[-1], 1), torch.nn.Flatten(0))
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


def dot_epoch(hidden, batch_size, X, y) -> Call:
    """Return a function that computes the matrix products of one pass and nothing else."""
    step = make_products([X.shape[1], *hidden, 1], batch_size)

    def epoch() -> None:
        for _ in range(len(X) // batch_size):
            step()

    return epoch


def make_products(sizes, n_rows, *, has_backward=True, is_input_trained=False) -> Call:
    """Return a function that computes the products of one network's layers for some rows.

    Of the first layer's input there is a gradient only where that is trained, as embeddings are.
    """
    rng = np.random.default_rng(0)
    x = [rng.normal(size=(n_rows, n)).astype(np.float32) for n in sizes]
    W = [rng.normal(size=s).astype(np.float32) for s in pairwise(sizes)]
    grad_x, grad_W = [np.empty_like(a) for a in x], [np.empty_like(a) for a in W]

    def products() -> None:
        for layer, weights in enumerate(W):
            np.dot(x[layer], weights, out=grad_x[layer + 1])
        for layer in range(len(W) - 1, -1, -1) if has_backward else ():
            np.dot(x[layer].T, x[layer + 1], out=grad_W[layer])
            if layer > 0 or is_input_trained:
                np.dot(x[layer + 1], W[layer].T, out=grad_x[layer])

    return products


OURS, PRODUCTS = "skdnn", "its matrix products"
LIBRARIES = {"MLPClassifier": mlp_epoch, "torch": torch_epoch, PRODUCTS: dot_epoch}


def step_rows(threads: list[int], repeats: int) -> Iterator[Row]:
    """Compare a step of every network with each library's, and with its own matrix products."""
    for n_threads in threads:
        for case in CASES:
            seconds = time_case(case, n_threads, repeats)
            path = (
                f"step, hidden {case.hidden}, batch {case.batch_size}, {case.n_features} features, "
                f"{n_threads} thread{'' if n_threads == 1 else 's'}"
            )
            for name, bound in zip(LIBRARIES, case.targets, strict=True):
                if name in seconds:
                    unit = "%" if name == PRODUCTS else "x"
                    yield compare_times(path, name, seconds, name, OURS, unit=unit, least=bound)
                else:
                    yield Row(path, name, least=bound, missing=f"{name} is not installed")


def time_case(case: Case, n_threads: int, repeats: int) -> dict[str, list[float]]:
    """Return the seconds per step of each library that is installed, run by run."""
    X, y = make_rows(case.n_batches * case.batch_size, case.n_features)
    epochs = make_epochs({OURS: skdnn_epoch, **LIBRARIES}, case.hidden, case.batch_size, X, y)
    with limited(n_threads):
        warm_up(epochs[OURS], case.n_warm_up)
        seconds = alternate(epochs, repeats)
    return {name: [s / case.n_batches for s in runs] for name, runs in seconds.items()}


def make_epochs(libraries: dict[str, Callable[..., Call]], *arguments) -> dict[str, Call]:
    """Return the passes of those libraries that are installed."""
    epochs = {}
    for name, make in libraries.items():
        with suppress(ImportError):
            epochs[name] = make(*arguments)
    return epochs


# ---- the picture of growing costs: each panel changes one axis of a training, on one thread

BASE = {"rows": 10_000, "features": 20, "width": 64, "members": 1}
GRID = {
    "rows": [1_000, 3_000, 10_000, 30_000, 100_000, 300_000],
    "features": [5, 20, 80, 320, 1280],
    "width": [16, 32, 64, 128, 256, 512, 1024],
    "members": [1, 2, 4, 8, 16, 32],
}


def time_size(size: dict[str, int], repeats: int) -> dict[str, float]:
    """Return the seconds of an epoch of each library that is installed."""
    X, y = make_rows(size["rows"], size["features"])
    makers = {OURS: partial(skdnn_epoch, n_members=size["members"])}
    makers |= {name: LIBRARIES[name] for name in ("MLPClassifier", "torch")}
    epochs = make_epochs(makers, (size["width"],) * 2, 200, X, y)
    with limited(1):
        for epoch in epochs.values():
            epoch()
        seconds = alternate(epochs, repeats, is_warm=True)
    times = {OURS: 1, "MLPClassifier": size["members"], "torch": size["members"]}
    return {name: times[name] * median(runs) for name, runs in seconds.items()}


def draw_costs(repeats: int, folder: Path) -> Path:
    """Measure and draw a panel for each axis, both scales logarithmic."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for axes, (axis, values) in zip(panels.flat, GRID.items(), strict=True):
        seconds = [time_size({**BASE, axis: value}, repeats) for value in values]
        for name in seconds[0]:
            axes.plot(values, [each[name] for each in seconds], "o-", ms=4, label=name)
        axes.set(xscale="log", yscale="log", xlabel=axis, ylabel="seconds of an epoch")
        axes.grid(alpha=0.3)
    panels[0, 0].legend(frameon=False)
    figure.suptitle(
        f"One epoch on one thread: {BASE['rows']:,} rows, {BASE['features']} features, "
        f"two hidden layers of {BASE['width']}, batch 200,\n"
        "one network, but for what the panel changes"
    )
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / "speed_costs.png", dpi=120)
    return folder / "speed_costs.png"
