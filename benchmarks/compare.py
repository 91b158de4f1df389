"""Compare the speed of two versions of this package in one run, by turns, through public names.

    python benchmarks/compare.py OLD NEW [--only TEXT ...] [--repeats 5] [--threads 1 2]
                                 [--numba on off] [--output compare.json] [--quick]

OLD and NEW are folders that hold `skdnn` (a checkout, a git worktree) or whatever pip installs, as
`git+https://...@v0.1.0` or a wheel. For each case every pair of version and setting (threads, with
and without numba) has a process of its own, which warms up first; then all of them take turns, in
the other direction each time. Cases are the steps of `speed.py`, default fits of growing tables,
predictions, importing, and what the first fit of a process takes beside the second.

Prints a table and writes JSON: `ratio` is the median of OLD over that of NEW, above 1 where NEW is
faster; `cpu_ratio` the same of processor time, which other work on the machine disturbs less;
`epoch_ratio` that of seconds an epoch, as versions may stop after different numbers of epochs; and
`two_threads` the median with two threads over that with one. Run k of a fit has seed k.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from measure import QUICK, make_rows, show_time, warm_up

Run = Callable[[int], int | None]
"""What is timed: takes the number of the run, and returns the epochs it trained, if it did."""

N_ROWS = (2_000, 3_000, 6_000, 10_000, 50_000)
PREDICTED = {1: 200, 70: 50, 10_000: 1}


# ---- cases, which run in the processes of the versions: each makes what is timed, by threads


def step(number: int, n_threads: int) -> Run:
    """Train one network of `speed.py` for a pass, on one thread or by those of BLAS."""
    from speed_steps import CASES, skdnn_epoch

    case = CASES[number]
    epoch = skdnn_epoch(
        case.hidden, case.batch_size, *make_rows(case.n_batches * case.batch_size, case.n_features)
    )
    warm_up(epoch, at_least=case.n_warm_up)

    def train(number: int) -> None:
        epoch()

    return train


def default_fit(n_rows: int, n_threads: int, *, is_mixed: bool = False) -> Run:
    """Fit the default ensemble."""
    from speed_fits import make_table

    from skdnn import DeepBinaryClassifier

    X, y = make_table(n_rows, is_mixed=True) if is_mixed else make_rows(n_rows, 20)
    return lambda number: (
        DeepBinaryClassifier(n_jobs=n_threads, random_state=number).fit(X, y).n_iter_
    )


def one_epoch(n_threads: int) -> Run:
    """Fit a wide network for one epoch: much of it is what a fit does beside its epochs."""
    from skdnn import DeepBinaryClassifier

    X, y = make_rows(20_000, 100)
    model = DeepBinaryClassifier((512, 512), n_members=1, max_iter=1, early_stopping=False)
    model.set_params(encoder=None, batch_size=1024, n_jobs=n_threads)
    return lambda number: model.set_params(random_state=number).fit(X, y).n_iter_


def prediction(n_rows: int, n_threads: int) -> Run:
    """Predict rows by the default ensemble."""
    from skdnn import DeepBinaryClassifier

    X, y = make_rows(10_000, 20)
    model = DeepBinaryClassifier(n_jobs=n_threads, random_state=0).fit(X, y)

    def predict(number: int) -> None:
        for _ in range(PREDICTED[n_rows]):
            model.predict_proba(X[:n_rows])

    return predict


def importing(n_threads: int) -> Run:
    """Import the package, beside scikit-learn's network, which is there already."""
    import sklearn.neural_network  # noqa: F401

    def load(number: int) -> None:
        import skdnn  # noqa: F401

    return load


STEPS = ["(100,)", "(64, 64)", "(256, 256, 256)", "(512, 512)"]
FRESH = {"import": importing, "first fit of a process, 10,000 x 20": partial(default_fit, 10_000)}
"""Cases that take a new process for each run."""
CASES: dict[str, Callable[[int], Run]] = {
    **{f"step, hidden {name}": partial(step, number) for number, name in enumerate(STEPS)},
    **{f"default fit, {n_rows:,} x 20": partial(default_fit, n_rows) for n_rows in N_ROWS},
    "default fit, 10,000 rows with categories": partial(default_fit, 10_000, is_mixed=True),
    "one epoch, 20,000 x 100, hidden (512, 512)": one_epoch,
    **{f"predict_proba, {n_rows:,} x 20": partial(prediction, n_rows) for n_rows in PREDICTED},
    **FRESH,
}


def work(name: str, n_threads: int) -> None:
    """Prepare a case, then run it for each number read, and write what the run took."""
    warnings.simplefilter("ignore")
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever prints shall not answer
    run = CASES[name](n_threads)
    if name not in FRESH:
        warm_up(lambda: run(0))
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        n_epochs = run(int(line))
        taken = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        import skdnn

        answers.write(json.dumps({**taken, "epochs": n_epochs, "file": skdnn.__file__}) + "\n")


# ---- the process that tells them what to do


@contextmanager
def worker(folder: Path, name: str, n_threads: int, numba: str) -> Iterator[Callable[[int], dict]]:
    """Start a process of a version, and give what asks it for a run."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(threads, str(n_threads))
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is imported is compiled once
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment |= {"PYTHONPATH": path, "NUMBA_DISABLE_JIT": str(int(numba == "off"))}
    command = [sys.executable, __file__, "--worker", name, str(n_threads)]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def ask(number: int) -> dict[str, Any]:
        with suppress(BrokenPipeError):
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{name}: the process of {folder} ended; its error stands above")
        answer = json.loads(line)
        if not Path(answer["file"]).resolve().is_relative_to(folder):
            raise RuntimeError(f"expected skdnn of {folder}; got {answer['file']}")
        return answer

    try:
        yield ask
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.wait()
        process.stdout.close()


def measure_case(name: str, folders: dict[str, Path], settings: list, repeats: int) -> dict:
    """Return the runs of a case, by (threads, numba, version)."""
    keys = [(*setting, version) for setting in settings for version in folders]
    start = {key: partial(worker, folders[key[2]], name, *key[:2]) for key in keys}
    runs: dict[tuple, list[dict]] = {key: [] for key in keys}
    with ExitStack() as stack:
        if name in FRESH:
            ask = {key: partial(ask_fresh, name, start[key]) for key in keys}
        else:
            ask = {key: stack.enter_context(start[key]()) for key in keys}
        for number in range(-1, repeats):
            for key in keys if number % 2 else reversed(keys):
                answer = ask[key](max(0, number))
                if number >= 0:  # the run before waits for the warm-up, or fills caches
                    runs[key].append(answer)
    return runs


def ask_fresh(name: str, start: Callable, number: int) -> dict[str, Any]:
    """Ask a new process; for a fit, for what its first takes beside the second."""
    with start() as ask:
        first = ask(number)
        if name != "import":
            second = ask(number)
            first |= {what: first[what] - second[what] for what in ("seconds", "cpu")}
        return first


def summarize(name: str, settings: list, runs: dict[tuple, list[dict]]) -> list[dict[str, Any]]:
    """Return the medians of a case and their ratios, by setting."""

    def middle(key: tuple, read: Callable[[dict], float]) -> float:
        return median(map(read, runs[key]))

    rows = []
    for setting in settings:
        old, new = ((*setting, version) for version in ("old", "new"))
        n_threads, numba = setting
        row = {"case": name, "threads": n_threads, "numba": numba}
        row |= {"old": middle(old, seconds_of), "new": middle(new, seconds_of)}
        row["ratio"] = ratio(row["old"], row["new"])
        row["cpu_ratio"] = ratio(*(middle(key, lambda run: run["cpu"]) for key in (old, new)))
        if runs[old][0]["epochs"] and name not in FRESH:
            row["epoch_ratio"] = ratio(*(middle(key, seconds_an_epoch) for key in (old, new)))
        if n_threads == 2 and (1, numba) in settings:
            row["two_threads"] = {
                version: ratio(row[version], middle((1, numba, version), seconds_of))
                for version in ("old", "new")
            }
        rows.append(row | {"runs": {"old": runs[old], "new": runs[new]}})
    return rows


def seconds_of(run: dict[str, Any]) -> float:
    """Return the seconds of a run."""
    return run["seconds"]


def seconds_an_epoch(run: dict[str, Any]) -> float:
    """Return the seconds of a run for each epoch."""
    return run["seconds"] / run["epochs"]


def ratio(numerator: float, denominator: float) -> float | None:
    """Return a ratio; None of what took no time."""
    return numerator / denominator if denominator > 0 else None


def find_version(spec: str, folder: Path) -> Path:
    """Return the folder that holds a version, installed there if need be."""
    if (Path(spec) / "skdnn").is_dir():
        return Path(spec).resolve()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target"]
    subprocess.run([*pip, str(folder), spec], check=True)
    return folder.resolve()


HEADER = ["case", "threads", "numba", "old", "new", "ratio", "CPU", "epoch", "two threads"]


def show_row(row: dict[str, Any]) -> str:
    """Return a line of the table."""
    ratios = [row.get(name) for name in ("ratio", "cpu_ratio", "epoch_ratio")]
    cells = [row["case"], str(row["threads"]), row["numba"]]
    cells += [show_time(row["old"]), show_time(row["new"])]
    cells += ["" if value is None else f"{value:.2f}x" for value in ratios]
    share = row.get("two_threads")
    cells += [f"{share['old']:.2f}, {share['new']:.2f}" if share else ""]
    return f"| {' | '.join(cells)} |"


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("versions", nargs=2, metavar=("OLD", "NEW"), help="folder or for pip")
    parser.add_argument("--only", nargs="+", default=[""], help="parts of names of cases")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each process")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--numba", nargs="+", choices=("on", "off"), default=["on", "off"])
    parser.add_argument("--output", type=Path, help="file to write the figures to, as JSON")
    parser.add_argument("--quick", action="store_true", help="run on tiny tables, as a test")
    options = parser.parse_args()
    options.cases = [name for name in CASES if any(part in name for part in options.only)]
    if not options.cases or options.repeats < 1:
        parser.error(f"expected cases and runs of them; cases are {', '.join(CASES)}")
    return options


def main() -> None:
    """Measure the cases, printing and writing each when it is done."""
    if sys.argv[1:2] == ["--worker"]:
        work(sys.argv[2], int(sys.argv[3]))
        return
    options = parse()
    if options.quick:
        os.environ[QUICK] = "1"
    settings = list(product(options.threads, options.numba))
    figures: dict[str, Any] = dict(zip(("old", "new"), options.versions, strict=True))
    figures |= {"cases": [], "failed": {}}
    print("\n".join(f"| {' | '.join(line)} |" for line in (HEADER, ["---"] * len(HEADER))))
    with TemporaryDirectory() as installed:
        folders = {
            version: find_version(figures[version], Path(installed, version))
            for version in ("old", "new")
        }
        for name in options.cases:
            try:
                runs = measure_case(name, folders, settings, options.repeats)
            except RuntimeError as error:  # one case that fails leaves the others
                figures["failed"][name] = str(error)
                print(error, file=sys.stderr)
            else:
                rows = summarize(name, settings, runs)
                print(*map(show_row, rows), sep="\n", flush=True)
                figures["cases"] += rows
            if options.output is not None:
                options.output.write_text(json.dumps(figures, indent=1) + "\n")
    sys.exit(bool(figures["failed"]))


if __name__ == "__main__":
    main()
