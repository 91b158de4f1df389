"""Run every claim of from_scratch.md, draw its pictures, and write its tables into the page.

    python docs/make_figures.py

Takes a few minutes on two cores. Tables stand between markers in the page, so that no figure in
it is typed by hand.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdnn import DeepBinaryClassifier
from skdnn.datasets import load_rain

DOCS = Path(__file__).parent
PAGE = DOCS / "from_scratch.md"
SENSORS = [
    "temp_f",
    "dewpoint_f",
    "humidity_pct",
    "wind_speed_mph",
    "pressure_hpa",
    "visibility_mi",
]
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"]  # Okabe and Ito's
Curves = dict[str, tuple[np.ndarray, np.ndarray]]


def load_sensors() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return six scaled sensors: months 1-9 to learn from, months 10-12 to judge by."""
    rain = load_rain()
    column = rain.feature_names.index
    X, month = rain.data[:, [column(name) for name in SENSORS]], rain.data[:, column("month")]
    scale = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
    is_early = month <= 9
    X_train = scale.fit_transform(X[is_early])
    return X_train, rain.target[is_early], scale.transform(X[~is_early]), rain.target[~is_early]


def network(hidden=(64, 64, 64), **parameters) -> DeepBinaryClassifier:
    """Return one plain network: all rows, no dropout, no penalty, a constant rate, float32."""
    plain = {
        "encoder": None,
        "n_members": 1,
        "dropout": 0.0,
        "alpha": 0.0,
        "solver": "adam",
        "ema_decay": None,
        "batch_size": 200,
        "learning_rate": "constant",
        "learning_rate_init": 1e-3,
        "n_iter_no_change": np.inf,
        "early_stopping": False,
        "dtype": "float32",
        "random_state": 0,
    }
    return DeepBinaryClassifier(hidden, "relu", **{**plain, **parameters})


def draw(curves: Curves, path: str, *, xlabel: str, ylabel: str, log_y: bool = False) -> None:
    """Draw one line for each name; scales are the same for all."""
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.add_subplot()
    for color, (name, (x, y)) in zip(COLORS, curves.items(), strict=False):
        axes.plot(x, y, label=name, color=color)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if log_y:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(DOCS / "images" / path, dpi=120)


def write_table(name: str, header: list[str], rows: list[list[str]]) -> None:
    """Replace the table of this name in the page."""
    lines = ["| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows]]
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    before, rest = PAGE.read_text().split(begin)
    after = rest.split(end)[1]
    PAGE.write_text("\n".join([f"{before}{begin}", *lines, f"{end}{after}"]))
    print("\n".join([name, *lines, ""]))


def compare_initializations(X, y) -> None:
    """Train the same deep network from different first weights."""
    curves, rows = {}, []
    starts = {
        "zeros": ("zeros", 1.0),
        "small normal": ("normal", 1.0),
        "He": ("he_normal", 1.0),
        "He, 20 times too large": ("he_normal", 20.0),
    }
    for name, (initialization, factor) in starts.items():
        model = network(initialization=initialization, max_iter=15, warm_start=True)
        # A rate so small that nothing is learned: the way to have first weights and change them.
        model.set_params(learning_rate_init=1e-30, max_iter=1).fit(X, y)
        for W in model.coefs_:
            W *= factor
        model.set_params(learning_rate_init=1e-3, max_iter=15).fit(X, y)
        loss = np.array(model.history_["loss"][1:])
        curves[name] = np.arange(1, len(loss) + 1), loss
        W = model.coefs_[1]
        n_different = len(np.unique(W, axis=1).T)
        rows.append([name, f"{loss[0]:.4f}", f"{loss[-1]:.4f}", f"{n_different} of {W.shape[1]}"])
    draw(curves, "initialization.png", xlabel="epoch", ylabel="training loss", log_y=True)
    header = ["first weights", "loss, epoch 1", "loss, epoch 15", "different units in layer 2"]
    write_table("initialization", header, rows)


def compare_regularization(X, y, X_test, y_test) -> None:
    """Let a large network see few rows, and hold it back in different ways."""
    few = np.random.default_rng(0).choice(len(y), 1000, replace=False)
    curves, rows = {}, []
    settings = {
        "nothing": {},
        "L2, alpha=3": {"alpha": 3.0},
        "dropout 0.5": {"dropout": 0.5},
        "both": {"alpha": 3.0, "dropout": 0.5},
    }
    epochs = np.arange(5, 101, 5)
    for name, parameters in settings.items():
        model = network((128, 128), max_iter=5, warm_start=True, **parameters)
        train, test = [], []
        for _ in epochs:
            model.fit(X[few], y[few])
            train.append(log_loss(y[few], model.predict_proba(X[few])))
            test.append(log_loss(y_test, model.predict_proba(X_test)))
        curves[name] = epochs, np.array(test)
        rows.append([name, f"{train[-1]:.4f}", f"{test[-1]:.4f}", f"{min(test):.4f}"])
    draw(curves, "regularization.png", xlabel="epoch", ylabel="loss on months 10-12")
    header = ["held back by", "training loss", "test loss", "lowest test loss on the way"]
    write_table("regularization", header, rows)


def compare_optimizers(X, y) -> None:
    """Descend the same cost in different ways for the same number of passes."""
    curves, rows = {}, []
    settings = {
        "gradient descent": {"solver": "gd", "learning_rate_init": 0.5},
        "mini-batches": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.05},
        "with momentum": {"solver": "sgd", "momentum": 0.9, "learning_rate_init": 0.05},
        "Adam": {"solver": "adam", "learning_rate_init": 1e-3},
    }
    for name, parameters in settings.items():
        model = network((64, 64), max_iter=30, **parameters).fit(X, y)
        loss = np.array(model.history_["loss"])
        curves[name] = np.arange(1, 31), loss
        n_steps = 30 if parameters["solver"] == "gd" else 30 * -(-len(y) // 200)
        seconds = sum(model.history_["seconds"])
        rows.append([name, f"{loss[-1]:.4f}", f"{n_steps:,}", f"{seconds:.1f}"])
    draw(
        curves,
        "optimizers.png",
        xlabel="epoch (pass over the rows)",
        ylabel="training loss",
        log_y=True,
    )
    write_table("optimizers", ["descent", "loss, epoch 30", "steps", "seconds"], rows)


def main() -> None:
    """Run everything."""
    warnings.simplefilter("ignore", ConvergenceWarning)  # some of these are meant to go wrong
    X, y, X_test, y_test = load_sensors()
    compare_initializations(X, y)
    compare_regularization(X, y, X_test, y_test)
    compare_optimizers(X, y)


if __name__ == "__main__":
    main()
