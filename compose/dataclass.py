"""The standard library's `dataclass`, in a thirtieth of the time: methods are made when needed.

The standard one compiles six methods for each class as soon as its module is imported, half a
millisecond a class: for the classes of an `up`, more than half of its time. Most of them are never
made an instance of. Here a class gets its fields, slots and defaults at once. The methods come from
the standard library too, at the first call of any of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool = False, slots: bool = False, eq: bool = True) -> Any:
        def decorate(cls: type) -> type:
            written = set(cls.__dict__)
            # Without a text of its own it would be given its signature: as slow as two methods.
            cls.__doc__ = cls.__doc__ or f"{cls.__name__}."
            cls = dataclasses.dataclass(cls, init=False, repr=False, eq=False, slots=slots)
            names = ["__init__", "__repr__", *(["__eq__"] if eq else [])]
            names += ["__hash__"] if eq and frozen else []
            names += ["__getstate__", "__setstate__"] if slots and frozen else []
            names = [name for name in names if name not in written]
            for name in names:
                setattr(cls, name, _making_all(cls, name, names, frozen=frozen, slots=slots))
            if eq and not frozen and "__hash__" not in written:
                cls.__hash__ = None
            if frozen:
                cls.__setattr__ = cls.__delattr__ = _refuse
            return cls

        return decorate


def _making_all(cls: type, name: str, names: list[str], **options: bool) -> Callable[..., object]:
    def method(self: object, *arguments: object, **named: object) -> object:
        _make(cls, names, options)
        return getattr(cls, name)(self, *arguments, **named)

    return method


def _make(cls: type, names: list[str], options: Mapping[str, bool]) -> None:
    """Take the methods of a class with the same fields that the standard library has made whole."""
    fields = dataclasses.fields(cls)
    body: dict[str, object] = {
        "__annotations__": {field.name: field.type for field in fields},
        **{field.name: field for field in fields},
        **{key: getattr(cls, key) for key in _KEPT if hasattr(cls, key)},
    }
    bare: type = type(cls.__name__, (), body)
    twin: type = dataclasses.dataclass(**options)(bare)
    for name in names:
        setattr(cls, name, getattr(twin, name))


_KEPT = ("__doc__", "__module__", "__qualname__", "__post_init__")


def _refuse(self: object, name: str, value: object = None) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot change {name!r} of a {type(self).__name__}")
