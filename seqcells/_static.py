"""Static values: hashable configuration that passes through `jit` and can be written as JSON."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Mapping
from typing import Any, Self, TypeAlias, TypeVar

import jax
import numpy as np
from jax import export

from seqcells import _calls

JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"
T = TypeVar("T")
FUNCTIONS: dict[str, object] = {}  # functions that a file can name; filled by `initializers`


class Static:
    """A base of frozen dataclasses that hold no array.

    Subclasses are registered with JAX as static values, so they pass through `jit` and `vmap`
    without `static_argnums`, and equal values are traced once.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)
        check = vars(cls).get("__post_init__")
        if check is not None:
            cls.__post_init__ = _after_plain(check)

    def __post_init__(self) -> None:
        """Convert NumPy scalars in the fields to Python's, before the checks of a subclass."""
        _make_plain(self)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if args or kwargs:
            _check_call(cls, args, kwargs)
        return super().__new__(cls)


def _after_plain(check: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(check)
    def checked(self: Any) -> None:
        _make_plain(self)
        check(self)

    return checked


def _make_plain(value: Any) -> None:
    for field in dataclasses.fields(value):
        given = getattr(value, field.name)
        plain = _plain(given)
        if plain is not given:
            object.__setattr__(value, field.name, plain)


def _plain(value: Any) -> Any:
    """Convert NumPy scalars, also in a tuple, to Python's, so that equal values print alike."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) is tuple and any(isinstance(one, np.generic) for one in value):
        return tuple(map(_plain, value))
    return value


def _check_call(kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise a TypeError that says what to write, unless a dataclass has these arguments."""
    if "__dataclass_fields__" not in vars(kind) or "__init__" not in vars(kind):
        return  # it defines its own arguments
    fields = [field for field in dataclasses.fields(kind) if field.init]
    places = [field for field in fields if not field.kw_only]
    if len(args) <= len(places) and kwargs.keys() <= {field.name for field in fields}:
        return
    message = _calls.misfit(kind.__name__, inspect.signature(kind).parameters, args, kwargs)
    if message is not None:
        raise TypeError(message)


class Named(Static):
    """A static value whose class a file can name: a cell, layer, engine or initialiser.

    `jax.export` can serialise programs that take it as an argument.

    Defining a public subclass in this library registers it. Private classes and those of other
    packages are not registered, so a file can never name them.

    Raises:
        TypeError: if another class of this library already has this name.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        library, name = __name__.partition(".")[0], cls.__name__
        if cls.__module__.partition(".")[0] != library or name.startswith("_"):
            return
        known = _NAMED.setdefault(name, cls)
        if known.__module__ != cls.__module__:
            raise TypeError(
                f"{name}: expected a name that no other class of {library} has, got that of "
                f"{known.__module__}.{name} for {cls.__module__}.{name}; rename one of them"
            )
        _NAMED[name] = cls  # its module was reloaded
        with contextlib.suppress(ValueError):  # as above
            export.register_pytree_node_serialization(
                cls,
                serialized_name=f"{library}.{name}",
                serialize_auxdata=lambda value: json.dumps(to_json("value", value)).encode(),
                deserialize_auxdata=lambda data: from_json(json.loads(data)),
                from_children=lambda aux_data, children: aux_data,
            )


def exported(kind: type[T]) -> type[T]:
    """Register a NamedTuple, so that `jax.export` can serialise programs that take or return it."""
    with contextlib.suppress(ValueError):  # its module was reloaded
        export.register_namedtuple_serialization(kind, serialized_name=f"seqcells.{kind.__name__}")
    return kind


_NAMED: dict[str, type[Named]] = {}


def named() -> dict[str, type[Named]]:
    """Return the concrete classes that a file can name, by name."""
    return {name: kind for name, kind in _NAMED.items() if not inspect.isabstract(kind)}


def brief(value: Any) -> str:
    """Return the call that makes a dataclass: its required arguments, and others unless default."""
    arguments = []
    for field in dataclasses.fields(value):
        given = getattr(value, field.name)
        shown = str(given) if isinstance(given, np.dtype) else repr(given)
        if field.default is dataclasses.MISSING:
            arguments.append(shown)
        elif given != field.default:
            arguments.append(f"{field.name}={shown}")
    return f"{type(value).__name__}({', '.join(arguments)})"


def to_json(where: str, value: object) -> JSON:
    """Write a value as JSON: a class as {"class": name, ...}, a function by its name."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, tuple):
        return [to_json(f"{where}[{i}]", part) for i, part in enumerate(value)]
    if isinstance(value, np.dtype):
        return {"dtype": value.name}
    for name, function in FUNCTIONS.items():
        if value is function:
            return {"function": name}
    kind = type(value)
    if dataclasses.is_dataclass(value) and named().get(kind.__name__) is kind:
        fields = {
            field.name: to_json(f"{where}.{field.name}", getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
        return {"class": kind.__name__, **fields}
    raise ValueError(
        f"{where}: expected a class of seqcells, or an initialiser of seqcells.initializers, which "
        f"a file can name, got {value!r}"
    )


def from_json(value: JSON) -> Any:
    """Undo `to_json`; only constructors of the library's own classes are run."""
    if isinstance(value, list):
        return tuple(from_json(part) for part in value)
    if not isinstance(value, dict):
        return value
    if "class" in value:
        fields = {name: from_json(part) for name, part in value.items() if name != "class"}
        return _known(named(), value["class"])(**fields)
    if "function" in value:
        return _known(FUNCTIONS, value["function"])
    return np.dtype(str(value["dtype"]))


def _known(table: Mapping[str, T], name: JSON) -> T:
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"config: expected one of {', '.join(table)}, got {name!r}")
    return table[name]
