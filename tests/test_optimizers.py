"""Solvers and their parts against their formulas and PyTorch; schedules where they are known.

What they have in common with all formulas is in `test_parts`.
"""

import math
from collections.abc import Iterator

import numpy as np
import pytest
from data import classifier, make_table
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds
from tables import (
    N_DECAYED,
    N_PARAMS,
    SCHEDULE_ROWS,
    SOLVER_ROWS,
    build_optimizer,
    classes_defined_in,
    draw_first,
    make_context,
    make_layout,
)

from skdnn.nn import Activation, BinaryCrossEntropy, Dense, Network
from skdnn.nn.activations import SiLU, Tanh
from skdnn.optim import schedules
from skdnn.optim.schedules import (
    SCHEDULES,
    Constant,
    Cosine,
    CosLog4,
    OneCycle,
    OwnSchedule,
    make_schedule,
)
from skdnn.optim.solvers import (
    AccumulateMomentum,
    AddL2Gradient,
    ClipByGlobalNorm,
    DecayWeights,
    Optimizer,
    ScaleByAdam,
    ScaleByLearningRate,
)

rows = pytest.mark.parametrize("row", SOLVER_ROWS.values(), ids=SOLVER_ROWS)
LEARNING_RATE = 0.05


def quadratic(seed, dtype=np.float64):
    """Return first parameters, and the gradient of a bowl around a random point."""
    rng = np.random.default_rng(seed)
    curvature, centre = rng.exponential(size=N_PARAMS), rng.normal(size=N_PARAMS)
    params = rng.normal(size=N_PARAMS).astype(dtype)
    return params, lambda params: (curvature * (params - centre)).astype(dtype)


def descend(optimizer, params, gradient, n_steps, learning_rate=LEARNING_RATE) -> Iterator:
    """Take steps; yield the parameters after each one."""
    state, rates = optimizer.init(params), np.broadcast_to(learning_rate, n_steps)
    scalars = optimizer.prepare(np.arange(1, n_steps + 1), rates)
    for i in range(n_steps):
        of_step = {name: values[i].astype(params.dtype) for name, values in scalars.items()}
        params, state = optimizer.update(gradient(params), params, state, of_step)
        yield params


def last(steps):
    """Return the parameters after the last step."""
    *_, params = steps
    return params


def update(transform, u, params=None, learning_rate=LEARNING_RATE):
    """Return what one transform makes of an update in the first step."""
    u = np.array(u)
    params, optimizer = np.zeros_like(u) if params is None else params, Optimizer((transform,))
    scalars = optimizer.prepare(np.array([1]), np.array([learning_rate]))
    of_step = {name: values[0] for name, values in scalars.items()}
    return optimizer.update(u, params, optimizer.init(params), of_step)[0] - params


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


@pytest.mark.parametrize("name", SOLVER_ROWS)
@given(seed=seeds)
def test_twenty_steps_follow_the_formula(name, seed):
    params, gradient = quadratic(seed)
    expected, memories = params.copy(), [{} for _ in params]
    steps = descend(build_optimizer(SOLVER_ROWS[name]), params, gradient, 20)
    for t, actual in enumerate(steps, start=1):
        g = gradient(expected)
        for i, memory in enumerate(memories):
            expected[i] += NAIVE[name](float(g[i]), memory, t, LEARNING_RATE)
        np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


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
    row, rng = SOLVER_ROWS[name], np.random.default_rng(1)
    network = Network((Dense(6), Activation(Tanh()), Dense(4), Activation(SiLU()), Dense(1)), 5)
    layout, layers = network.layout, network.of_member(0)
    optimizer = build_optimizer(row, layout, **decay)
    [params] = draw_first(network)
    theirs = {
        name: torch.tensor(layout.view(params[np.newaxis], name)[0].copy(), requires_grad=True)
        for name in layout.specs
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
    batches = []
    for _ in range(20):
        X = rng.normal(size=(16, 5))
        y = (X[:, 0] + rng.normal(size=16) > 0).astype(np.float64)
        batches.append((X, y, rng.exponential(size=16) * (rng.random(16) < 0.8)))
    remaining = iter(batches)

    def gradient(params):
        X, y, weight = next(remaining)
        p, ctx = layout.unflatten(params, params[:0]), make_context(True, weight)
        grad_logits = BinaryCrossEntropy().gradient(y, layers.forward(X, p, ctx)[:, 0], weight)
        return layout.flatten(layers.backward(grad_logits[:, np.newaxis], X, p, ctx)[1])

    for (X, y, weight), ours in zip(batches, descend(optimizer, params, gradient, 20), strict=True):
        hidden = torch.tanh(torch.tensor(X) @ W["1"] + b["1"])
        hidden = torch.nn.functional.silu(hidden @ W["2"] + b["2"])
        cost = torch.nn.functional.binary_cross_entropy_with_logits(
            (hidden @ W["3"] + b["3"])[:, 0], torch.tensor(y), weight=torch.tensor(weight)
        )
        their_optimizer.zero_grad()
        cost.backward()
        their_optimizer.step()
        for parameter, tensor in theirs.items():
            own = layout.view(ours[np.newaxis], parameter)[0]
            np.testing.assert_allclose(own, tensor.detach().numpy(), rtol=0, atol=1e-10)


def test_gradient_descent_is_one_transform():
    whole = Optimizer((ScaleByLearningRate(((N_PARAMS, 1.0),)),))
    assert build_optimizer(SOLVER_ROWS["gd"]) == whole
    assert build_optimizer(SOLVER_ROWS["gd"], momentum=0.9) == whole


def test_solver_is_a_chain_in_a_fixed_order():
    """The penalty joins the gradient before it is clipped; decay comes last."""
    first, last_ = ["AddL2Gradient", "ClipByGlobalNorm"], ["DecayWeights"]
    between = {
        "nesterov": ["ScaleByLearningRate", "AccumulateMomentum"],
        "adam": ["ScaleByAdam", "ScaleByLearningRate"],
    }
    for name, expected in between.items():
        optimizer = build_optimizer(SOLVER_ROWS[name], l2=0.1, weight_decay=0.1, max_grad_norm=1.0)
        names = [type(transform).__name__ for transform in optimizer.transforms]
        assert names == [*first, *expected, *last_]


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0, 1e3])
@given(seed=seeds, max_norm=st.floats(0.01, 10.0))
def test_clipping_shortens_long_gradients_and_leaves_short_ones(scale, seed, max_norm):
    """The whole gradient at once; the direction stays."""
    gradient = scale * np.random.default_rng(seed).normal(size=N_PARAMS)
    clipped = update(ClipByGlobalNorm(max_norm), gradient)
    norm = np.sqrt((gradient**2).sum())
    if norm <= max_norm:
        np.testing.assert_array_equal(clipped, gradient)
    else:
        np.testing.assert_allclose(clipped, gradient * max_norm / norm, rtol=1e-12)
        assert np.sqrt((clipped**2).sum()) == pytest.approx(max_norm, rel=1e-12)


def test_transforms_of_an_optimizer_have_names_that_differ():
    twice = Optimizer((AccumulateMomentum(0.9), AccumulateMomentum(0.5)))
    with pytest.raises(ValueError, match=r"names that differ, got \['velocity'\] twice"):
        twice.init(np.zeros(N_PARAMS))
    twice = Optimizer((ScaleByAdam(0.9, 0.999, 1e-8), ScaleByAdam(0.5, 0.999, 1e-8)))
    with pytest.raises(ValueError, match=r"names that differ, got \['epsilon', 'scale'\] twice"):
        twice.prepare(np.array([1]), np.array([0.1]))


@given(seed=seeds, l2=st.floats(1e-6, 10.0))
def test_l2_gradient_is_the_derivative_of_the_penalty_of_weights(seed, l2):
    """``l2 / 2 |w|^2``, without biases."""
    params = np.random.default_rng(seed).normal(size=9)
    added = update(AddL2Gradient(l2, 6), np.zeros(9), params)
    for i in range(9):
        moved = params + 1e-30j * (np.arange(9) == i)
        penalty = 0.5 * l2 * (moved[:6] ** 2).sum()
        assert added[i] == pytest.approx(penalty.imag / 1e-30, rel=1e-12, abs=1e-15)


@rows
def test_decoupled_decay_shrinks_weights_and_leaves_biases_alone(row):
    """Without a gradient, weights fall by the factor ``1 - learning_rate * rate`` a step."""
    params = np.arange(1.0, 8.0)
    optimizer = build_optimizer(row, weight_decay=0.5)
    after = last(descend(optimizer, params, np.zeros_like, 3, 0.1))
    np.testing.assert_allclose(after[:N_DECAYED], params[:N_DECAYED] * 0.95**3)
    np.testing.assert_array_equal(after[N_DECAYED:], params[N_DECAYED:])


def test_decoupled_decay_does_not_pass_through_adams_moments():
    """L2 does: Adam divides it by the size of the gradient, and a constant one becomes a step."""
    params = np.ones(N_PARAMS)
    decoupled, penalised = (
        last(descend(build_optimizer(SOLVER_ROWS["adamw"], **decay), params, np.zeros_like, 1))
        for decay in ({"weight_decay": 0.1}, {"l2": 0.1})
    )
    assert decoupled[0] == pytest.approx(1.0 - LEARNING_RATE * 0.1)
    assert penalised[0] == pytest.approx(1.0 - LEARNING_RATE, rel=1e-6)
    shrunk = update(DecayWeights(0.5, 2), np.zeros(3), np.ones(3), 0.1)
    np.testing.assert_allclose(shrunk, [-0.05, -0.05, 0.0], rtol=1e-12)


@rows
def test_learning_rate_factors_hold_for_their_ranges(row):
    """The first step of a range is its factor times what it would be with a factor of one."""
    (params, gradient), sizes, factors = quadratic(0), (2, 3, 2), (1.0, 0.1, 6.0)
    scaled, plain = (
        last(descend(build_optimizer(row, layout), params, gradient, 1)) - params
        for layout in (make_layout(*zip(sizes, factors, strict=True)), None)
    )
    np.testing.assert_allclose(scaled, np.repeat(factors, sizes) * plain, rtol=1e-9)


def test_smaller_rate_slows_later_steps_and_not_those_in_the_velocity():
    """Momentum comes after the learning rate, as in MLPClassifier."""
    optimizer = Optimizer((ScaleByLearningRate(((1, 1.0),)), AccumulateMomentum(0.5)))
    params = last(descend(optimizer, np.zeros(1), np.ones_like, 2, np.array([1.0, 0.0])))
    assert params[0] == -1.5


# Schedules.

names = pytest.mark.parametrize("name", SCHEDULE_ROWS)


def curve(schedule, total):
    """Return the multiplier at every step of a fit."""
    return np.array([schedule(done, total) for done in range(total)])


def test_table_names_every_schedule():
    assert set(SCHEDULE_ROWS) == set(SCHEDULES)
    made = {type(make_schedule(name)) for name in SCHEDULES}
    own, protocol = OwnSchedule, schedules.Schedule
    assert made == classes_defined_in(schedules, "__call__") - {own, protocol}


def test_function_of_ones_own_is_a_schedule_by_steps():
    schedule = make_schedule(lambda done, total: 1 - done / total)
    assert (schedule.counts, schedule.needs_horizon) == ("steps", True)
    np.testing.assert_allclose(curve(schedule, 4), [1.0, 0.75, 0.5, 0.25])
    model = classifier((4,), learning_rate=lambda done, total: 1 / (1 + done), batch_size=40)
    model.set_params(max_iter=2).fit(*make_table())
    np.testing.assert_allclose(model.history_["learning_rate"], [0.01 / 3, 0.01 / 6], rtol=1e-6)


@names
def test_schedule_says_what_it_counts_and_whether_it_needs_the_end(name):
    schedule = make_schedule(name)
    assert (schedule.counts, schedule.needs_horizon) == SCHEDULE_ROWS[name]


@names
@given(st.data(), st.integers(1, 30) | st.integers(1, 10**6))
def test_schedule_stays_between_zero_and_one(name, data, total):
    multiplier = make_schedule(name)(data.draw(st.integers(0, total - 1)), total)
    assert type(multiplier) is float
    assert 0.0 <= multiplier <= 1.0


@names
@pytest.mark.parametrize("total", [100, 1000])
def test_schedule_spends_most_of_the_fit_learning(name, total):
    """The largest multiplier is 1 to within a step; no fit is spent at a rate of zero."""
    multipliers = curve(make_schedule(name), total)
    assert multipliers.max() > 1.0 - 20.0 / total
    assert (multipliers > 0.0).mean() >= 1.0 - 2.0 / total


@pytest.mark.parametrize("name", ["constant", "adaptive"])
def test_constant_and_adaptive_leave_the_rate_alone(name):
    assert make_schedule(name) == Constant()
    assert set(curve(Constant(), 50)) == {1.0}


@given(done=st.integers(0, 10**7), power=st.floats(0.0, 2.0))
def test_invscaling_divides_by_a_power_of_the_samples_seen(done, power):
    multiplier = make_schedule("invscaling", power)(done, 1)
    assert multiplier == pytest.approx(1.0 / (done + 1) ** power, rel=1e-12)


def test_cosine_rises_linearly_and_falls_to_zero():
    multipliers = curve(Cosine(warmup=0.1), 1000)
    warm, cool = multipliers[:100], multipliers[100:]
    np.testing.assert_allclose(np.diff(warm), np.diff(warm)[0], rtol=1e-9)
    assert warm[0] == pytest.approx(1 / 101)
    assert cool[0] == 1.0
    assert (np.diff(cool) < 0).all()
    assert Cosine(warmup=0.1)(1000, 1000) == pytest.approx(0.0, abs=1e-15)
    assert Cosine(warmup=0.0)(0, 10) == 1.0


def test_cosine_follows_half_a_cosine_after_the_warm_up():
    schedule = Cosine(warmup=0.2)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        done = round(1000 * (0.2 + 0.8 * share))
        assert schedule(done, 1000) == pytest.approx((1 + math.cos(math.pi * share)) / 2, abs=1e-12)


def test_one_cycle_rises_to_one_and_falls_to_almost_nothing():
    multipliers = curve(OneCycle(), 1000)
    assert multipliers[0] == pytest.approx(1 / 25)
    assert multipliers[299] == 1.0
    assert multipliers[-1] == pytest.approx(4e-6)
    assert (np.diff(multipliers[:300]) > 0).all()
    assert (np.diff(multipliers[299:]) < 0).all()


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")
@pytest.mark.parametrize("total", [4, 10, 37, 1000])
def test_one_cycle_equals_pytorchs(torch, total):
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=total, cycle_momentum=False
    )
    expected = []
    for step in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        if step < total - 1:
            scheduler.step()
    np.testing.assert_allclose(curve(OneCycle(), total), expected, rtol=1e-10)


def test_coslog4_is_zero_where_its_four_cycles_meet():
    """At t = 0, 1/15, 1/5, 7/15 and 1; and at 1 in the middle of each, on the logarithmic scale."""
    total = 15 * 10**6
    for cycle in range(5):
        done = (2**cycle - 1) * total // 15
        assert CosLog4()(done, total) == pytest.approx(0.0, abs=1e-12)
    for cycle in range(4):
        done = round((2 ** (cycle + 0.5) - 1) * total / 15)
        assert CosLog4()(done, total) == pytest.approx(1.0, abs=1e-10)
    rises = np.diff(curve(CosLog4(), 3000)) > 0
    assert rises[0]
    assert np.count_nonzero(rises[1:] != rises[:-1]) == 7


@names
def test_schedule_is_what_training_follows(name):
    """The history has the multiplier of the last step of each epoch, times the first rate."""
    settings = {"learning_rate": name, "batch_size": 40, "max_iter": 4, "power_t": 0.3}
    model = classifier((4,), **settings).fit(*make_table())
    counts, _ = SCHEDULE_ROWS[name]
    at = [2, 5, 8, 11] if counts == "steps" else [0, 120, 240, 360]
    expected = [0.01 * make_schedule(name, 0.3)(done, 12) for done in at]
    np.testing.assert_allclose(model.history_["learning_rate"], expected, rtol=1e-6)
