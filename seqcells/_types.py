"""Names for types that Python cannot say more precisely."""

from __future__ import annotations

from typing import Any

Shape = tuple[int, ...]  # of an array
PyTree = Any  # a pytree of arrays
TreeDef = Any  # the structure of a pytree; `jax.tree_util.PyTreeDef` is a variable to Pyright
Json = dict[str, Any]  # what JSON can hold, by name
