"""The standard library's `dataclass`, in a tenth of the time: methods are made when needed.

The standard one compiles six methods for each class as soon as its module is imported, half a
millisecond a class: for the classes of an `up`, more than half of its time. Most of them are never
made an instance of, still fewer compared or printed. Here a class gets its fields, slots and
defaults at once, and each method when it is first called.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(
        *, frozen: bool = False, slots: bool = False, eq: bool = True, order: bool = False
    ) -> Any:
        options = {"frozen": frozen, "slots": slots, "eq": eq, "order": order}

        def decorate(cls: type) -> type:
            written = set(cls.__dict__)
            # Without a text of its own it would be given its signature: as slow as two methods.
            cls.__doc__ = cls.__doc__ or f"{cls.__name__}."
            cls = dataclasses.dataclass(cls, init=False, repr=False, eq=False, slots=slots)
            for name in _methods(**options):
                if name not in written:
                    setattr(cls, name, _made_when_called(cls, name, options))
            if eq and not frozen and "__hash__" not in written:
                cls.__hash__ = None
            if frozen:
                cls.__setattr__ = cls.__delattr__ = _refuse
            return cls

        return decorate


def _methods(*, frozen: bool, slots: bool, eq: bool, order: bool) -> list[str]:
    names = ["__init__", "__repr__"]
    names += ["__eq__"] if eq else []
    names += ["__hash__"] if eq and frozen else []
    names += ["__lt__", "__le__", "__gt__", "__ge__"] if order else []
    return names + (["__getstate__", "__setstate__"] if slots and frozen else [])


def _made_when_called(cls: type, name: str, options: Mapping[str, bool]) -> Callable[..., object]:
    def method(self: object, *arguments: object, **named: object) -> object:
        if name == "__init__":
            made = _make_init(cls, is_guarded=options["frozen"])
        else:
            made = _standard(cls, name, options)
        setattr(cls, name, made)
        return made(self, *arguments, **named)

    return method


def _make_init(cls: type, *, is_guarded: bool) -> Callable[..., object]:
    """All instances go through it, so it is compiled, as the standard library's is.

    A frozen class refuses each assignment, and to go around it costs a third of a microsecond a
    field: a new instance belongs to an open twin, of the same slots, until it has all of them.
    """
    given: list[str] = ["self"]
    named: list[str] = []
    scope: dict[str, Any] = {"__missing": MISSING}
    lines: list[str] = []
    if is_guarded:
        scope |= {"__set": object.__setattr__, "__open": _open_twin(cls)}
        lines += [" __shut = self.__class__", " __set(self, '__class__', __open)"]
    for field in dataclasses.fields(cls):
        name = value = field.name
        if field.default is not MISSING:
            scope[f"_default_{name}"] = field.default
            default = f"=_default_{name}"
        elif field.default_factory is not MISSING:
            scope[f"_make_{name}"] = field.default_factory
            default = "=__missing"
            value = f"_make_{name}() if {name} is __missing else {name}"
        else:
            default = ""
        if field.init:
            (named if field.kw_only else given).append(name + default)
        elif default:
            value = f"_default_{name}" if field.default is not MISSING else f"_make_{name}()"
        else:
            continue
        lines.append(f" self.{name} = {value}")
    if is_guarded:
        lines.append(" self.__class__ = __shut")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    parameters = ", ".join([*given, *(["*", *named] if named else [])])
    exec("\n".join([f"def __init__({parameters}):", *lines, " return"]), scope)
    init: Callable[..., object] = scope["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    return init


def _open_twin(cls: type) -> type:
    methods = {"__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    slots = {"__slots__": cls.__dict__["__slots__"]} if "__slots__" in cls.__dict__ else {}
    return type(cls.__name__, cls.__bases__, {**methods, **slots})


def _standard(cls: type, name: str, options: Mapping[str, bool]) -> Callable[..., object]:
    """The method that the standard library makes for a class with the same fields."""
    fields = dataclasses.fields(cls)
    body: dict[str, object] = {
        "__annotations__": {field.name: field.type for field in fields},
        "__doc__": cls.__doc__,
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        **{field.name: field for field in fields},
    }
    bare: type = type(cls.__name__, (), body)
    twin: type = dataclasses.dataclass(init=False, **options)(bare)
    made: Callable[..., object] = getattr(twin, name)
    return made


def _refuse(self: object, name: str, value: object = None) -> NoReturn:
    raise dataclasses.FrozenInstanceError(f"cannot change {name!r} of a {type(self).__name__}")
