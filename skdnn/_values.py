"""Frozen dataclasses that cost little to define, as they must in a package with sixty of them.

And values that are computed once.

`dataclass` writes the text of six methods for each class and compiles it, at every import. But only
the fields differ from class to class: methods that go by them can be shared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from inspect import Parameter, Signature
from typing import Any, Generic, TypeVar, dataclass_transform

T = TypeVar("T")


class cached(Generic[T]):  # noqa: N801 - it stands where functions are decorated
    """Make a method a value that is computed once for each object, when it is first asked for.

    As `functools.cached_property` does, but without the lock that this has before Python 3.12, one
    for all objects: in a process that is forked while another thread has it, it stays locked.
    """

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> T:
        if instance is None:
            return self  # type: ignore[return-value]  # for `help` and the like
        # Threads that compute it at once are all given the first one's.
        return vars(instance).setdefault(self._compute.__name__, self._compute(instance))


@dataclass_transform(frozen_default=True)
def frozen(cls: type[T]) -> type[T]:
    """Make a dataclass whose values never change, as ``dataclass(frozen=True)`` does.

    Fields may have a default value, and none of the other options of `dataclasses.field`. What
    inherits from such a class and has fields of its own must be `frozen` too.
    """
    cls = dataclass(init=False, repr=False, eq=False)(cls)
    for name, method in {"__init__": _make_init(cls), **SHARED_METHODS}.items():
        if name not in vars(cls):
            setattr(cls, name, method)
    return cls


def _make_init(cls: Any) -> Callable[..., None]:
    """Return the method that gives each field its value."""
    defaults = {field.name: field.default for field in fields(cls) if field.default is not MISSING}
    parameters = {
        field.name: Parameter(
            field.name,
            Parameter.POSITIONAL_OR_KEYWORD,
            default=defaults.get(field.name, Parameter.empty),
            annotation=field.type,
        )
        for field in fields(cls)
    }
    own = Parameter("self", Parameter.POSITIONAL_OR_KEYWORD)
    signature = Signature([own, *parameters.values()], return_annotation=None)

    def init(self: Any, /, *args: Any, **kwargs: Any) -> None:
        given = dict(zip(parameters, args, strict=False)) | kwargs
        values = defaults | given
        if values.keys() != parameters.keys() or len(given) != len(args) + len(kwargs):
            signature.bind(self, *args, **kwargs)  # says what is wrong
        vars(self).update(values)
        if hasattr(self, "__post_init__"):
            self.__post_init__()

    init.__signature__ = signature  # type: ignore[attr-defined]  # for `help` and the like
    return init


def _refuse_to_set(self: Any, name: str, value: Any) -> None:
    raise FrozenInstanceError(f"{name!r} cannot be set; use dataclasses.replace to get a copy.")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"{name!r} cannot be deleted; use dataclasses.replace to get a copy.")


def _show(self: Any) -> str:
    values = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))
    return f"{type(self).__qualname__}({values})"


def _equals(self: Any, other: object) -> bool:
    return _values(self) == _values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(_values(self))


def _values(self: Any) -> tuple[Any, ...]:
    return tuple(getattr(self, field.name) for field in fields(self))


SHARED_METHODS = {
    "__setattr__": _refuse_to_set,
    "__delattr__": _refuse_to_delete,
    "__repr__": _show,
    "__eq__": _equals,
    "__hash__": _hash,
}
