"""`skdnn.tuning`: one table of ranges, for Optuna and for scikit-learn's random search."""

import re
from pathlib import Path

import numpy as np
import optuna
import pytest
from data import make_table
from sklearn.model_selection import ParameterSampler, RandomizedSearchCV

from skdnn import DeepBinaryClassifier
from skdnn.tuning import search_distributions, search_space

QUICK = {"max_iter": 2, "random_state": 0}


@pytest.fixture
def study():
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))


def test_every_point_of_the_space_can_be_fitted(study):
    X, y = make_table()
    for _ in range(12):
        params = search_space(study.ask(), n_members=5, **QUICK)
        model = DeepBinaryClassifier(**params).fit(X, y)
        assert np.isfinite(model.predict_proba(X)).all()


def test_space_holds_the_defaults_and_all_that_it_names(study):
    seen = [search_space(study.ask()) for _ in range(200)]
    depths = {len(params["hidden_layer_sizes"]) for params in seen}
    widths = {width for params in seen for width in params["hidden_layer_sizes"]}
    assert depths == {1, 2, 3, 4}
    assert {64} <= widths == {32, 64, 128, 256}
    assert {params["numeric_embedding"] for params in seen} == {
        "mixed",
        "periodic",
        "piecewise",
        None,
    }
    usual = {"learning_rate_init": 0.01, "weight_decay": 0.02, "dropout": 0.15, "n_members": 8}
    for name, value in usual.items():
        found = [params[name] for params in seen]
        assert min(found) < value < max(found)
    assert all(("residual" in p) == (len(p["hidden_layer_sizes"]) > 1) for p in seen)


def test_fixed_parameters_are_not_searched(study):
    trial = study.ask()
    fixed = {"hidden_layer_sizes": (7,), "dropout": 0.1, "scoring": "roc_auc", "encoder": None}
    params = search_space(trial, **fixed)
    assert fixed.items() <= params.items()
    searched = {"learning_rate_init", "weight_decay", "batch_size", "n_members"}
    assert set(trial.params) == searched == set(params) - set(fixed)


def test_best_trial_gives_its_parameters_again(study):
    suggested = []

    def objective(trial):
        suggested.append(search_space(trial, random_state=3))
        return suggested[-1]["dropout"]

    study.optimize(objective, n_trials=5)
    best = min(suggested, key=lambda params: params["dropout"])
    assert search_space(study.best_trial, random_state=3) == best
    DeepBinaryClassifier(**best)


def test_distributions_are_those_of_the_space(study):
    sampled = list(ParameterSampler(search_distributions(), 200, random_state=0))
    suggested = [search_space(study.ask()) for _ in range(200)]
    assert set(sampled[0]) == set().union(*suggested)
    for name in ("learning_rate_init", "weight_decay", "dropout", "n_members"):
        ones, others = (np.sort([p[name] for p in params]) for params in (sampled, suggested))
        assert ones[100] == pytest.approx(others[100], rel=0.35)
        assert type(sampled[0][name]) in (int, float, np.float64)
    for name in ("hidden_layer_sizes", "batch_size", "numeric_embedding"):
        assert {p[name] for p in sampled} == {p[name] for p in suggested}


def test_random_search_takes_the_distributions():
    X, y = make_table()
    space = search_distributions() | {"n_members": [2]}
    search = RandomizedSearchCV(DeepBinaryClassifier(**QUICK), space, n_iter=2, cv=2)
    search.set_params(random_state=0, error_score="raise").fit(X, y)
    assert search.best_params_["n_members"] == 2


def test_page_has_the_ranges():
    page = (Path(__file__).parent.parent / "docs" / "tuning.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]*) \|", page, re.MULTILINE))
    for name, values in search_distributions().items():
        if name == "hidden_layer_sizes":
            assert "1 to 4" in rows[name]
            assert "32, 64, 128, 256" in rows[name]
        elif isinstance(values, list):
            assert all(str(value) in rows[name] for value in values)
        else:
            low, high = map(float, values.support())
            written = [float(number) for number in re.findall(r"[\d.]*\d", rows[name])]
            assert written[:2] == pytest.approx([low, high], rel=1e-6)
