"""What is recorded computes the same numbers as what it was recorded from, to the last bit."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds, shapes_MNI
from tables import LAYER_ROWS, nan_grads, random_arrays

from skdnn import _tape
from skdnn._loading import load_compiled
from skdnn._network import Network
from skdnn._passes import NUMPY, PASSES
from skdnn._random import RandomWords
from skdnn._tape import Recorder, Series, WatchedWords, is_recordable, record
from skdnn.activations import BuiltinActivation, Mish, ReLU
from skdnn.layers import Activation, Dense, LayerNorm, Residual
from skdnn.layers.base import backward_through, forward_through
from skdnn.losses import BinaryCrossEntropy, FocalLoss
from skdnn.training.random_streams import RandomStreams

pytest.importorskip("numba", reason="tapes run in a function that numba compiles")

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
RECORDABLE = {
    name: row
    for name, row in LAYER_ROWS.items()
    if all(is_recordable(node.layer) for node in Network((row.make_layer(3),), 3).all_nodes)
}


class ForthAndBack:
    """A layer in training, alone in a network of its own."""

    def __init__(self, layer, params, cotangent, n_in, xp, weight=None):
        network = Network((layer,), n_in, len(params))
        words = RandomWords(RandomStreams.spawn(0, range(len(params))).dropout)
        self.xp, self.cotangent, self.grads = xp, cotangent, nan_grads(network, params.dtype)
        self.grad_y = np.empty_like(cotangent)
        self.params, self.weight = params.copy(), weight
        self.whole = network.bind(
            self.params,
            cotangent.shape[1],
            grads=self.grads,
            training=True,
            need_grad_x=True,
            words=WatchedWords(words, xp) if isinstance(xp, Recorder) else words,
            xp=xp,
        )

    def compute(self, x, step=0):
        self.xp.copyto(self.grad_y, self.cotangent)
        self.whole._batch.sample_weight = self.weight
        self.y = forward_through(self.whole._steps, x)
        self.grad_x = backward_through(self.whole._steps, self.grad_y, need_grad_x=True)
        return self.grad_x


def is_recorded(recorder):
    return any(tape is not None for tape in recorder._tapes.values())


def make_recorder(dtype=np.float32):
    return Recorder(load_compiled(dtype))


@dtypes
@pytest.mark.parametrize("row", RECORDABLE.values(), ids=RECORDABLE)
@given(shape=shapes_MNI, n_weights=st.integers(0, 2), seed=seeds)
def test_recorded_layer_is_the_same_to_the_bit(row, dtype, shape, n_weights, seed):
    """On batches that lie anywhere, with new weights and random numbers for each, and parameters.

    Weights are of all members, of each, or none; some batches have none for a member.
    """
    arrays = random_arrays(row, *shape, seed)
    x, params, cotangent = (array.astype(dtype) for array in arrays)
    layer, recorder = row.make_layer(shape[2]), make_recorder(dtype)
    rng = np.random.default_rng(seed)
    weight = np.empty(((1, shape[0])[n_weights - 1], shape[1]), dtype) if n_weights else None
    plain = ForthAndBack(layer, params, cotangent, shape[2], NUMPY, weight)
    recorded = ForthAndBack(layer, params, cotangent, shape[2], recorder, weight)
    for batch in range(5):
        x = row.make_x(rng, shape).astype(dtype)
        if weight is not None:
            weight[:] = rng.exponential(size=weight.shape) * rng.integers(0, 2, (len(weight), 1))
        with np.errstate(invalid="ignore"):  # as in training; BLAS raises the flag now and then
            plain.compute(x)
            grad_x = recorder.run(recorded.compute, x)
        assert np.isfinite(plain.y).all()
        np.testing.assert_array_equal(recorded.y, plain.y)
        np.testing.assert_array_equal(grad_x, plain.grad_x)
        np.testing.assert_array_equal(recorded.grads, plain.grads)
        np.testing.assert_array_equal(recorded.params, plain.params)
        assert is_recorded(recorder) == (batch > 0)
        noise = 0.1 * rng.normal(size=plain.grads.shape)
        for side in (plain, recorded):
            side.params[:, : noise.shape[1]] += noise


def test_most_of_the_table_is_recordable():
    """Those that are not say why in their code: they make arrays, or call other libraries."""
    others = {name for name in LAYER_ROWS if name not in RECORDABLE}
    assert others == {"activation_mish", "activation_custom"}


def test_layer_within_a_layer_decides_too():
    recordable, other = (
        record(load_compiled(np.float32), Network((Residual((layer,)), Dense(1)), 2))
        for layer in (LayerNorm(), Activation(Mish()))
    )
    assert isinstance(recordable, Recorder)
    assert other is load_compiled(np.float32)


def test_what_inherits_is_not_taken_for_recordable():
    """It may compute around the array module, which nobody would see."""

    class Own(ReLU):
        def value_into(self, z, out, work, xp):
            out[...] = np.abs(z)
            return out

    assert is_recordable(Activation(ReLU()))
    assert not is_recordable(Own())
    assert not is_recordable(Activation(Own()))
    assert isinstance(Own(), BuiltinActivation)


def test_each_call_has_a_number_of_its_own():
    kinds = load_compiled(np.float32).call_kinds
    assert len(set(kinds)) == len(kinds)
    assert set(kinds) - {"ufunc", "give_words"} < set(PASSES)


def test_losses_say_whether_they_are_recordable():
    assert is_recordable(BinaryCrossEntropy())
    assert not is_recordable(FocalLoss(2.0))


def double_into(out, recorder):
    return lambda x, step: recorder.multiply(x, 2.0, out=out)


def test_second_run_is_recorded_and_later_ones_do_without_python():
    recorder, out, n_calls = make_recorder(), np.empty(3, np.float32), []

    def compute(x, step):
        n_calls.append(1)
        return recorder.multiply(x, 2.0, out=out)

    for i in range(6):
        x = np.arange(i, i + 3, dtype=np.float32)
        assert recorder.run(compute, x) is out
        np.testing.assert_array_equal(out, 2.0 * x)
    assert len(n_calls) == 2


@pytest.mark.parametrize("n_members", [1, 3])
@pytest.mark.parametrize("lengths", [(5, 2, 5, 1, 3), (1, 5, 3), (1, 1, 4)])
def test_steps_run_one_after_the_other(lengths, n_members):
    """Each with its batch and its part of each series, and with what the one before has left."""
    rng = np.random.default_rng(0)
    out, total = np.empty((n_members, 5 * 4)), np.zeros((n_members, 4))
    shares, numbers = np.empty((n_members, 5 * 4)), np.empty((5, n_members, 1))
    series = [Series(out, 4 * 8), Series(shares, 4 * 8), Series(numbers, n_members * 8)]
    recorder = Recorder(load_compiled(np.float64), series)

    def compute(x, step):
        columns = slice(4 * step, 4 * step + 4)
        recorder.multiply(total, numbers[step], out=total)
        recorder.add(total, x[:, :, 0], out=total)
        recorder.multiply(total, shares[:, columns], out=out[:, columns])

    expected = total.copy()
    for n_steps in lengths:
        table = rng.normal(size=(n_members, 30, 2))
        x = table[:, 7 : 7 + 4 * n_steps]
        shares[:], numbers[:] = rng.normal(size=shares.shape), rng.normal(size=numbers.shape)
        recorder.run(compute, x, n_steps)
        for step in range(n_steps):
            columns = slice(4 * step, 4 * step + 4)
            expected = expected * numbers[step] + x[:, columns, 0]
            np.testing.assert_array_equal(out[:, columns], expected * shares[:, columns])
    assert is_recorded(recorder)


def test_words_on_a_tape_are_those_that_are_drawn():
    """Whether ahead or anew, given or discarded; the streams come out the same."""
    xp, sizes = load_compiled(np.float32), (20_000, 5_000, 12_000)
    plain, recorded = (
        RandomWords([np.random.default_rng(member) for member in range(3)], xp) for _ in range(2)
    )
    recorder, x = make_recorder(), np.zeros((1, 1, 1), np.float32)
    watched, out = WatchedWords(recorded, recorder), [np.empty((3, n), np.float32) for n in sizes]

    def compute(x, step):
        for mask in out:
            recorder.mask_from_words(watched.draw(mask.shape[1]), 20_000, 2.0, mask)

    for batch in range(8):
        if batch == 5:
            plain.discard()
            recorded.discard()
        recorder.run(compute, x)
        for mask in out:
            np.testing.assert_array_equal(mask, 2.0 * (plain.draw(mask.shape[1]) >= 20_000))
        assert is_recorded(recorder) == (batch > 0)
    for ours, theirs in zip(recorded.rngs, plain.rngs, strict=True):
        assert ours.bit_generator.state == theirs.bit_generator.state


def test_each_form_of_the_input_has_a_tape():
    """What differs in place only shares one."""
    recorder, out = make_recorder(), np.empty((4, 3), np.float32)
    table = np.arange(80, dtype=np.float32).reshape(8, 10)
    for _ in range(3):
        for x in (table[:4, :3], table[4:, 5:8], table[::2, 1:4], table[4:, 9:6:-1]):
            recorder.run(double_into(out, recorder), x)
            np.testing.assert_array_equal(out, 2.0 * x)
    assert len(recorder._tapes) == 3
    assert all(tape is not None for tape in recorder._tapes.values())


def test_few_forms_are_recorded(monkeypatch):
    monkeypatch.setattr(_tape, "MOST_TAPES", 2)
    recorder, out = make_recorder(), np.empty((2, 3), np.float32)
    wide = np.arange(60, dtype=np.float32).reshape(2, 30)
    for _ in range(3):
        for step in (1, 2, 3, 4):
            x = wide[:, : 3 * step : step]
            np.testing.assert_array_equal(recorder.run(double_into(out, recorder), x), 2.0 * x)
    assert len(recorder._tapes) == 2


@pytest.mark.parametrize(
    "compute",
    [
        lambda xp, x, out: np.copyto(out, xp.stack([x, x])[0]),
        lambda xp, x, out: xp.greater(x, 0.5, out=out),
        lambda xp, x, out: xp.copyto(out, x.astype(np.float64)),
        lambda xp, x, out: xp.add_bias(out[np.newaxis, ::2, ::2], x[np.newaxis, :1, ::2]),
        lambda xp, x, out: xp.add_bias(out.astype(np.float64)[np.newaxis], np.ones((1, 1, 6))),
        lambda xp, x, out: xp.draw_words((), np.empty((0, 2), np.uint64)),
    ],
    ids=[
        "function without out",
        "conversion",
        "another dtype",
        "matrix with gaps",
        "matrix of another dtype",
        "pass that has no number",
    ],
)
def test_what_cannot_be_recorded_is_computed_as_it_is(compute):
    recorder, out, expected = make_recorder(), *np.zeros((2, 4, 6), np.float32)
    for seed in range(5):
        x = np.random.default_rng(seed).normal(size=(4, 6)).astype(np.float32)
        compute(NUMPY, x, expected)

        def run(x, step):
            compute(recorder, x, out)
            return out

        np.testing.assert_array_equal(recorder.run(run, x), expected)
    assert not is_recorded(recorder)


def test_recording_that_is_interrupted_is_given_up():
    recorder, out = make_recorder(), np.empty(3, np.float32)
    x = np.arange(3, dtype=np.float32)

    def interrupted(x, step):
        recorder.multiply(x, 2.0, out=out)
        raise KeyboardInterrupt

    recorder.run(double_into(out, recorder), x)
    with pytest.raises(KeyboardInterrupt):
        recorder.run(interrupted, x)
    for factor in range(4):
        recorder.run(double_into(out, recorder), x + factor)
        np.testing.assert_array_equal(out, 2.0 * (x + factor))


def test_tape_does_not_keep_the_table():
    recorder, out = make_recorder(), np.empty((2, 3), np.float32)
    table = np.ones((1000, 3), np.float32)
    alive = weakref.ref(table)
    for start in (0, 4, 8):
        recorder.run(double_into(out, recorder), table[start : start + 2])
    assert is_recorded(recorder)
    del table
    gc.collect(1)
    assert alive() is None


def test_tape_keeps_what_it_computes_in():
    recorder = make_recorder()
    scratch, out = np.empty(3, np.float32), np.empty(3, np.float32)

    def compute(x, step):
        recorder.add(x, 1.0, out=scratch)
        return recorder.exp(scratch, out=out)

    for seed in range(4):
        x = np.random.default_rng(seed).normal(size=3).astype(np.float32)
        np.testing.assert_array_equal(recorder.run(compute, x), np.exp(x + 1.0))
        if seed == 1:
            alive = weakref.ref(scratch)
            del scratch
            compute = None
            gc.collect(1)
    assert alive() is not None
