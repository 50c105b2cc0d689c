"""Leaves of a tree: fetched to the host, described, and put back as `like` has them."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_NUMBERS = (bool, int, float, complex)


class Leaf(NamedTuple):
    """What a leaf is, without its values."""

    path: str
    dtype: str  # "none" where the tree has None
    shape: tuple[int, ...]

    def __str__(self) -> str:
        """As an error message shows it: params.w float32[2, 3]."""
        return f"{self.path or 'the tree'} {self.dtype}{list(self.shape)}"


def flatten(tree: Any) -> list[tuple[str, Any]]:
    """Every leaf with its path; None is one."""
    rows = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda leaf: leaf is None)
    return [(jax.tree_util.keystr(path, simple=True, separator="."), leaf) for path, leaf in rows]


def unflatten(like: Any, leaves: list[Any]) -> Any:
    """Build the tree that `like` is from leaves in the order of `flatten`."""
    structure = jax.tree.structure(like, is_leaf=lambda leaf: leaf is None)
    return jax.tree.unflatten(structure, leaves)


def describe(path: str, leaf: Any) -> Leaf:
    """Say what a leaf is; raise where it is nothing that a checkpoint can hold."""
    if leaf is None:
        return Leaf(path, "none", ())
    array = np.asarray(leaf) if isinstance(leaf, _NUMBERS) else leaf
    dtype = getattr(array, "dtype", None)
    if not is_key(array) and not (dtype is not None and _is_plain(dtype)):
        came = f"{dtype}" if dtype is not None else f"{leaf!r:.80}"
        raise TypeError(f"{path}: expected an array of numbers, a number or None, got {came}")
    return Leaf(path, str(dtype), tuple(array.shape))


def _is_plain(dtype: Any) -> bool:
    """Whether a dtype is one of JAX's numbers."""
    return dtype.isnative and (jnp.issubdtype(dtype, np.number) or jnp.issubdtype(dtype, np.bool_))


def is_key(leaf: Any) -> bool:
    """Whether a leaf holds typed random keys."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def stored(leaf: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of the numbers that stand for a leaf."""
    if is_key(leaf):
        return jax.eval_shape(jax.random.key_data, leaf)
    leaf = np.asarray(leaf) if isinstance(leaf, _NUMBERS) else leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)


def fetch_all(tree: Any) -> tuple[list[dict[str, Any]], list[np.ndarray | None]]:
    """Say of every leaf what a manifest says of it, and fetch it to the host."""
    said, hosts = [], []
    for path, leaf in flatten(tree):
        one = {**describe(path, leaf)._asdict(), "key": None, "sha256": None}
        host = None
        if leaf is not None:
            host = _fetch(path, leaf)
            one["key"] = str(jax.random.key_impl(leaf)) if is_key(leaf) else None
            one["sha256"] = sha256(host)
        said.append(one)
        hosts.append(host)
    return said, hosts


def _fetch(path: str, leaf: Any) -> np.ndarray:
    """Fetch a leaf to the host: Orbax then need not know how it is sharded."""
    leaf = jax.random.key_data(leaf) if is_key(leaf) else leaf
    if isinstance(leaf, jax.Array) and not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        raise ValueError(
            f"{path}: expected an array that this process holds whole, got one that is split over "
            "processes; gather it, or let every process save its own part in its own folder"
        )
    return np.asarray(leaf, order="C")


def place(host: np.ndarray, like: Any, key: str | None) -> Any:
    """Make of a host array what `like` is: a number, a NumPy array, or an array sharded as it."""
    if isinstance(like, _NUMBERS):
        return type(like)(host.item())
    if isinstance(like, (np.ndarray, np.generic)):
        return host if isinstance(like, np.ndarray) else host[()]
    sharding = getattr(like, "sharding", None)
    if isinstance(like, jax.Array) and not like.committed:
        sharding = None  # it may go wherever it is needed
    with jax.enable_x64(True):  # float64 stays float64
        if key is not None:
            keys = jax.random.wrap_key_data(jnp.array(host), impl=key)
            return keys if sharding is None else jax.device_put(keys, sharding)
        if sharding is None:
            return jnp.array(host)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def sha256(host: np.ndarray) -> str:
    """SHA-256 of an array's bytes, in the order of C."""
    return hashlib.sha256(host.reshape(-1).view(np.uint8).data).hexdigest()
