"""Names for types that Python cannot express more precisely, mainly pytrees."""

from __future__ import annotations

from typing import Any

import jax

Shape = tuple[int, ...]  # of an array
Shaped = jax.Array | jax.ShapeDtypeStruct  # an array, or its shape and dtype
PyTree = Any  # a pytree of arrays
TreeDef = Any  # the structure of a pytree; `jax.tree_util.PyTreeDef` is a variable to Pyright
Params = PyTree  # RNNParams, GRUParams, ...
Carry = PyTree  # the recurrent memory [*B, ...]
Drive = PyTree  # the result of `project`: the part of a step that needs no carry
Mixed = PyTree  # the result of `mix`: the recurrent product
Inputs = PyTree  # the input of one step [*B, ...], or of all steps [T, *B, ...]
Outputs = PyTree  # y or ys
InputSize = Any  # an int for inputs [*B, D]; else a shape, or a pytree of sizes as the inputs
Json = dict[str, Any]  # a JSON object
