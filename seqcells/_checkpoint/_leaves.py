"""Leaves of a tree: fetched to the host, described, and placed like `like`."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seqcells._types import Json, PyTree

Value = Any  # a leaf: an array, a `jax.ShapeDtypeStruct`, a number or None
_NUMBERS = (bool, int, float, complex)


class Leaf(NamedTuple):
    """The path, dtype and shape of a leaf."""

    path: str
    dtype: str  # "none" for None
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """Return the text of error messages: params.w float32[2, 3]."""
        return f"{self.path or 'the tree'} {self.dtype}{list(self.shape)}"


def flatten(tree: PyTree) -> list[tuple[str, Value]]:
    """Return every leaf with its path; None is a leaf."""
    rows = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: leaf is None)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in rows]


def unflatten(like: PyTree, leaves: list[Value]) -> PyTree:
    """Build a tree with the structure of `like` from leaves in the order of `flatten`."""
    structure = jax.tree.structure(like, is_leaf=lambda leaf: leaf is None)
    return jax.tree.unflatten(structure, leaves)


def describe(path: str, leaf: Value) -> Leaf:
    """Describe a leaf; raise if a checkpoint cannot hold it."""
    if leaf is None:
        return Leaf(path, "none", ())
    array = np.asarray(leaf) if isinstance(leaf, _NUMBERS) else leaf
    dtype = getattr(array, "dtype", None)
    if not is_key(array) and not (dtype is not None and _is_plain(dtype)):
        got = f"{dtype}" if dtype is not None else f"{leaf!r:.80}"
        raise TypeError(f"{path}: expected an array of numbers, a number or None, got {got}")
    return Leaf(path, str(dtype), tuple(array.shape))


def _is_plain(dtype: np.dtype) -> bool:
    """Whether a dtype is one of JAX's numeric dtypes."""
    return dtype.isnative and (jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_))


def is_key(leaf: Value) -> bool:
    """Whether a leaf holds typed random keys."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def stored(leaf: Value) -> jax.ShapeDtypeStruct:
    """Return shape and dtype of the array that is stored for a leaf."""
    if is_key(leaf):
        return jax.eval_shape(jax.random.key_data, leaf)
    leaf = np.asarray(leaf) if isinstance(leaf, _NUMBERS) else leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def fetch_all(tree: PyTree) -> tuple[list[Json], list[np.ndarray | None]]:
    """Return the manifest's entry of every leaf, and its values on the host."""
    entries, hosts = [], []
    for path, leaf in flatten(tree):
        entry = {**describe(path, leaf)._asdict(), "key": None, "sha256": None}
        host = None
        if leaf is not None:
            host = _fetch(path, leaf)
            entry["key"] = str(jax.random.key_impl(leaf)) if is_key(leaf) else None
            entry["sha256"] = sha256(host)
        entries.append(entry)
        hosts.append(host)
    return entries, hosts


def _fetch(path: str, leaf: Value) -> np.ndarray:
    """Fetch a leaf to the host, so that Orbax does not depend on its sharding."""
    leaf = jax.random.key_data(leaf) if is_key(leaf) else leaf
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        raise ValueError(
            f"{path}: expected an array that is completely in this process, got one that is "
            "sharded over processes; gather it, or let every process save its part in its folder"
        )
    return np.asarray(leaf, order="C")


def place(host: np.ndarray, like: Value, key: str | None) -> Value:
    """Convert a host array to the type of `like`: a number, a NumPy array, or a sharded array."""
    if isinstance(like, _NUMBERS):
        return type(like)(host.item())
    if isinstance(like, (np.ndarray, np.generic)):
        return host if isinstance(like, np.ndarray) else host[()]
    sharding = getattr(like, "sharding", None)
    if isinstance(like, jax.Array) and not like.committed:
        sharding = None  # JAX may move an uncommitted array
    with jax.enable_x64(True):  # float64 stays float64
        if key is not None:
            keys = jax.random.wrap_key_data(jnp.array(host), impl=key)
            return keys if sharding is None else jax.device_put(keys, sharding)
        if sharding is None:
            return jnp.array(host)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def sha256(host: np.ndarray) -> str:
    """Return the SHA-256 of an array's bytes, in C order."""
    return hashlib.sha256(host.reshape(-1).view(np.uint8).data).hexdigest()
