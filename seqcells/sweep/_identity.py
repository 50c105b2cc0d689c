"""The identity of a static value: its content as text, equal in every process.

Two values have the same text only if they are the same configuration, so a value whose content
cannot be read (a closure, an object without fields) is rejected.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import hashlib
import json
import re
import sys
import types
import uuid
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqcells._static import named

Scalar = bool | int | float | str | None
_SCALARS = (bool, int, float, str, type(None))  # exactly these types, not their subclasses
_WORD = re.compile(r"(?!(?:None|True|False|nan|inf)\Z)[A-Za-z_][\w.-]*\Z", re.ASCII)


_SHOWN_WHOLE = (  # by their repr
    *(slice, types.EllipsisType, decimal.Decimal, fractions.Fraction, uuid.UUID),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta),
)
_PUBLIC = ("jax.nn", "jax.numpy", "jax.lax")
_SHORT = {id(f): f.__name__ for f in (jax.nn.initializers.zeros, jax.nn.initializers.ones)}


class UnknownContentError(TypeError):
    """The content of a value, or of a part of it, cannot be read."""


def canonical(value: Any) -> Scalar:
    """Return the identity of a value: itself if JSON can hold it, else its content as text.

    Raises:
        UnknownContentError: the content cannot be read, for instance that of a closure.
    """
    value = plain(value)
    return value if type(value) in _SCALARS else _text(value)


def bound(function: object) -> str | None:
    """Return the content of a partial, a method or a dataclass; None for other values."""
    holds = isinstance(function, (functools.partial, types.MethodType))
    if not (holds or dataclasses.is_dataclass(function)):
        return None
    try:
        return _text(function)
    except UnknownContentError:
        return None


def plain(value: Any) -> Any:
    """Return the Python number or string of a NumPy scalar, and any other value itself."""
    is_scalar = isinstance(value, np.generic) and not isinstance(value, np.void)
    return value.item() if is_scalar and value.dtype.kind not in "mM" else value  # no dates


def digest(configuration: Mapping[str, object]) -> str:
    """Return 12 hexadecimal digits of a hash of a configuration with canonical values."""
    return digest_of(json.dumps(configuration, sort_keys=True))


def digest_of(text: str) -> str:
    """Return the digest of a configuration that is already written as JSON with sorted names."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def marked(value: object) -> Scalar | dict[str, str]:
    """Return a value as a digest reads it; strings that look like a content are marked."""
    known = canonical(value)
    is_string = isinstance(plain(value), str)
    return {"string": str(known)} if is_string and str(known).endswith(")") else known


def _text(value: Any) -> str:
    """Return the content of a value; different values have different texts."""
    for kinds, content in _CONTENTS:
        if isinstance(value, kinds):
            return content(value)
    if isinstance(value, type) or (callable(value) and not dataclasses.is_dataclass(value)):
        return _named(value)
    if dataclasses.is_dataclass(value):
        return _dataclass(value)
    raise UnknownContentError(_shown(value))


def _scalar(value: Any) -> str:
    value = plain(value)
    if type(value) in _SCALARS and not isinstance(value, str):
        return str(value)
    if type(value) is str:
        bare = _WORD.match(value) and value not in _SHORT.values()
        return value if bare else json.dumps(value)
    if type(value) in (bytes, complex):
        return f"{type(value).__name__}({value!r})"
    raise UnknownContentError(_shown(value))  # a subclass of a number, a string or bytes


def _sequence(value: tuple[object, ...] | list[object]) -> str:
    inner = ", ".join(map(_text, value))
    if type(value) in (tuple, list):
        return f"({inner})"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return f"{_name_of(type(value))}({inner})"
    raise UnknownContentError(_shown(value))


def _mapping(value: dict[object, object]) -> str:
    if type(value) is not dict:
        raise UnknownContentError(_shown(value))
    return f"dict({', '.join(sorted(f'{_text(k)}: {_text(v)}' for k, v in value.items()))})"


def _dataclass(value: Any) -> str:
    """Return fields and other attributes that were set, except cached properties."""
    kind = type(value)
    names = [field.name for field in dataclasses.fields(value)]
    cached = (functools.cached_property, property)
    names += sorted(
        name
        for name in getattr(value, "__dict__", {})
        if name not in names and not isinstance(getattr(kind, name, None), cached)
    )
    inner = ", ".join(f"{name}={_text(getattr(value, name))}" for name in names)
    return f"{_name_of(kind)}({inner})"


def _array(value: np.ndarray | jax.Array) -> str:
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
        raise UnknownContentError(_shown(value))  # such as a masked array, whose mask is elsewhere
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"key({jax.random.key_impl(value)}, {_array(jax.random.key_data(value))})"
    host = np.asarray(value, order="C")
    if host.dtype.hasobject:
        raise UnknownContentError("an array of objects")
    host = host.astype(host.dtype.newbyteorder("<"))
    sha = hashlib.sha256(host.tobytes()).hexdigest()
    return f"array({_dtype(host.dtype)}, {list(host.shape)}, {sha})"


def _whole(value: Any) -> str:
    if type(value) not in _SHOWN_WHOLE:
        raise UnknownContentError(_shown(value))
    return f"value({value!r})"


def _dtype(value: np.dtype) -> str:
    simple = value.isnative and value.names is None
    text: object = str(value) if simple else value.descr
    return f"dtype({text!r})"


def _method(value: types.MethodType | types.BuiltinMethodType) -> str:
    if value.__self__ is None or isinstance(value.__self__, types.ModuleType):
        return _named(value)
    return f"method({value.__name__}, {_text(value.__self__)})"


def _partial(value: functools.partial[object]) -> str:
    parts = [_text(part) for part in (value.func, *value.args)]
    parts += [f"{_text(name)}={_text(part)}" for name, part in sorted(value.keywords.items())]
    return f"partial({', '.join(parts)})"


def _named(value: Any) -> str:
    """Return the name by which every process finds a function or a class."""
    if isinstance(value, type) and issubclass(value, np.generic):
        with contextlib.suppress(TypeError):  # np.floating is not a dtype
            return _dtype(np.dtype(value))
    if type(value) is type(jnp.float32):
        return _dtype(np.dtype(value))
    return _SHORT.get(id(value)) or f"name({_name_of(value)})"


def _name_of(value: Any) -> str:
    """Return module and name, or only the name if it is unique in this library.

    Public modules come first, because private ones change from version to version.
    """
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", "")
    if named().get(name) is value:
        return name
    module = getattr(value, "__module__", None) or ("numpy" * isinstance(value, np.ufunc))
    for place in (*_PUBLIC, module.partition(".")[0], module):
        try:
            if functools.reduce(getattr, name.split("."), sys.modules[place]) is value:
                return f"{place}.{name}"
        except (KeyError, AttributeError):
            pass
    raise UnknownContentError(_shown(value))


def _shown(value: object) -> str:
    text = getattr(value, "__qualname__", None) or repr(value)
    return f"{type(value).__name__} {text}"[:80]


_CONTENTS: tuple[tuple[type | tuple[type, ...], Callable[[Any], str]], ...] = (
    (enum.Enum, lambda value: f"enum({_name_of(type(value))}.{value.name or value.value!r})"),
    ((*_SCALARS, bytes, complex, np.generic), _scalar),
    ((tuple, list), _sequence),
    (dict, _mapping),
    ((set, frozenset), lambda value: f"set({', '.join(sorted(map(_text, value)))})"),
    ((np.ndarray, jax.Array), _array),
    (np.dtype, _dtype),
    (range, lambda value: f"range({value.start}, {value.stop}, {value.step})"),
    (_SHOWN_WHOLE, _whole),
    (PurePath, lambda value: f"path({json.dumps(str(value))})"),
    ((types.MethodType, types.BuiltinMethodType), _method),
    (functools.partial, _partial),
)
