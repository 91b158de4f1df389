"""Formulas as programs: what may be written in them, and what becomes of what may not.

A program computes what its formula computes on NumPy arrays. What cannot be traced is an error
where it stands, and trains by the formula itself; what would change an array in place is an error
in any case.
"""

import numpy as np
import pytest
from data import classifier, make_table
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from scipy.special import ndtr
from strategies import seeds
from tables import run_traced

from skdnn.engine.formula import Formula
from skdnn.engine.trace import UntraceableError
from skdnn.nn import Activation, Dense, Dropout, functions
from skdnn.nn.activations import Tanh
from skdnn.nn.functions import broadcast_to, concat, maximum, where
from skdnn.optim import ScaleByAdam


def assert_traced(function, *arrays, dtype=np.float64):
    """Check that a function of arrays is the same as a program."""
    inputs = {f"input_{i}": np.asarray(array, dtype) for i, array in enumerate(arrays)}

    def formula(named, take_bits):
        return {"result": function(*(named[name] for name in inputs))}

    with np.errstate(all="ignore"):
        expected = formula(inputs, None)
        actual = run_traced(formula, inputs, expected)["result"]
    assert actual.shape == np.shape(expected["result"])
    accuracy = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(actual, expected["result"], rtol=accuracy, atol=accuracy)


rng = np.random.default_rng(0)
A, B, COLUMN, ROW = (rng.normal(size=shape) for shape in ((4, 5), (4, 5), (4, 1), (5,)))
CUBE = rng.normal(size=(3, 4, 5))

EXPRESSIONS = {
    "operators": lambda a, b: -a + 2.0 - b * 3 / (1.0 + abs(a)) + (1 - a) / 2,
    "numbers in front": lambda a, b: 1.0 / (2.0 + a * a) - (3.0 - b) + 2.0**b,
    "powers": lambda a, b: a**2 + abs(b) ** 0.5 + a**3.0,
    "comparisons": lambda a, b: (a > b) * 1.0 + (a <= 0.0) * 2.0 + (b > 0.5) * a + (a != b),
    "NumPy's functions": lambda a, b: np.exp(a) * np.tanh(b) + np.maximum(a, np.sqrt(np.abs(b))),
    "NumPy's functions with numbers": lambda a, b: np.minimum(a, 0.3) + np.power(abs(b), 1.5),
    "functions of skdnn": lambda a, b: functions.sigmoid(a) + functions.softplus(b),
    "SciPy's error function": lambda a, b: special.erf(a) + functions.erf(b),
    "reductions": lambda a, b: a.sum(axis=0) + b.mean(axis=0) + a.sum() + np.mean(b),
    "reductions that keep axes": lambda a, b: a - a.mean(1, keepdims=True) + b.sum(-1)[:, None],
    "slices": lambda a, b: a[1:3, 2:] * b[-2:, :3] + a[0, :3] - b[2][2:],
    "single numbers": lambda a, b: a * b[0, 1] + b[-1, -1],
    "new axes": lambda a, b: a[:, None, :] * b[None, :, :],
    "ellipsis": lambda a, b: a[..., 1:] + b[..., :4],
    "transposes": lambda a, b: (a.T @ b + (b.mT @ a).mT).T,
    "products": lambda a, b: (a @ b.mT) @ a + b,
    "reshape": lambda a, b: a.reshape(5, 4).mT + b.reshape(-1).reshape((4, 5)),
    "reshape of a transpose": lambda a, b: a.mT.reshape(4, 5) * b.T.reshape(-1)[3],
    "joined": lambda a, b: np.concatenate([a[:, :2], b, concat([a, b], axis=1)], axis=1),
    "joined flat": lambda a, b: concat([a.reshape(-1), b[0] * 2.0, (a * b).reshape(-1)]),
    "clipped": lambda a, b: np.clip(a, -0.5, 0.5) + np.clip(b, a, 1.0),
    "where": lambda a, b: np.where(a > 0.0, a, b) + where(b > 0.0, 1.0, b),
    "like others": lambda a, b: np.zeros_like(a) + np.ones_like(b) + functions.ones_like(a) * b,
    "broadcast": lambda a, b: np.broadcast_to(a[0], (4, 5)) + broadcast_to(b[:, :1], (4, 5)),
    "constant arrays": lambda a, b: a * np.arange(5.0) + b @ np.eye(5),
    "NumPy's numbers": lambda a, b: np.float64(2.0) * a + b * np.float32(0.5) + np.int64(3),
    "the input itself": lambda a, b: b,
    "a part of the input": lambda a, b: b[1:3],
    "the input turned": lambda a, b: b.mT,
    "a constant": lambda a, b: np.ones_like(a),
    "rows of the input": lambda a, b: sum(list(a)) + len(b),
    "matrices side by side": lambda a, b: (a[:, :, None] @ b[:, None, :]).sum(axis=2),
    "logarithms": lambda a, b: np.log(abs(a)) + np.log1p(b * b) + np.expm1(a),
    "waves": lambda a, b: np.sin(a) + np.cos(b),
    "sign": lambda a, b: np.sign(a) * np.square(b) + np.negative(a),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("function", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_expression_is_the_same_as_a_program(function, dtype):
    assert_traced(function, A, B, dtype=dtype)


def test_arrays_of_three_axes_and_of_one():
    assert_traced(lambda cube, row: (cube @ cube.mT + row[:4]).sum(axis=1), CUBE, ROW)
    assert_traced(lambda cube, column: (cube * column).sum(axis=0).mT @ cube[1], CUBE, COLUMN)
    assert_traced(lambda row, column: column * row + column.mT @ column, ROW, COLUMN)


def join(a, b):
    """Return two arrays as they were, which lie in one."""
    whole = concat([a.reshape(-1), b.reshape(-1)])
    return whole[: a.size].reshape(a.shape), whole[a.size :].reshape(b.shape)


STEPS = [
    lambda a, b: [a + b],
    lambda a, b: [a - b],
    lambda a, b: [a * b],
    lambda a, b: [maximum(a, b)],
    lambda a, b: [where(a > b, a, b * 0.5)],
    lambda a, b: [np.tanh(a)],
    lambda a, b: [functions.sigmoid(a)],
    lambda a, b: [1.0 - a],
    join,
    lambda a, b: [a * 0.5, *join(a * 0.5, np.tanh(b))],
]
SHAPES = {"a": (4, 5), "b": (5,), "c": (4, 1), "d": (1, 5), "e": ()}
NAMES = [f"{kind}{i}" for kind in SHAPES for i in range(2)]
numbers = st.integers(0, 999)


@given(
    steps=st.lists(st.tuples(numbers, numbers, st.sampled_from(STEPS)), max_size=12),
    chosen=st.lists(st.tuples(numbers, st.sampled_from(NAMES)), min_size=1, max_size=6),
    seed=seeds,
)
@settings(max_examples=5 * settings.default.max_examples)
def test_outputs_may_take_the_places_of_any_inputs(steps, chosen, seed):
    """Random expressions whose results go where inputs lie.

    Nothing is overwritten that is needed still, wherever results are kept on the way.
    """

    def formula(named, take_bits):
        values = [named[name] for name in NAMES]
        for i, j, step in steps:
            values += step(values[i % len(values)], values[j % len(values)])
        outputs = {}
        for i, name in chosen:
            fitting = [value for value in values if value.shape == SHAPES[name[0]]]
            outputs[name] = fitting[i % len(fitting)]
        return outputs

    rng = np.random.default_rng(seed)
    inputs = {name: np.asarray(rng.normal(size=SHAPES[name[0]])) for name in NAMES}
    expected = formula(inputs, None)
    for name, array in run_traced(formula, inputs, expected).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-10, atol=1e-10, err_msg=name)


def use_part_after_joining(a, b):
    """Compute from a part of joined arrays, for the last time, before these are used."""
    joined, _ = join(np.tanh(b), a * 2.0)
    y = np.tanh(b) + 1.0
    return y * b, joined + y


@pytest.mark.parametrize(
    "exchange",
    [
        lambda a, b: (b, a),
        lambda a, b: (b, b * 2.0),
        lambda a, b: (b * 2.0, a),
        lambda a, b: (b.mT.mT, a + b),
        lambda a, b: join(b, a),
        use_part_after_joining,
    ],
)
def test_inputs_may_be_exchanged(exchange):
    def formula(named, take_bits):
        return dict(zip("ab", exchange(named["a"], named["b"]), strict=True))

    expected = formula({"a": A, "b": B}, None)
    for name, array in run_traced(formula, {"a": A, "b": B}, expected).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-12)


def test_inputs_that_are_no_outputs_stay_as_they_are():
    def formula(named, take_bits):
        return {"total": (named["a"] * 2.0 + named["b"]).sum(), "b": named["b"] + 1.0}

    outputs = {"total": np.zeros(()), "b": B, "a": A}
    found = run_traced(formula, {"a": A, "b": B}, outputs)
    np.testing.assert_array_equal(found["a"], A)
    np.testing.assert_allclose(found["b"], B + 1.0)
    assert found["total"] == pytest.approx((A * 2.0 + B).sum())


def test_the_same_operations_are_planned_once():
    def compile_scaled(factor, n=5, executor="numpy"):
        shapes = {"z": (4, n), "y": (4, n)}
        return Formula(lambda named, _: {"y": named["z"] * factor}, shapes).compile(executor)

    program = compile_scaled(2.5)
    assert compile_scaled(2.5) is program
    for other in (compile_scaled(3.5), compile_scaled(2.5, n=6), compile_scaled(2.5, 5, "numba")):
        assert other is not program


# What cannot be traced.


def trace(function):
    """Trace a function of one matrix; check that it is the same each time."""
    formula = Formula(lambda named, _: {"y": function(named["z"])}, {"z": (4, 5), "y": (4, 5)})
    return formula.compile(is_checked=False)


UNTRACEABLE = {
    "a branch on numbers": (lambda z: z if z.sum() > 0.0 else -z, "branch depends on the numbers"),
    "a branch on comparisons": (lambda z: z if (z > 0.0).all() else -z, "method all"),
    "a function of SciPy": (special.expit, "expit cannot be traced"),
    "numbers for SciPy": (lambda z: special.logsumexp(z), "numbers of an array|cannot be traced"),
    "asarray": (lambda z: np.asarray(z) * 2.0, "takes the numbers of an array"),
    "array": (lambda z: np.array(z), "takes the numbers of an array"),
    "a number": (lambda z: z * float(z[0, 0]), "a number is taken out"),
    "math": (lambda z: z * __import__("math").exp(z[0, 0]), "a number is taken out"),
    "a function of NumPy": (lambda z: np.sort(z), r"numpy\.sort cannot be traced"),
    "a method": (lambda z: z.cumsum(axis=0), "method cumsum of arrays cannot be traced"),
    "a conversion": (lambda z: z.astype(np.float32), "method astype"),
    "an index by numbers": (lambda z: z[z > 0.0], "an index is"),
    "an index by positions": (lambda z: z[[0, 1, 2, 3]], "an index is"),
    "a step": (lambda z: z[::-1], "an index is"),
    "a method of a ufunc": (lambda z: z + np.add.reduce(z), r"add\.reduce"),
    "an output": (lambda z: np.exp(z, out=np.empty((4, 5))), r"exp with \['out'\]"),
    "a product with a vector": (lambda z: z + (z @ np.ones(5))[:, None], r"\[2, 1\] axes"),
    "a product that broadcasts": (lambda z: (np.ones((2, 4, 4)) @ z)[0], r"\[3, 2\] axes"),
    "a text": (lambda z: z + "1", "an operand is a str"),
}


@pytest.mark.parametrize(("function", "message"), UNTRACEABLE.values(), ids=UNTRACEABLE)
def test_what_cannot_be_traced_is_an_error_where_it_stands(function, message):
    with pytest.raises(UntraceableError, match=message) as error:
        trace(function)
    frames = [frame.path.name for frame in error.traceback if hasattr(frame.path, "name")]
    assert "test_formulas.py" in frames


def set_entry(z):
    z[0] = 1.0
    return z


def add_in_place(z):
    z += 1.0
    return z


def fill_first_rows(z):
    y = z * 2.0
    y[:2] *= 3.0
    return y


@pytest.mark.parametrize("function", [set_entry, add_in_place, fill_first_rows])
def test_what_changes_an_array_is_an_error_with_advice(function):
    with pytest.raises(
        TypeError, match=r"must not .* of shape \(\d, 5\); return a new one"
    ) as error:
        trace(function)
    assert not isinstance(error.value, UntraceableError)


def test_shapes_that_do_not_fit_are_the_errors_of_numpy():
    for function, message in [
        (lambda z: z + np.ones(7), "broadcast"),
        (lambda z: z @ z, "matmul takes"),
        (lambda z: z.reshape(3, 3), "cannot reshape"),
        (lambda z: z[7], "out of range"),
    ]:
        with pytest.raises((ValueError, IndexError), match=message):
            trace(function)


def test_random_numbers_and_constants_that_change_are_no_program():
    stream, seen = np.random.default_rng(0), []

    def count(z):
        seen.append(1)
        return z * len(seen)

    for function in (
        lambda z: z + stream.normal(size=(4, 5)),
        lambda z: z * stream.random(),
        count,
    ):
        with pytest.raises(UntraceableError, match="not compute the same each time"):
            trace(function)


# Through the estimator: training by the formulas themselves ends where that by the program does.


class Plain:
    """The logistic function, by operations that can be traced."""

    def value(self, z):
        return 1.0 / (1.0 + np.exp(-z))

    def derivative(self, z):
        return self.value(z) * (1.0 - self.value(z))


class ByScipy(Plain):
    def value(self, z):
        return special.expit(z)


class Branching(Plain):
    def value(self, z):
        return 1.0 / (1.0 + np.exp(-z)) if (z > -1e9).all() else 0.0 * z


class Converting(Plain):
    def value(self, z):
        return (1.0 / (1.0 + np.exp(-np.asarray(z)))).astype(z.dtype)


class Masking(Plain):
    def value(self, z):
        y = np.empty_like(z)
        y[z >= 0] = 1.0 / (1.0 + np.exp(-z[z >= 0]))
        y[z < 0] = 1.0 - 1.0 / (1.0 + np.exp(z[z < 0]))
        return y


class Counting(Plain):
    """One whose formula is another each time, by a number that hardly changes the result."""

    n_calls = 0

    def value(self, z):
        Counting.n_calls += 1
        return super().value(z) + 1e-15 * Counting.n_calls


FITS = {
    "plain": {},
    "members with dropout": {"n_members": 3, "dropout": 0.3, "ema_decay": 0.9},
    "batch normalisation": {"normalization": "batch", "n_members": 2},
    "early stopping": {"early_stopping": True, "n_members": 2},
    "L-BFGS": {"solver": "lbfgs", "batch_size": "auto", "learning_rate": "constant"},
}


def fit(activation, **settings):
    X, y = make_table()
    return classifier((5, 4), activation, **settings).fit(X, y)


@pytest.mark.parametrize("kind", [ByScipy, Branching, Converting, Masking, Counting])
def test_activation_that_cannot_be_traced_trains_as_the_plain_formula_does(kind, capsys):
    X, _ = make_table()
    plain = fit(Plain(), verbose=1)
    assert "one by one" not in capsys.readouterr().out
    own = fit(kind(), verbose=1)
    assert "The formulas run one by one" in capsys.readouterr().out
    np.testing.assert_allclose(own.predict_proba(X), plain.predict_proba(X), rtol=0, atol=1e-9)
    np.testing.assert_allclose(own.loss_curve_, plain.loss_curve_, rtol=1e-9)


@pytest.mark.parametrize("settings", FITS.values(), ids=FITS)
@pytest.mark.filterwarnings("ignore:L-BFGS ended")
def test_every_kind_of_training_runs_by_the_formulas_too(settings):
    X, _ = make_table()
    plain, own = fit(Plain(), **settings), fit(ByScipy(), **settings)
    np.testing.assert_allclose(own.predict_proba(X), plain.predict_proba(X), rtol=0, atol=1e-7)
    gradients = [model.input_gradients(X[:5]) for model in (plain, own)]
    np.testing.assert_allclose(*gradients, rtol=0, atol=1e-6)


class AddsInPlace(Plain):
    def value(self, z):
        z *= -1.0
        return 1.0 / (1.0 + np.exp(z))


class WritesEntries(Plain):
    def derivative(self, z):
        z[z < 0] = 0.0
        return z


class WritesByOut(Plain):
    def value(self, z):
        return np.tanh(z, out=z)


class NormalCDF:
    """Untraceable, so that trainings run its formulas as they stand."""

    def value(self, z):
        return ndtr(z)

    def derivative(self, z):
        return np.exp(-0.5 * z * z) / np.sqrt(2.0 * np.pi)


class WritesWhenUntraceable(NormalCDF):
    def value(self, z):
        y = ndtr(z)
        z *= 2.0
        return y


class WritesByUntraceable(NormalCDF):
    def value(self, z):
        return ndtr(z, out=z)


class WritesInDerivative(NormalCDF):
    def derivative(self, z):
        y = super().derivative(z)
        z[...] = 0.0
        return y


class LossThatWrites:
    def loss(self, y_true, logits):
        return y_true * ndtr(-logits) + (1.0 - y_true) * ndtr(logits)

    def derivative(self, y_true, logits):
        slope = np.exp(-0.5 * logits * logits) * (1.0 - 2.0 * y_true)
        logits[logits > 0.0] = 0.0
        return slope


@pytest.mark.parametrize("kind", [WritesWhenUntraceable, WritesByUntraceable, WritesInDerivative])
def test_untraceable_activation_that_changes_its_input_is_a_clear_error(kind):
    with pytest.raises(TypeError, match=r"must not .* an array.* return a new one"):
        fit(kind())


def test_untraceable_loss_that_changes_the_logits_is_a_clear_error():
    X, y = make_table()
    model = classifier(loss=LossThatWrites())
    with pytest.raises(TypeError, match=r"must not write into an array.* return a new one"):
        model.fit(X, y)


@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        (AddsInPlace, TypeError, r"must not change an array in place, .* return a new one"),
        (WritesEntries, TypeError, r"must not write into an array, .* return a new one"),
        (WritesByOut, TypeError, r"must not change an array in place"),
    ],
)
def test_activation_that_changes_its_input_is_a_clear_error(kind, error, message):
    """One that would change the array elsewhere, too, where it stands for others."""
    with pytest.raises(error, match=message):
        fit(kind())


def test_parts_of_ones_own_train_as_the_built_in_ones_they_equal():
    """Layers among the hidden ones, an activation, a loss, a solver and a schedule."""
    settings = {"learning_rate_init": 0.01, "dropout": 0.2, "initialization": "he_normal"}
    X, y = make_table()

    class OwnTanh:
        def value(self, z):
            return np.tanh(z)

        def derivative(self, z):
            return 1.0 - np.tanh(z) ** 2

    class OwnLoss:
        def loss(self, y_true, logits):
            return np.log(1.0 + np.exp(logits)) - y_true * logits

        def derivative(self, y_true, logits):
            return 1.0 / (1.0 + np.exp(-logits)) - y_true

    expected = classifier((5, 4), "tanh", **settings).fit(X, y).predict_proba(X)
    own = {
        "activation": {"activation": OwnTanh()},
        "loss": {"loss": OwnLoss()},
        "solver": {"solver": ScaleByAdam(0.9, 0.999, 1e-8)},
        "schedule": {"learning_rate": lambda done, total: 1.0},
        "layers": {"hidden_layer_sizes": [5, Dense(4), Activation(Tanh()), Dropout(0.2)]},
    }
    for name, parameters in own.items():
        model = classifier((5, 4), "tanh", **settings).set_params(**parameters).fit(X, y)
        np.testing.assert_allclose(model.predict_proba(X), expected, atol=1e-9, err_msg=name)
