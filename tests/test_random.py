"""One seed, many streams: none moves another, and each member has its own."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import seeds

from skdnn._random import DRAWN_AT_ONCE, RandomWords
from skdnn.training.random_streams import RandomStreams

PURPOSES = ["initialization", "shuffling", "dropout"]


def draws(streams):
    """Return the next three numbers of every stream, by purpose and place."""
    numbers = {
        (purpose, place): tuple(rng.random(3))
        for purpose in PURPOSES
        for place, rng in enumerate(getattr(streams, purpose))
    }
    return {**numbers, ("split", 0): tuple(streams.split.random(3))}


def test_list_of_purposes_is_complete():
    assert set(vars(RandomStreams.spawn(0, [0]))) == {*PURPOSES, "split"}


@given(seed=seeds, n_members=st.integers(1, 5))
def test_streams_all_differ(seed, n_members):
    numbers = draws(RandomStreams.spawn(seed, range(n_members)))
    assert len(set(numbers.values())) == len(numbers) == 3 * n_members + 1


@given(seed=seeds)
def test_streams_repeat_themselves_with_the_same_seed(seed):
    assert draws(RandomStreams.spawn(seed, range(3))) == draws(RandomStreams.spawn(seed, range(3)))


@given(seed=seeds)
def test_streams_of_different_seeds_differ(seed):
    one = draws(RandomStreams.spawn(seed, range(2)))
    other = draws(RandomStreams.spawn(seed + 1, range(2)))
    assert not set(one.values()) & set(other.values())


@given(seed=seeds, members=st.lists(st.integers(0, 20), min_size=1, max_size=5, unique=True))
def test_member_draws_in_company_what_it_draws_alone(seed, members):
    together = draws(RandomStreams.spawn(seed, members))
    for place, member in enumerate(members):
        alone = draws(RandomStreams.spawn(seed, [member]))
        for purpose in PURPOSES:
            assert together[purpose, place] == alone[purpose, 0]
        assert together["split", 0] == alone["split", 0]


@pytest.mark.parametrize("purpose", [*PURPOSES, "split"])
def test_drawing_more_in_one_stream_moves_no_other(purpose):
    untouched, used = RandomStreams.spawn(7, range(2)), RandomStreams.spawn(7, range(2))
    drawn = getattr(used, purpose)
    (drawn if purpose == "split" else drawn[0]).normal(size=1000)
    expected, actual = draws(untouched), draws(used)
    changed = [key for key in expected if expected[key] != actual[key]]
    assert changed == [(purpose, 0)]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda s: pickle.loads(pickle.dumps(s))])
def test_streams_go_on_exactly_after_a_copy(duplicate):
    streams = RandomStreams.spawn(0, range(2))
    draws(streams)
    assert draws(duplicate(streams)) == draws(streams)


def test_streams_leave_numpys_global_state_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not move
    draws(RandomStreams.spawn(0, range(2)))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def make_words(n_members=3):
    return RandomWords([np.random.default_rng(member) for member in range(n_members)])


def test_words_have_all_values_alike():
    words = make_words(16).draw(DRAWN_AT_ONCE)
    assert (words.dtype, words.shape) == (np.uint16, (16, DRAWN_AT_ONCE))
    for shift in range(0, 16, 4):
        counts = np.bincount((words.ravel() >> shift) & 15, minlength=16)
        np.testing.assert_allclose(counts, words.size / 16, rtol=5 * np.sqrt(15 / words.size))


def test_words_are_given_once():
    words = make_words()
    drawn = np.hstack([words.draw(size).copy() for size in (1000, 7, DRAWN_AT_ONCE - 1007)])
    np.testing.assert_array_equal(drawn, make_words().draw(DRAWN_AT_ONCE))
    assert (words.draw(1000) == drawn[:, :1000]).mean() < 0.01


def test_words_of_a_member_are_those_that_it_has_among_others():
    alone = RandomWords([np.random.default_rng(2)])
    np.testing.assert_array_equal(make_words().draw(5)[2], alone.draw(5)[0])


def test_words_that_are_discarded_leave_what_the_streams_say():
    rngs = [np.random.default_rng(0)]
    words = RandomWords(rngs)
    words.draw(10)
    words.discard()
    expected = RandomWords(copy.deepcopy(rngs)).draw(10)
    np.testing.assert_array_equal(words.draw(10), expected)
