"""Files of fitted models: skops and pickle, plain data, formats, memory-mapped weights."""

import pickle

import numpy as np
import pandas as pd
import pytest
from skops import io as skops_io

from skdnn import TabularEncoder

ENCODER = "skdnn.preprocessing.encoder.TabularEncoder"


def through_skops(estimator, *, types):
    """Return what skops loads again, after a look at what it wants to have trusted."""
    dumped = skops_io.dumps(estimator)
    assert set(skops_io.get_untrusted_types(data=dumped)) == set(types)
    return skops_io.loads(dumped, trusted=sorted(types))


def through_pickle(estimator, *, types):
    return pickle.loads(pickle.dumps(estimator))


each_way = pytest.mark.parametrize("save_and_load", [through_skops, through_pickle])

RNG = np.random.default_rng(0)
N = 120
COLUMNS = {
    "numbers": RNG.normal(size=N),
    "numbers with gaps": np.where(RNG.random(N) < 0.2, np.nan, RNG.normal(size=N)),
    "two numbers": RNG.integers(0, 2, N) * 4.0,
    "one number": np.ones(N),
    "no number": np.full(N, np.nan),
    "booleans": RNG.integers(0, 2, N).astype(bool),
    "booleans with gaps": RNG.choice(np.array([True, False, None], object), N),
    "booleans among numbers": pd.Categorical(RNG.choice(np.array([True, 1, 0, 2.5], object), N)),
    "strings": RNG.choice(np.array([*"abcdefghijkl", None], object), N),
    "strings and numbers": RNG.choice(np.array(["a", 7, 2.5, None], object), N),
    "whole numbers": pd.Categorical(RNG.integers(0, 20, N)),
    "bytes": pd.Categorical(RNG.choice(np.array([b"a", b"\xff"], object), N)),
    "pairs": pd.Series([("a", int(i)) for i in RNG.integers(0, 3, N)]),
    "no level": pd.Categorical([None] * N, categories=["a"]),
}


@each_way
@pytest.mark.filterwarnings("ignore::UserWarning")  # of odd columns
@pytest.mark.parametrize("names", [[name] for name in COLUMNS] + [list(COLUMNS)], ids=str)
def test_encoders_encode_as_before(save_and_load, names):
    table = pd.DataFrame({name: COLUMNS[name] for name in names})
    encoder = TabularEncoder().fit(table)
    loaded = save_and_load(encoder, types={ENCODER})
    np.testing.assert_array_equal(loaded.transform(table), encoder.transform(table))
    new = table[:4].copy()
    for name in names:
        new[name] = pd.Series([None, "never seen", False, 0], dtype=object)
        if not encoder.is_categorical_[names.index(name)]:
            new[name] = [np.nan, 1e9, -1.0, 0.0]
    np.testing.assert_array_equal(loaded.transform(new), encoder.transform(new))
    for levels, before in zip(loaded.categories_, encoder.categories_, strict=True):
        assert levels == before
        assert list(map(type, levels or [])) == list(map(type, before or []))
    assert vars(loaded).keys() == vars(encoder).keys()


def test_state_of_an_encoder_has_no_keys_but_strings():
    """Text formats would make strings of others, and of False something that is true."""

    def check(value):
        if isinstance(value, dict):
            assert all(type(key) is str for key in value)
        for part in value.values() if isinstance(value, dict) else value:
            if isinstance(part, dict | list):
                check(part)
            else:
                assert part is None or isinstance(part, str | int | float | tuple | np.ndarray)

    check(TabularEncoder().fit(pd.DataFrame(COLUMNS)[["booleans", "strings"]]).__getstate__())


def test_encoder_of_another_format_says_so():
    state = TabularEncoder().fit(np.eye(3)).__getstate__()
    newer = state | {"skdnn_format": state["skdnn_format"] + 1, "skdnn_version": "9.8.7"}
    older = state | {"skdnn_format": 0, "skdnn_version": "0.0.1"}
    with pytest.raises(ValueError, match=r"written by skdnn 9\.8\.7 in format 2.*Upgrade skdnn"):
        TabularEncoder().__setstate__(newer)
    with pytest.raises(ValueError, match=r"Load it with skdnn==0\.0\.1, or fit it again"):
        TabularEncoder().__setstate__(older)
    del state["skdnn_format"], state["skdnn_version"]
    with pytest.raises(ValueError, match=r"This TabularEncoder was written by .* before 0\.1\.0"):
        TabularEncoder().__setstate__(state)
