"""The optimizers: against their formulas written out naively, against PyTorch, part by part."""

import copy
import pickle
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from tables import SOLVER_ROWS

from skdnn._chain import Optimizer, Work, chain
from skdnn._loading import load_compiled
from skdnn._tape import Recorder, Series, is_recordable, record
from skdnn.estimator.architecture import Architecture, build_network
from skdnn.losses import BinaryCrossEntropy
from skdnn.optimizers import (
    SOLVERS,
    AccumulateMomentum,
    AddL2Gradient,
    ClipByGlobalNorm,
    DecayWeights,
    ScaleByLearningRate,
    make_optimizer,
)
from skdnn.training.random_streams import RandomStreams

rows = pytest.mark.parametrize("row", SOLVER_ROWS.values(), ids=SOLVER_ROWS)
N_PARAMS, N_DECAYED = 7, 5
LEARNING_RATE = 0.05


def build(row, **arguments):
    """Build the optimizer of a row for seven parameters, of which five decay."""
    arguments = {"lr_scales": [(slice(0, N_PARAMS), 1.0)], **row.arguments, **arguments}
    return make_optimizer(row.solver, decayed=slice(0, N_DECAYED), **arguments)


def quadratic(n_members, seed, dtype=np.float64):
    """Return first parameters, and the gradient of a bowl around a random point."""
    rng = np.random.default_rng(seed)
    curvature = rng.exponential(size=(n_members, N_PARAMS))
    centre = rng.normal(size=(n_members, N_PARAMS))
    params = rng.normal(size=(n_members, N_PARAMS)).astype(dtype)
    return params, lambda params: (curvature * (params - centre)).astype(dtype)


def take_step(optimizer, grads, params, state, learning_rate):
    numbers = optimizer.make_numbers(params, 1)
    optimizer.begin(state, numbers, np.reshape(learning_rate, (1, -1, 1)))
    of_step = [array[0] for array in numbers]
    optimizer.update(grads, params, state, of_step, np.full_like(params, np.nan))


def descend(optimizer, params, gradient, n_steps, learning_rate=LEARNING_RATE) -> Iterator:
    """Take steps on a copy of the parameters; yield them after each one."""
    params = params.copy()
    state = optimizer.init(params)
    for _ in range(n_steps):
        take_step(optimizer, gradient(params), params, state, learning_rate)
        yield params.copy()


def last(steps):
    """Return the parameters after the last step."""
    *_, params = steps
    return params


def apply(transform, updates, params=None, learning_rate=LEARNING_RATE, number=1):
    """Run one transform on a copy of the updates, from its first state."""
    updates = np.array(updates, dtype=np.float64)
    params = np.zeros_like(updates) if params is None else params
    state, numbers = transform.init(params), np.empty((1, len(params), transform.n_numbers))
    rates = np.reshape(learning_rate, (1, -1, 1))
    transform.begin(state, numbers, range(number, number + 1), rates)
    transform.update(updates, params, state, Work(numbers[0], np.full_like(updates, np.nan)))
    return updates


# Each optimizer as its paper has it, one number at a time.


def naive_gd(g, memory, t, lr):
    return -lr * g


def naive_momentum(g, memory, t, lr, momentum=0.9):
    memory["v"] = momentum * memory.get("v", 0.0) - lr * g
    return memory["v"]


def naive_nesterov(g, memory, t, lr, momentum=0.8):
    memory["v"] = momentum * memory.get("v", 0.0) - lr * g
    return momentum * memory["v"] - lr * g


def naive_rmsprop(g, memory, t, lr, decay=0.99, epsilon=1e-7):
    memory["v"] = decay * memory.get("v", 0.0) + (1 - decay) * g**2
    return -lr * g / (memory["v"] ** 0.5 + epsilon)


def naive_adam(g, memory, t, lr, beta_1=0.85, beta_2=0.99, epsilon=1e-8):
    memory["m"] = beta_1 * memory.get("m", 0.0) + (1 - beta_1) * g
    memory["v"] = beta_2 * memory.get("v", 0.0) + (1 - beta_2) * g**2
    m_hat = memory["m"] / (1 - beta_1**t)
    v_hat = memory["v"] / (1 - beta_2**t)
    return -lr * m_hat / (v_hat**0.5 + epsilon)


def naive_adamw(g, memory, t, lr):
    return naive_adam(g, memory, t, lr, beta_1=0.9, beta_2=0.999)


def naive_nadam(g, memory, t, lr, beta_1=0.85, beta_2=0.999, epsilon=1e-8):
    mu = [beta_1 * (1 - 0.5 * 0.96 ** (0.004 * i)) for i in range(1, t + 2)]
    memory["m"] = beta_1 * memory.get("m", 0.0) + (1 - beta_1) * g
    memory["v"] = beta_2 * memory.get("v", 0.0) + (1 - beta_2) * g**2
    m_hat = mu[t] * memory["m"] / (1 - np.prod(mu)) + (1 - mu[t - 1]) * g / (1 - np.prod(mu[:-1]))
    return -lr * m_hat / ((memory["v"] / (1 - beta_2**t)) ** 0.5 + epsilon)


NAIVE = {
    "gd": naive_gd,
    "sgd": naive_gd,
    "momentum": naive_momentum,
    "nesterov": naive_nesterov,
    "rmsprop": naive_rmsprop,
    "adam": naive_adam,
    "adamw": naive_adamw,
    "nadam": naive_nadam,
}


def test_table_covers_every_solver():
    assert {row.solver for row in SOLVER_ROWS.values()} == set(SOLVERS)
    assert set(NAIVE) == set(SOLVER_ROWS)


@pytest.mark.parametrize("name", SOLVER_ROWS)
@given(seed=seeds)
def test_twenty_steps_follow_the_formula(name, seed):
    params, gradient = quadratic(2, seed)
    expected = params.copy()
    memories = [[{} for _ in member] for member in params]
    steps = descend(build(SOLVER_ROWS[name]), params, gradient, 20)
    for t, actual in enumerate(steps, start=1):
        g = gradient(expected)
        for k, i in np.ndindex(params.shape):
            expected[k, i] += NAIVE[name](float(g[k, i]), memories[k][i], t, LEARNING_RATE)
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "trace"),
    [
        ("gd", [0.9, 0.81, 0.729]),
        ("momentum", [0.9, 0.72, 0.486]),
        ("nesterov", [0.82, 0.6084, 0.395208]),
        ("rmsprop", [0.8, 0.6642897713, 0.5552204344]),
        ("adam", [0.9, 0.8005381333, 0.7020624203]),
    ],
)
def test_first_steps_are_those_worked_out_by_hand(name, trace):
    """From w = 1 on the bowl w^2 / 2, where g = w, at a learning rate of 0.1.

    RMSProp with a decay of 3/4: v = 1/4 and a step of 0.1 / 0.5 to w = 0.8, and so on.
    """
    arguments = {"beta_2": 0.75, "epsilon": 1e-12} if name == "rmsprop" else {}
    optimizer = build(SOLVER_ROWS[name], lr_scales=[(slice(0, 1), 1.0)], **arguments)
    steps = descend(optimizer, np.ones((1, 1)), np.copy, 3, learning_rate=0.1)
    np.testing.assert_allclose([float(params[0, 0]) for params in steps], trace, atol=1e-7)


def batches(n_batches=20, n_samples=16, n_features=5):
    """Yield random mini-batches with labels and weights, some of them zero."""
    rng = np.random.default_rng(1)
    for _ in range(n_batches):
        X = rng.normal(size=(n_samples, n_features))
        y = (X[:, 0] + rng.normal(size=n_samples) > 0).astype(np.float64)
        yield X, y, rng.exponential(size=n_samples) * (rng.random(n_samples) < 0.8)


# PyTorch's L2 penalty for all but AdamW, and its own decoupled decay where it has it.
DECAYS = [
    *((name, {}, {}) for name in SOLVER_ROWS),
    *((name, {"l2": 0.1}, {"weight_decay": 0.1}) for name in SOLVER_ROWS if name != "adamw"),
    ("adamw", {"weight_decay": 0.1}, {"weight_decay": 0.1}),
    ("nadam", {"weight_decay": 0.1}, {"weight_decay": 0.1, "decoupled_weight_decay": True}),
]


@pytest.fixture
def torch():
    """PyTorch, with float64 everywhere: NAdam keeps its product of momenta in the default dtype."""
    torch = pytest.importorskip("torch", reason="compares with PyTorch's optimizers")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(
    ("name", "decay", "torch_decay"),
    DECAYS,
    ids=["-".join([name, *decay]) for name, decay, _ in DECAYS],
)
def test_twenty_training_steps_equal_pytorchs(torch, name, decay, torch_decay):
    """A network of two hidden layers on mini-batches, from the same weights, in float64."""
    row = SOLVER_ROWS[name]
    network = build_network(
        Architecture(5, hidden_layer_sizes=(6, 4), activation=("tanh", "silu"), dropout=(0.0, 0.0))
    )
    layout = network.layout
    optimizer = make_optimizer(
        row.solver,
        decayed=layout.decayed,
        lr_scales=layout.lr_scales,
        **{"weight_decay": 0.0, **row.arguments, **decay},
    )
    params = network.init_params(RandomStreams.spawn(0, [0]).initialization)
    state, grads = optimizer.init(params), np.empty_like(params)
    passage = network.bind(params, 16, grads=grads)

    theirs = {
        name: torch.tensor(layout.view(params, name)[0].copy(), requires_grad=True)
        for name in layout.entries
    }
    W, b = ({name[6]: t for name, t in theirs.items() if name.endswith(kind)} for kind in "Wb")
    their_optimizer = getattr(torch.optim, row.torch_name)(
        [
            {"params": list(W.values()), **torch_decay},
            {"params": list(b.values()), "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        **row.torch_arguments,
    )

    for X, y, weight in batches():
        logits = passage.forward(X[np.newaxis])
        passage.backward(
            BinaryCrossEntropy().gradient(y[np.newaxis], logits, weight, np.empty_like(logits))
        )
        take_step(optimizer, grads, params, state, LEARNING_RATE)

        hidden = torch.tanh(torch.tensor(X) @ W["1"] + b["1"])
        hidden = torch.nn.functional.silu(hidden @ W["2"] + b["2"])
        cost = torch.nn.functional.binary_cross_entropy_with_logits(
            (hidden @ W["3"] + b["3"])[:, 0], torch.tensor(y), weight=torch.tensor(weight)
        )
        their_optimizer.zero_grad()
        cost.backward()
        their_optimizer.step()
        for parameter, tensor in theirs.items():
            ours = layout.view(params, parameter)[0]
            np.testing.assert_allclose(ours, tensor.detach().numpy(), rtol=0, atol=1e-10)


@rows
def test_optimizer_finds_the_bottom_of_a_bowl(row):
    params, gradient = quadratic(1, 0)
    params = last(descend(build(row), params, gradient, 2000))
    assert np.abs(gradient(params)).max() < 0.05


@rows
@given(seed=seeds)
def test_optimizer_steps_each_member_as_if_it_were_alone(row, seed):
    """To the last bit, with clipping, both kinds of decay, and a learning rate of its own."""
    optimizer = build(row, l2=0.1, weight_decay=0.2, max_grad_norm=0.5)
    params, _ = quadratic(3, seed)
    rates = np.array([[0.1], [0.01], [0.05]])
    together = last(descend(optimizer, params, np.sin, 5, rates))
    for k in range(3):
        alone = last(descend(optimizer, params[[k]], np.sin, 5, rates[[k]]))
        np.testing.assert_array_equal(together[[k]], alone)


@rows
def test_one_learning_rate_for_all_members_is_the_same_as_one_for_each(row):
    params, gradient = quadratic(3, 0)
    optimizer = build(row, weight_decay=0.1)
    of_all = last(descend(optimizer, params, gradient, 5, 0.05))
    of_each = last(descend(optimizer, params, gradient, 5, np.full((3, 1), 0.05)))
    np.testing.assert_array_equal(of_all, of_each)


@rows
def test_optimizer_keeps_float32(row):
    """Parameters and state stay float32, and follow the float64 ones to its accuracy."""
    optimizer = build(row, l2=0.1, weight_decay=0.1, max_grad_norm=1.0)
    exact, _ = quadratic(2, 0)
    params = exact.astype(np.float32)
    state = optimizer.init(params)
    for arrays in state["arrays"].values():
        for name, array in arrays.items():
            assert array.dtype == (np.float64 if name == "momentum_product" else np.float32)
    _, gradient = quadratic(2, 0, np.float32)
    _, exact_gradient = quadratic(2, 0)
    rates = np.full((2, 1), LEARNING_RATE)
    narrow = last(descend(optimizer, params, gradient, 20, rates.astype(np.float32)))
    wide = last(descend(optimizer, exact, exact_gradient, 20, rates))
    assert narrow.dtype == np.float32
    np.testing.assert_allclose(narrow, wide, rtol=0, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("nesterov", [False, True])
@rows
def test_recorded_steps_are_the_same_to_the_bit(row, nesterov, dtype):
    """Taken several at once, as they are one by one: with all that can be recorded."""
    pytest.importorskip("numba", reason="tapes run in a function that numba compiles")
    optimizer = build(
        row,
        l2=0.1,
        weight_decay=0.2,
        nesterov=nesterov,
        lr_scales=[(slice(0, 3), 1.0), (slice(3, N_PARAMS), 0.1)],
    )
    rng, (first, _) = np.random.default_rng(0), quadratic(3, 0, dtype)
    gradients = np.ascontiguousarray(rng.normal(size=(3, 12, N_PARAMS)), dtype)
    rates, grads = rng.uniform(0.01, 0.1, (12, 3, 1)), np.empty_like(first)
    params, scratch = [first.copy(), first.copy()], np.empty_like(first)
    states, numbers = [optimizer.init(first) for _ in params], optimizer.make_numbers(first, 4)
    series = [Series(array, array.strides[0]) for array in numbers]
    recorder = record(load_compiled(dtype), optimizer, series=series)
    assert isinstance(recorder, Recorder)

    def update(gradient, step):
        recorder.copyto(grads, gradient[:, 0])
        of_step = [array[step] for array in numbers]
        optimizer.update(grads, params[1], states[1], of_step, scratch, recorder)

    for done in (range(4), range(4, 8), range(8, 9), range(9, 12)):
        for step in done:
            grads[:] = gradients[:, step]
            take_step(optimizer, grads, params[0], states[0], rates[step])
        part = slice(done.start, done.stop)
        optimizer.begin(states[1], numbers, rates[part])
        recorder.run(update, gradients[:, part], len(done))
        np.testing.assert_array_equal(params[1], params[0])
        np.testing.assert_equal(states[1], states[0])
    assert any(recorder._tapes.values())


def test_clipping_is_not_recorded():
    """It looks at the length of the gradient before it does anything."""
    optimizer = build(SOLVER_ROWS["adam"], max_grad_norm=1.0)
    assert not is_recordable(optimizer)
    xp = load_compiled(np.float32)
    assert record(xp, optimizer) is xp


@rows
def test_optimizer_state_is_plain_data_that_resumes_exactly(row):
    """Ten steps, a pickle, and ten more are twenty steps; a deep copy does as well."""
    optimizer = build(row, l2=0.1, weight_decay=0.1)
    params, gradient = quadratic(2, 0)
    expected = list(descend(optimizer, params, gradient, 20))[-1]
    params = params.copy()
    state = optimizer.init(params)
    for i in range(20):
        if i == 10:
            state = copy.deepcopy(pickle.loads(pickle.dumps(state)))
        take_step(optimizer, gradient(params), params, state, LEARNING_RATE)
    np.testing.assert_array_equal(params, expected)
    assert state["step"] == 20
    for arrays in state["arrays"].values():
        assert all(type(array) is np.ndarray for array in arrays.values())


def test_state_can_continue_with_the_same_solver_only():
    adam, nadam = build(SOLVER_ROWS["adam"]), build(SOLVER_ROWS["nadam"])
    state = adam.init(np.zeros((1, N_PARAMS)))
    assert adam.can_continue(state)
    assert build(SOLVER_ROWS["adam"], epsilon=0.1).can_continue(state)
    assert not nadam.can_continue(state)
    assert not build(SOLVER_ROWS["adam"], weight_decay=0.1).can_continue(state)


def test_gradient_descent_is_one_transform():
    whole = [(slice(0, N_PARAMS), 1.0)]
    assert build(SOLVER_ROWS["gd"]) == Optimizer((ScaleByLearningRate(tuple(whole)),))


def test_solver_is_a_chain_in_a_fixed_order():
    """The penalty joins the gradient before it is clipped; decay comes last."""
    names = {
        solver: [
            type(transform).__name__
            for transform in make_optimizer(
                solver,
                decayed=slice(0, 1),
                lr_scales=[],
                l2=0.1,
                weight_decay=0.1,
                max_grad_norm=1.0,
            ).transforms
        ]
        for solver in ("sgd", "adam")
    }
    first, last = ["AddL2Gradient", "ClipByGlobalNorm"], ["DecayWeights"]
    assert names["sgd"] == [*first, "ScaleByLearningRate", "AccumulateMomentum", *last]
    assert names["adam"] == [*first, "ScaleByAdam", "ScaleByLearningRate", *last]


def test_gradient_descent_ignores_momentum():
    assert build(SOLVER_ROWS["gd"], momentum=0.9) == build(SOLVER_ROWS["gd"], momentum=0.0)


def test_chain_leaves_out_what_is_not_wanted():
    clip = ClipByGlobalNorm(1.0)
    assert chain(None, clip, None).transforms == (clip,)


@given(seed=seeds, max_norm=st.floats(0.01, 10.0))
def test_clipping_shortens_long_gradients_and_leaves_short_ones(seed, max_norm):
    """Each member's whole gradient by itself; the direction stays."""
    gradient = np.random.default_rng(seed).normal(size=(4, N_PARAMS)) * [[0.0], [1e-3], [1], [1e3]]
    clipped = apply(ClipByGlobalNorm(max_norm), gradient)
    for before, after in zip(gradient, clipped, strict=True):
        norm = np.sqrt((before**2).sum())
        if norm <= max_norm:
            np.testing.assert_array_equal(after, before)
        else:
            np.testing.assert_allclose(after, before * max_norm / norm, rtol=1e-12)
            assert np.sqrt((after**2).sum()) == pytest.approx(max_norm, rel=1e-12)


def test_l2_gradient_leaves_biases_alone():
    params = np.arange(1.0, 11.0).reshape(2, 5)
    added = apply(AddL2Gradient(0.5, slice(0, 3)), np.zeros((2, 5)), params)
    np.testing.assert_allclose(added[:, :3], 0.5 * params[:, :3])
    np.testing.assert_array_equal(added[:, 3:], 0.0)


@rows
def test_decoupled_decay_shrinks_weights_and_leaves_biases_alone(row):
    """Without a gradient, weights fall by the factor ``1 - learning_rate * rate`` a step."""
    params = np.arange(1.0, 8.0).reshape(1, N_PARAMS)
    optimizer = build(row, weight_decay=0.5)
    after = last(descend(optimizer, params, np.zeros_like, 3, 0.1))
    np.testing.assert_allclose(after[:, :N_DECAYED], params[:, :N_DECAYED] * 0.95**3)
    np.testing.assert_array_equal(after[:, N_DECAYED:], params[:, N_DECAYED:])


def test_decoupled_decay_of_each_member_follows_its_own_learning_rate():
    params = np.ones((2, 3))
    apply(DecayWeights(0.5, slice(0, 2)), np.zeros((2, 3)), params, np.array([[0.1], [0.2]]))
    np.testing.assert_allclose(params, [[0.95, 0.95, 1.0], [0.9, 0.9, 1.0]])


def test_decoupled_decay_does_not_pass_through_adams_moments():
    """L2 does: Adam divides it by the size of the gradient, and a constant one becomes a step."""
    params = np.ones((1, N_PARAMS))
    decoupled = last(
        descend(build(SOLVER_ROWS["adamw"], weight_decay=0.1), params, np.zeros_like, 1)
    )
    penalised = last(descend(build(SOLVER_ROWS["adamw"], l2=0.1), params, np.zeros_like, 1))
    assert decoupled[0, 0] == pytest.approx(1.0 - LEARNING_RATE * 0.1)
    assert penalised[0, 0] == pytest.approx(1.0 - LEARNING_RATE, rel=1e-6)


@rows
def test_learning_rate_factors_hold_for_their_ranges_of_columns(row):
    """The first step of a range is its factor times what it would be with a factor of one."""
    params, gradient = quadratic(2, 0)
    factors = [(slice(0, 2), 1.0), (slice(2, 5), 0.1), (slice(5, N_PARAMS), 6.0)]
    plain = last(descend(build(row), params, gradient, 1)) - params
    scaled = last(descend(build(row, lr_scales=factors), params, gradient, 1)) - params
    for columns, factor in factors:
        np.testing.assert_allclose(scaled[:, columns], factor * plain[:, columns], rtol=1e-10)


def test_smaller_rate_slows_later_steps_and_not_those_in_the_velocity():
    """Momentum comes after the learning rate, as in MLPClassifier."""
    optimizer = chain(ScaleByLearningRate(((slice(0, 1), 1.0),)), AccumulateMomentum(0.5))
    params = np.zeros((1, 1))
    state = optimizer.init(params)
    take_step(optimizer, np.ones((1, 1)), params, state, 1.0)
    take_step(optimizer, np.ones((1, 1)), params, state, 0.0)
    assert params[0, 0] == -1.5


@rows
def test_update_overwrites_the_gradient_with_the_step_taken(row):
    params, gradient = quadratic(2, 0)
    before, grads = params.copy(), gradient(params)
    optimizer = build(row)
    take_step(optimizer, grads, params, optimizer.init(params), LEARNING_RATE)
    np.testing.assert_array_equal(params, before + grads)


def test_clipping_a_huge_float32_gradient_does_not_lose_it():
    """Its squared length overflows float32."""
    updates = np.full((1, 4), 1e30, np.float32)
    ClipByGlobalNorm(1.0).update(updates, updates, {}, None)
    np.testing.assert_allclose(updates, 0.5, rtol=1e-6)
