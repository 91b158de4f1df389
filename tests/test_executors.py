"""Programs by compiled kernels against NumPy: each operation alone, and random programs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

pytest.importorskip("numba")

from skdnn.engine import lowering, ops
from skdnn.engine.executors import Feed, NumbaExecutable, NumpyExecutable
from skdnn.engine.formula import Formula
from skdnn.engine.lowering import NoKernelError
from skdnn.nn.activations import silu_slope
from skdnn.nn.layers import cos_and_sin_turns, grad_lines, piecewise_linear
from skdnn.optim.solvers import adam_direction

DTYPES = ("float32", "float64")
NUMBERS = (0.0, 1.0, -1.0, 0.3, -2.5, 3.7, 30.0, -30.0, 90.0, -104.0, 1e-8, np.nan, np.inf, -np.inf)


@pytest.fixture(params=[8, 2048], ids=["short blocks", "long blocks"])
def block(request, monkeypatch):
    monkeypatch.setattr(lowering, "BLOCK", request.param)


def run_both(function, inputs, outputs, dtype, *, feed=None, is_sparse=False, n_bits=0):
    """Run a function of named arrays in both executors; return the outputs of each by name."""
    given_arrays = {name: np.asarray(array, dtype) for name, array in inputs.items()}
    feed = feed or Feed(np.zeros((3, 2), dtype), np.zeros((1, 2, 1), np.intp))
    shapes = {"x": (feed.index.shape[2], feed.X.shape[1])}
    shapes |= {name: array.shape for name, array in given_arrays.items()}
    shapes |= {name: shape for name, shape in outputs.items() if name not in shapes}
    found = []
    for name, executable in (("numpy", NumpyExecutable), ("numba", NumbaExecutable)):
        program = Formula(function, shapes, is_sparse).compile(name)
        bound = bind(executable, program, dtype, len(feed.index))
        for name, array in given_arrays.items():
            bound.views[name][...] = array
        with np.errstate(all="ignore"):
            bound.run(feed)
        found.append({name: bound.views[name].copy() for name in outputs})
    return found


def bind(executable, program, dtype, n_members=1):
    """Return what runs a program in memory of its own."""
    arena = np.zeros((n_members, program.size), dtype)
    bound = executable(program, arena)
    for view, values in bound.constants:
        view[...] = values
    return bound


def check(function, inputs, outputs, dtype, tolerance=None, **settings):
    """Check that both executors agree to rounding, relative to the largest number."""
    tolerance = tolerance or {"float32": 2e-6, "float64": 1e-10}[dtype]
    by_numpy, by_numba = run_both(function, inputs, outputs, dtype, **settings)
    for name, expected in by_numpy.items():
        scale = max(1.0, np.abs(expected[np.isfinite(expected)]).max(initial=0.0))
        np.testing.assert_allclose(by_numba[name], expected, 0, tolerance * scale, err_msg=name)


def check_one(function, arrays, shape, dtype, **settings):
    """Check a function of arrays with one result."""
    inputs = {f"input_{i}": array for i, array in enumerate(arrays)}

    def formula(named, take_bits):
        return {"result": function(*(named[name] for name in inputs))}

    check(formula, inputs, {"result": shape}, dtype, **settings)


# ---- each operation alone

UNARY = [
    *("negative", "absolute", "sign", "square", "sqrt", "exp", "expm1", "log", "log1p", "tanh"),
    *("sin", "cos", "erf", "sigmoid", "copy"),
]
BINARY = [
    *("add", "subtract", "multiply", "divide", "power", "maximum", "minimum", "greater"),
    *("greater_equal", "less", "less_equal", "equal", "not_equal"),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_functions_of_a_number(name, dtype):
    numbers = np.array([*NUMBERS, *np.linspace(-20, 20, 51)])
    check_one(getattr(ops, name), [numbers], numbers.shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_numbers(name, dtype):
    a, b = (m.ravel() for m in np.meshgrid(NUMBERS, NUMBERS))
    usual = np.abs(a) < 31 if name == "power" else np.full(a.shape, True)  # else it overflows
    check_one(getattr(ops, name), [a[usual], b[usual]], a[usual].shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_slope_of_silu(dtype):
    a, b = (m.ravel() for m in np.meshgrid(NUMBERS, NUMBERS))
    check_one(silu_slope, [a, b], a.shape, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_where_takes_nan_for_true(dtype):
    condition = np.array([0.0, -0.0, 1.0, np.nan, -np.inf])
    check_one(ops.where, [condition, np.arange(5.0), -np.arange(5.0)], (5,), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["exp", "sigmoid", "tanh"])
def test_polynomials_are_exact_to_rounding(name, dtype):
    x = np.linspace(-80, 80, 20001)
    by_numpy, by_numba = run_both(
        lambda a, _: {"y": getattr(ops, name)(a["z"])}, {"z": x}, {"y": x.shape}, dtype
    )
    np.testing.assert_allclose(by_numba["y"], by_numpy["y"], 8e-7 if dtype == "float32" else 1e-14)


SHAPES = [
    ((6, 5), (5,)),
    ((6, 5), (1, 5)),
    ((6, 5), (6, 1)),
    ((6, 5), ()),
    ((6, 5), (1, 1)),
    ((5,), (6, 1)),
    ((4, 3, 5), (3, 5)),
    ((4, 3, 5), (3, 1)),
    ((4, 3, 5), (4, 1, 1)),
    ((4, 3, 5), (4, 3, 1)),
    ((4, 3, 5), (4, 1, 5)),
    ((4, 1, 5), (1, 3, 1)),
    ((1, 1, 5), (4, 3, 1)),
    ((1, 7), (7,)),
    ((7, 1), (1, 7)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
def test_broadcasts(shapes, block):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape) for shape in shapes)
    shape = np.broadcast_shapes(*shapes)
    for first, second in ((a, b), (b, a)):
        check_one(lambda x, y: (x - y) * y, [first, second], shape, "float64")
        check_one(lambda x, y: ops.where(x, y, x * y), [first, second], shape, "float64")
    check_one(lambda x: ops.broadcast_to(x, shape), [b], shape, "float64")


@pytest.mark.parametrize("shape", [(7,), (1, 5), (6, 5), (40, 33), (4, 3, 5), (2, 20, 1)], ids=str)
def test_sums_and_transposes(shape):
    a = np.random.default_rng(0).normal(size=shape)
    for dtype in DTYPES:
        for axis in (None, *range(-1, len(shape))):
            for keepdims in (False, True):
                total = a.sum(axis=axis, keepdims=keepdims)
                check_one(
                    lambda x, axis=axis, keepdims=keepdims: ops.sum(x, axis, keepdims),
                    [a],
                    total.shape,
                    dtype,
                )
    if len(shape) > 1:
        check_one(lambda x: x.mT * 1.5, [a], np.matrix_transpose(a).shape, "float64")


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1), (3, 16, 70), (70, 20, 1), (1, 30, 20), (50, 1, 30), (20, 5, 120)]
)
@pytest.mark.parametrize("batch", [(), (1,), (4,)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_products(sizes, batch, dtype):
    check_products(sizes, batch, dtype)


@pytest.mark.parametrize("sizes", [(2, 3, 4), (60, 70, 80), (2, 0, 3), (300, 2, 300)])
def test_products_by_blas(sizes):
    check_products(sizes, (), "float64")


def check_products(sizes, batch, dtype):
    m, k, n = sizes
    rng = np.random.default_rng(0)
    for a_shape in ((m, k), (k, m)):
        for b_shape in ((k, n), (n, k)):
            a, b = rng.normal(size=(*batch, *a_shape)), rng.normal(size=(*batch, *b_shape))
            check_one(
                lambda a, b, swap=(a_shape != (m, k), b_shape != (k, n)): (
                    (a.mT if swap[0] else a) @ (b.mT if swap[1] else b)
                ),
                [a, b],
                (*batch, m, n),
                dtype,
                tolerance=1e-5 if dtype == "float32" else None,
            )


def test_slices_and_concatenations():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 6)), rng.normal(size=(5, 3))
    box = rng.normal(size=(4, 5, 6))
    check_one(lambda x: x[1:4, 2:5], [a], (3, 3), "float64")
    check_one(lambda x: x[:, 3], [a], (5,), "float64")
    check_one(lambda x: x[1:3, 2:4, 5:], [box], (2, 2, 1), "float64")
    check_one(lambda x: x[2, :, 1:3], [box], (5, 2), "float64")
    check_one(lambda x, y: ops.concat([x, y, x[:, :1]], axis=1), [a, b], (5, 10), "float64")
    check_one(lambda x, y: ops.concat([x[:, :3], y], axis=0), [a, b], (10, 3), "float64")
    for axis in range(3):
        shape = np.concatenate([box, box], axis).shape
        check_one(lambda x, i=axis: ops.concat([x, -x], axis=i), [box], shape, "float64")
    check_one(lambda x: ops.concat([x[0], x[1]], axis=0), [b], (6,), "float64")


@pytest.mark.parametrize("dtype", DTYPES)
def test_codes_are_looked_up_and_added_up(dtype):
    rng = np.random.default_rng(0)
    codes, table = np.array([0.0, 4.0, 2.0, 2.0, -1.0, 99.0]), rng.normal(size=(5, 3))
    check_one(ops.take_rows, [table, codes], (6, 3), dtype)
    rows = rng.normal(size=(6, 3))
    check_one(lambda c, r: ops.scatter_add(c, r, n_rows=5), [codes, rows], (5, 3), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_bits_drop_units(dtype, block):
    bits = np.random.default_rng(0).integers(0, 1 << 16, (1, 2, 60), np.uint16)
    feed = Feed(np.zeros((3, 2), dtype), np.zeros((1, 2, 1), np.intp), bits=bits)

    def formula(arrays, take_bits):
        mask = ops.dropout_mask(take_bits(0, 60).reshape(12, 5), n_dropped=20_000)
        return {"y": mask * arrays["z"], "mask": mask}

    z = np.random.default_rng(1).normal(size=(12, 5))
    check(formula, {"z": z}, {"y": (12, 5), "mask": (12, 5)}, dtype, feed=feed)


@pytest.mark.parametrize("dtype", DTYPES)
def test_sparse_products(dtype):
    rng = np.random.default_rng(1)
    X = sparse.csr_array((rng.random((9, 7)) * (rng.random((9, 7)) < 0.4)).astype(dtype))
    index = rng.integers(0, 9, (2, 3, 5))

    def formula(arrays, take_bits):
        return {
            "z": arrays["x"] @ arrays["w"],
            "g": arrays["x"].mT @ arrays["d"] + arrays["w"],
        }

    inputs = {"w": rng.normal(size=(7, 4)), "d": rng.normal(size=(5, 4))}
    outputs = {"z": (5, 4), "g": (7, 4)}
    check(formula, inputs, outputs, dtype, feed=Feed(X, index), is_sparse=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("function", [cos_and_sin_turns, piecewise_linear])
@pytest.mark.parametrize("wanted", [(0,), (0, 1)], ids=str)
def test_functions_of_embeddings(function, wanted, dtype):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 50))
    x[0, :3] = np.nan, 30.0, 0.0
    shape = (3, 4, 50)

    def formula(arrays, take_bits):
        results = function(*(arrays[name] for name in ("z", "w", "b")))
        return {f"result_{i}": results[i] for i in wanted}

    inputs = {"z": x, "w": rng.normal(size=(3, 4)), "b": rng.normal(size=(3, 4))}
    outputs = {f"result_{i}": shape for i in wanted}
    # NumPy's argument of the cosine, 2 pi u, is rounded in float32.
    check(formula, inputs, outputs, dtype, tolerance=1e-4 if dtype == "float32" else None)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients_of_lines(dtype):
    rng = np.random.default_rng(0)
    inputs = {"g": rng.normal(size=(3, 4, 50)), "s": rng.normal(size=(3, 4, 50))}
    inputs |= {"z": rng.normal(size=(3, 50))}

    def formula(arrays, take_bits):
        grad_w, grad_b = grad_lines(arrays["g"], arrays["s"], arrays["z"])
        return {"w": grad_w, "b": grad_b}

    check(formula, inputs, {"w": (3, 4), "b": (3, 4)}, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("names", [("m", "v"), ("other_m", "other_v")], ids=str)
def test_directions_of_adam(names, dtype):
    """Moments may be written where they were, or elsewhere."""
    rng = np.random.default_rng(0)
    inputs = {name: rng.normal(size=31) for name in ("g", "m")} | {"v": rng.uniform(size=31)}

    def formula(arrays, take_bits):
        g, m, v = (arrays[name] for name in ("g", "m", "v"))
        u, m, v = adam_direction(g, m, v, 0.9, 0.99, arrays["scale"], arrays["scale"] * 1e-8)
        return {"u": u} | dict(zip(names, (m, v), strict=True))

    inputs["scale"] = np.array(1.5)
    check(formula, inputs, dict.fromkeys(("u", *names), (31,)), dtype)


def test_infinite_features_are_no_numbers_on_waves():
    def formula(arrays, take_bits):
        cosine, sine = cos_and_sin_turns(arrays["z"], arrays["w"], arrays["b"])
        return {"cosine": cosine, "sine": sine}

    inputs = {"z": [[np.inf, -np.inf]], "w": [[1.0]], "b": [[0.0]]}
    outputs = {"cosine": (1, 1, 2), "sine": (1, 1, 2)}
    check(formula, inputs, outputs, "float32")


# ---- what a feed brings


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_scalars_and_logits(dtype):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(9, 4)).astype(dtype), rng.normal(size=9).astype(dtype)
    index = rng.integers(0, 9, (2, 3, 5))

    def formula(arrays, take_bits):
        z = (arrays["x"] @ arrays["w"])[:, 0] * arrays["weight"] + arrays["y"]
        step = arrays["scalars"][1] * ops.sum(z)
        return {"logits": z, "w": arrays["w"] - step}

    shapes = {"x": (5, 4), "y": (5,), "weight": (5,), "scalars": (2,), "w": (4, 1), "logits": (5,)}
    X.flags.writeable = y.flags.writeable = index.flags.writeable = False
    weight, scalars = rng.normal(size=(2, 9)), rng.normal(size=(2, 3, 2))
    program, found = Formula(formula, shapes).compile("numba"), []
    for executable in (NumpyExecutable, NumbaExecutable):
        bound, logits = bind(executable, program, dtype, 2), np.zeros((2, 3, 5), dtype)
        feed = Feed(X, index, y, weight.astype(dtype), scalars, logits=logits)
        bound.run(feed)
        found.append((bound.views["w"].copy(), logits))
    for by_numpy, by_numba in zip(*found, strict=True):
        np.testing.assert_allclose(by_numba, by_numpy, 1e-4)
    feed.logits = logits[:, :, ::2].repeat(2, axis=2)[:, :, :5].astype(np.float16)
    bound.run(feed)  # logits of another form are written too
    assert np.isfinite(feed.logits).all()


def test_rows_out_of_range_are_refused():
    program = Formula(lambda a, _: {"y": a["x"] * 2.0}, {"x": (1, 2), "y": (1, 2)}).compile("numba")
    bound = bind(NumbaExecutable, program, np.float32)
    for row in (-1, 3):
        with pytest.raises(IndexError, match="from 0 to 2"):
            bound.run(Feed(np.zeros((3, 2), np.float32), np.array([[[row]]])))
    with pytest.raises(ValueError, match="of 3 rows"):
        bound.run(Feed(np.zeros((3, 2), np.float32), np.array([[[0]]]), y=np.zeros(4)))


def test_operation_without_a_kernel_is_an_error():
    shape = (2, 2, 2, 2)
    formula = Formula(lambda a, _: {"y": a["z"][:, :1, 1:] * 2.0}, {"z": shape, "y": (2, 1, 1, 2)})
    with pytest.raises(NoKernelError, match="more than 3 axes"):
        formula.compile("numba")


# ---- random programs

OPS = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: ops.maximum(a, b),
    lambda a, b: ops.where(ops.greater(a, b), a, 0.5 * b),
    lambda a, _: -a,
    lambda a, _: ops.tanh(a),
    lambda a, _: ops.sigmoid(a),
    lambda a, _: a * 0.5 + 1.0,
    lambda a, _: a - ops.mean(a),
    lambda a, _: a / (1.0 + abs(a)),
    lambda a, _: ops.sum(a, axis=0, keepdims=True) * 0.1,
    lambda a, _: ops.sum(a, axis=-1, keepdims=True) * 0.1,
    lambda a, b: a.mT @ (a * b) if a.ndim == 2 and (a * b).shape == a.shape else a,
    lambda a, _: ops.concat([a[:, :1], a[:, 1:]], axis=1) if a.ndim == 2 else a,
    lambda a, _: a.mT if a.ndim == 2 else a[::1],
]


def build(steps, arrays):
    """Apply operations to arrays by number; leave out those whose shapes do not fit."""
    values = list(arrays)
    for op, first, second in steps:
        try:
            value = OPS[op](values[-1 - first % len(values)], values[-1 - second % len(values)])
        except ValueError:
            continue
        values.append(ops.tanh(value) if value.ndim == 2 else value)
    return values


@given(
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.lists(
        st.tuples(st.integers(0, len(OPS) - 1), st.integers(0, 8), st.integers(0, 8)),
        min_size=1,
        max_size=14,
    ),
    st.sampled_from(DTYPES),
    st.sampled_from([8, 2048]),
)
def test_random_programs(shape, steps, dtype, length):
    m, n = shape
    rng = np.random.default_rng(len(steps))
    inputs = {"a": (m, n), "b": (n,), "c": (m, 1), "d": (1, 1), "e": (m, n)}
    inputs = {name: rng.normal(size=shape) for name, shape in inputs.items()}
    last = build(steps, inputs.values())

    def formula(arrays, take_bits):
        values = build(steps, [arrays[name] for name in inputs])
        outputs = {"result": values[-1], "middle": values[len(values) // 2]}
        same = [v for v in values if v.shape == (m, n)]
        return outputs | {"a": same[-1], "e": same[len(same) // 2]}

    outputs = {"result": last[-1].shape, "middle": last[len(last) // 2].shape}
    outputs |= {"a": (m, n), "e": (m, n)}
    tolerance = 1e-4 if dtype == "float32" else 1e-10
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(lowering, "BLOCK", length)
        check(formula, inputs, outputs, dtype, tolerance)
