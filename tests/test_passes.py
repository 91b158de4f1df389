"""Passes beside NumPy: compiled ones give the same numbers, to the last bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csc_array
from sklearn.datasets import make_classification
from strategies import seeds, shapes_MNI

import skdnn._loading
from skdnn import DeepBinaryClassifier, _trainer
from skdnn._loading import choose_module, load_compiled
from skdnn._passes import NUMPY, PASSES
from skdnn._random import N_WORDS

compiled = pytest.importorskip("skdnn._compiled", reason="numba is not installed")

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def assert_same_to_the_bit(name, make_arguments):
    """Run a pass both ways on fresh copies of the same arguments, and compare all of them."""
    one, other = make_arguments(), make_arguments()
    arrays = [x for x in one if isinstance(x, np.ndarray)]
    dtype = next(array.dtype for array in arrays if array.dtype.kind == "f")
    compiled_pass = getattr(load_compiled(dtype), name)
    with np.errstate(all="ignore"):
        result = PASSES[name](*one)
        compiled_result = compiled_pass(*other)
    np.testing.assert_array_equal(compiled_result, result)
    assert compiled_result.dtype == result.dtype
    for array, compiled_array in zip(one, other, strict=True):
        if isinstance(array, np.ndarray) and name != "rectify":  # which may leave `work` alone
            np.testing.assert_array_equal(compiled_array, array)


def test_every_pass_is_compiled():
    functions, fault = compiled.make_ready(np.dtype(np.float32))
    assert set(functions) - {"run_calls", "call_kinds"} == set(PASSES)
    assert fault is None


@dtypes
@given(shape=shapes_MNI, seed=seeds)
def test_compiled_add_bias_is_the_same_to_the_bit(dtype, shape, seed):
    def make():
        rng = np.random.default_rng(seed)
        flat = rng.normal(size=(shape[0], shape[2] + 3)).astype(dtype)
        b = flat[:, np.newaxis, 1 : shape[2] + 1]  # a view with strides, as of the parameters
        return rng.normal(size=shape).astype(dtype), b

    assert_same_to_the_bit("add_bias", make)


@dtypes
@given(shape=shapes_MNI, seed=seeds)
def test_compiled_rectify_is_the_same_to_the_bit(dtype, shape, seed):
    def make():
        z = np.random.default_rng(seed).normal(size=shape).astype(dtype)
        z.flat[:3] = np.array([np.nan, np.inf, -np.inf])[: z.size]
        return z, np.empty_like(z), np.empty_like(z)

    assert_same_to_the_bit("rectify", make)


@dtypes
@given(shape=shapes_MNI, seed=seeds)
def test_compiled_mask_by_sign_is_the_same_to_the_bit(dtype, shape, seed):
    def make():
        rng = np.random.default_rng(seed)
        y = np.maximum(rng.normal(size=shape), 0.0).astype(dtype)
        grad = rng.normal(size=shape).astype(dtype)
        grad.flat[:2] = np.array([np.nan, np.inf])[: grad.size]
        return grad, y

    def with_work():
        grad, y = make()
        return grad, y, (y > 0).astype(dtype)

    assert_same_to_the_bit("mask_by_sign", with_work)


@dtypes
@given(shape=shapes_MNI, seed=seeds)
def test_compiled_weighing_by_the_sigmoid_is_the_same_to_the_bit(dtype, shape, seed):
    def make():
        z = (10.0 * np.random.default_rng(seed).normal(size=shape)).astype(dtype)
        z.flat[:3] = np.array([np.nan, 800.0, -800.0])[: z.size]  # e^800 is infinite
        return z, np.exp(-z), np.empty_like(z)

    with np.errstate(over="ignore"):
        assert_same_to_the_bit("weigh_by_sigmoid", make)


@dtypes
@given(shape=shapes_MNI, seed=seeds)
def test_compiled_slope_of_silu_is_the_same_to_the_bit(dtype, shape, seed):
    def make():
        rng = np.random.default_rng(seed)
        grad, y = (rng.normal(size=shape).astype(dtype) for _ in range(2))
        s = rng.random(shape).astype(dtype)
        work = y * s
        np.subtract(y, work, out=work)
        return grad, y, s, np.add(work, s, out=work)

    assert_same_to_the_bit("slope_of_silu", make)


@dtypes
@given(shape=shapes_MNI, seed=seeds)
def test_compiled_outer_product_is_the_same_to_the_bit(dtype, shape, seed):
    def make():
        rng = np.random.default_rng(seed)
        n_members, n_samples, n_units = shape
        W = rng.normal(size=(n_members, n_units, 1)).astype(dtype)
        column = rng.normal(size=(n_members, n_samples, 1)).astype(dtype)
        return column, W.swapaxes(1, 2), np.empty(shape, dtype)

    assert_same_to_the_bit("multiply_outer", make)


@dtypes
@given(shape=shapes_MNI, seed=seeds)
def test_compiled_ramps_are_the_same_to_the_bit(dtype, shape, seed):
    """Of every other member, as they take turns."""

    def make():
        rng = np.random.default_rng(seed)
        u = rng.normal(0.5, 1.0, (2 * shape[0], *shape[1:])).astype(dtype)
        u.flat[:5] = np.array([np.nan, np.inf, -np.inf, -0.0, 1.0])[: u.size]
        return u[::2], np.empty_like(u)[::2]

    def make_halves():
        u, _ = make()
        return u, np.where(np.random.default_rng(seed).random(u.shape) < 0.5, u, 7.0).astype(dtype)

    assert_same_to_the_bit("clip_to_ramp", make)
    assert_same_to_the_bit("mark_equal", make_halves)


@dtypes
@given(shape=shapes_MNI, n_dropped=st.integers(0, N_WORDS - 1), seed=seeds)
def test_compiled_mask_from_words_is_the_same_to_the_bit(dtype, shape, n_dropped, seed):
    def make():
        words = np.random.default_rng(seed).integers(0, N_WORDS, shape, dtype=np.uint16)
        words = words.reshape(len(words), -1)
        words[:, 0] = n_dropped  # the first word that is kept
        return words, n_dropped, N_WORDS / (N_WORDS - n_dropped), np.empty(words.shape, dtype)

    assert_same_to_the_bit("mask_from_words", make)


@dtypes
@given(n_members=st.integers(1, 3), n_levels=st.integers(1, 9), seed=seeds)
def test_compiled_codes_are_the_same(dtype, n_members, n_levels, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2.0, n_levels + 2.0, (n_members, 20)).astype(dtype)
    x[:, :4] = [np.nan, np.inf, -np.inf, n_levels - 1]
    codes, compiled_codes = np.empty((2, *x.shape), np.intp)
    PASSES["round_to_codes"](x.copy(), n_levels, codes)
    load_compiled(dtype).round_to_codes(x.copy(), n_levels, compiled_codes)
    np.testing.assert_array_equal(compiled_codes, codes)
    np.testing.assert_array_equal(codes[:, :4], [[0, n_levels - 1, 0, n_levels - 1]] * n_members)
    expected = np.clip(x[:, 4:], 0, n_levels - 1).astype(int)
    np.testing.assert_array_equal(codes[:, 4:], expected)


@dtypes
@given(n_members=st.integers(1, 3), n_levels=st.integers(1, 9), width=st.integers(1, 4), seed=seeds)
def test_compiled_look_up_and_its_transpose_are_the_same(dtype, n_members, n_levels, width, seed):
    n_samples = 15

    def make_tables():
        rng = np.random.default_rng(seed)
        flat = rng.normal(size=(n_members, n_levels * width + 3)).astype(dtype)
        table = flat[:, 1 : n_levels * width + 1].reshape(n_members, n_levels, width)
        codes = rng.integers(0, n_levels, (n_members, n_samples))
        return codes, table, rng.normal(size=(n_members, n_samples, width)).astype(dtype)

    def make_rows():
        codes, table, rows = make_tables()
        work = csc_array(
            (
                np.ones(codes.size, dtype),
                np.zeros(codes.size, np.int32),
                np.arange(codes.size + 1, dtype=np.int32),
            ),
            shape=(n_members * n_levels, codes.size),
        )
        return codes, rows, table, work

    assert_same_to_the_bit("look_up", make_tables)
    assert_same_to_the_bit("add_up_rows", make_rows)
    codes, rows, sums, work = make_rows()
    PASSES["add_up_rows"](codes, rows, sums, work)
    for member, its_codes in enumerate(codes):
        expected = np.zeros((n_levels, width))
        np.add.at(expected, its_codes, rows[member])
        np.testing.assert_allclose(sums[member], expected, rtol=1e-5, atol=1e-5)


@dtypes
@given(n_members=st.integers(1, 3), n_params=st.integers(1, 40), seed=seeds)
def test_compiled_scaled_sum_is_the_same_to_the_bit(dtype, n_members, n_params, seed):
    def make():
        rng = np.random.default_rng(seed)
        wide = (rng.normal(size=(n_members, n_params + 2)).astype(dtype) for _ in range(2))
        y, x = (array[:, 1:-1] for array in wide)
        return y, x, 1.7e-3, (x * dtype(1.7e-3)).copy()

    assert_same_to_the_bit("add_scaled", make)


@dtypes
@given(n_members=st.integers(1, 3), n_params=st.integers(1, 40), seed=seeds)
def test_compiled_moving_average_is_the_same_to_the_bit(dtype, n_members, n_params, seed):
    def make():
        rng = np.random.default_rng(seed)
        y, x = (rng.normal(size=(n_members, n_params)).astype(dtype) for _ in range(2))
        shares = np.tile(np.array([0.97, 0.03], dtype), (n_members, 1))
        return y, x, shares, x * dtype(0.03)

    assert_same_to_the_bit("move_towards", make)


@given(seed=seeds, n_members=st.integers(0, 3), n_words=st.integers(0, 50))
def test_compiled_words_are_the_same_and_leave_the_streams_at_the_same_place(
    seed, n_members, n_words
):
    rngs = [[np.random.default_rng([seed, i]) for i in range(n_members)] for _ in range(2)]
    out = np.zeros((2, n_members, n_words), np.uint64)
    for rng in (rng for of_side in rngs for rng in of_side):
        rng.random()
    PASSES["draw_words"](rngs[0], out[0])
    load_compiled(np.float32).draw_words(rngs[1], out[1])
    np.testing.assert_array_equal(*out)
    states = [[rng.bit_generator.state for rng in of_side] for of_side in rngs]
    assert states[0] == states[1]


@dtypes
@given(n_members=st.integers(1, 3), n_params=st.integers(1, 40), seed=seeds)
def test_compiled_scaling_by_moments_is_the_same_to_the_bit(dtype, n_members, n_params, seed):
    def make():
        rng = np.random.default_rng(seed)
        g, m, v = (rng.normal(size=(n_members, n_params)).astype(dtype) for _ in range(3))
        numbers = np.tile(np.array([1e-8, 0.37], dtype), (n_members, 1))
        return g, m, np.abs(v), 0.9, 0.999, numbers

    assert_same_to_the_bit("scale_by_moments", make)


@dtypes
@pytest.mark.parametrize(("activation", "n_members"), [("relu", 1), ("tanh", 3), ("silu", 3)])
def test_fit_with_compiled_passes_is_the_same_to_the_bit(dtype, n_members, activation, monkeypatch):
    X, y = make_classification(300, 7, random_state=0)
    fitted = []
    for seconds in (np.inf, -1.0):
        monkeypatch.setattr(skdnn._loading, "SECONDS_BEFORE_LOADING", seconds)
        assert (choose_module(dtype, 1.0) is NUMPY) == (seconds > 0)
        model = DeepBinaryClassifier(
            (9, 8), activation, n_members=n_members, max_iter=5, random_state=0
        )
        fitted.append(model.fit(X.astype(dtype), y))
    np.testing.assert_array_equal(fitted[0].params_, fitted[1].params_)
    assert fitted[0].loss_curve_ == fitted[1].loss_curve_


def test_module_to_train_with_goes_by_the_work_of_the_training_alone(monkeypatch):
    """What else has been trained or predicted in a process changes nothing."""
    chosen = []

    def choose(dtype, seconds, seconds_left):
        chosen.append(seconds)
        return NUMPY

    monkeypatch.setattr(_trainer, "choose_module", choose)
    X, y = make_classification(300, 7, random_state=0)
    model = DeepBinaryClassifier((4,), max_iter=2, early_stopping=False, random_state=0)
    for rows, n_epochs in ((300, 2), (150, 2), (300, 4)):
        model.set_params(max_iter=n_epochs).fit(X[:rows], y[:rows]).predict(X)
    first, half, twice = chosen
    assert first == 2 * half == twice / 2
    assert choose_module(np.float32, skdnn._loading.SECONDS_BEFORE_LOADING) is NUMPY
    assert choose_module(np.float32, 2.0 * skdnn._loading.SECONDS_BEFORE_LOADING) is not NUMPY


def test_stream_becomes_a_long_training_part_by_part(monkeypatch):
    chosen = []

    def choose(dtype, seconds, seconds_left):
        chosen.append(seconds)
        return NUMPY

    monkeypatch.setattr(_trainer, "choose_module", choose)
    X, y = make_classification(100, 7, random_state=0)
    model = DeepBinaryClassifier((4,), random_state=0)
    for _ in range(3):
        model.partial_fit(X, y, classes=[0, 1])
    np.testing.assert_allclose(chosen, chosen[0] * np.arange(1, 4))
