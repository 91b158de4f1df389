"""Frozen values: all that `dataclass(frozen=True)` gives, without its cost."""

import copy
import inspect
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, asdict, dataclass, fields, is_dataclass, replace
from typing import ClassVar

import pytest

from skdnn._values import cached, frozen


@frozen
class Point:
    x: float
    y: float = 2.0
    unit: ClassVar[str] = "m"


@dataclass(frozen=True)
class Reference:
    x: float
    y: float = 2.0
    unit: ClassVar[str] = "m"


@frozen
class Even:
    number: int

    def __post_init__(self):
        if self.number % 2:
            raise ValueError("odd")

    def __repr__(self):
        return f"even {self.number}"


@pytest.mark.parametrize("kind", [Point, Reference])
class TestAsDataclass:
    def test_values_are_given_by_place_name_and_default(self, kind):
        for point in (kind(1.0), kind(1.0, 2.0), kind(y=2.0, x=1.0)):
            assert (point.x, point.y, point.unit) == (1.0, 2.0, "m")

    @pytest.mark.parametrize(
        ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"x": 1}), ((1,), {"z": 1})]
    )
    def test_wrong_arguments_are_refused(self, kind, args, kwargs):
        with pytest.raises(TypeError):
            kind(*args, **kwargs)

    def test_nothing_can_be_set_or_deleted(self, kind):
        point = kind(1.0)
        for name in ("x", "y", "z"):
            with pytest.raises(FrozenInstanceError, match=repr(name)):
                setattr(point, name, 3.0)
        with pytest.raises(FrozenInstanceError, match="'x'"):
            del point.x
        assert point == kind(1.0)

    def test_equality_is_that_of_class_and_values(self, kind):
        assert kind(1.0) == kind(1.0, 2.0)
        assert kind(1.0) != kind(1.5)
        assert kind(1.0) != (1.0, 2.0)
        assert len({kind(1.0), kind(1.0, 2.0), kind(1.5)}) == 2

    def test_dataclasses_functions_work(self, kind):
        assert is_dataclass(kind)
        assert [field.name for field in fields(kind)] == ["x", "y"]
        assert replace(kind(1.0), y=5.0) == kind(1.0, 5.0)
        assert asdict(kind(1.0)) == {"x": 1.0, "y": 2.0}

    def test_text_and_signature_name_the_fields(self, kind):
        assert repr(kind(1.0)) == f"{kind.__name__}(x=1.0, y=2.0)"
        assert list(inspect.signature(kind).parameters) == ["x", "y"]
        assert str(inspect.signature(kind)) == str(inspect.signature(Reference))

    def test_copies_are_equal(self, kind):
        point = kind(1.0)
        for other in (copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
            assert other == point

    def test_a_pattern_takes_the_values_apart(self, kind):
        match kind(1.0):
            case kind(x, y):
                assert (x, y) == (1.0, 2.0)


def test_values_are_checked_after_they_are_set():
    assert Even(2).number == 2
    with pytest.raises(ValueError, match="odd"):
        Even(3)
    with pytest.raises(ValueError, match="odd"):
        replace(Even(2), number=3)


def test_methods_of_the_class_itself_stay():
    assert repr(Even(2)) == "even 2"


def test_classes_of_equal_values_differ():
    @frozen
    class Other:
        x: float
        y: float = 2.0

    assert Point(1.0) != Other(1.0)


class Slow:
    def __init__(self, wait=lambda: None):
        self.wait, self.n_computed = wait, 0

    @cached
    def value(self):
        """A value."""
        self.n_computed += 1
        self.wait()
        return object()


def test_cached_value_is_computed_once_and_is_no_part_of_the_class():
    slow = Slow()
    assert slow.value is slow.value
    assert slow.n_computed == 1
    assert Slow().value is not slow.value
    assert Slow.value.__doc__ == "A value."


def test_threads_that_compute_a_value_at_once_wait_for_nobody_and_are_given_the_same():
    """Nor do those that compute that of another object, in a forked process too."""
    barrier = threading.Barrier(2, timeout=10.0)
    slow = Slow(barrier.wait)
    with ThreadPoolExecutor(2) as executor:
        first, second = executor.map(lambda _: slow.value, range(2))
    assert first is second is slow.value
    assert slow.n_computed == 2
