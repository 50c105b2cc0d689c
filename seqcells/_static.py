"""Static values: what configures a program, and passes through it like any argument."""

from __future__ import annotations

import contextlib
import inspect
from typing import TypeVar

import jax
from jax import export

T = TypeVar("T")


class Static:
    """A base of frozen dataclasses that hold no array.

    Subclasses are registered with JAX as static values, so they pass through `jit` and `vmap` with
    no `static_argnums`, and two equal ones are traced once.
    """

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)


class Named(Static):
    """A static value whose class a file can name: a cell, layer, engine or initialiser.

    Defining a public subclass in this library records it, so that no list has to be kept. Private
    classes and those of other packages are not recorded, so a file can never name them.

    Raises:
        TypeError: where another class of this library has the name of the one being defined.
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


def exported(kind: type[T]) -> type[T]:
    """Register a NamedTuple, so that `jax.export` serialises programs that take or return it."""
    with contextlib.suppress(ValueError):  # its module was reloaded
        export.register_namedtuple_serialization(kind, serialized_name=f"seqcells.{kind.__name__}")
    return kind


_NAMED: dict[str, type[Named]] = {}


def named() -> dict[str, type[Named]]:
    """Return the concrete classes that a file can name, by name."""
    return {name: kind for name, kind in _NAMED.items() if not inspect.isabstract(kind)}
