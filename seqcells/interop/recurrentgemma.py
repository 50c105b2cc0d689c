"""recurrentgemma: the RG-LRU of its modules for PyTorch and for Flax.

Arrays are those of one `RGLRU` module, by name: a_param, a_gate.w, a_gate.b, input_gate.w and
input_gate.b, flat as PyTorch's `state_dict` of the module has them, or nested as Flax has them. Its
num_heads is `heads` here. Values are only reordered, so both directions are exact. `dump` gives the
flat dictionary; `flax.traverse_util.unflatten_dict(arrays, sep=".")` nests it.

recurrentgemma resets where segment_pos is 0, also at the first position of a sequence, and writes
more there. Pass `resets=segment_pos == 0` to `unroll` for the same outputs.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from seqcells._model import Model, check_fit
from seqcells.cells import RGLRU, RGLRUParams
from seqcells.interop import _arrays
from seqcells.interop._arrays import Arrays, Weights

_GATES = ("a_gate", "input_gate")  # in the order r|i


def load(arrays: Weights, cell: Model) -> RGLRUParams:
    """Convert the arrays of an RGLRU module to ours.

    Args:
        arrays: {"a_param": float[H], "a_gate.w": float[heads, H/heads, H/heads], ...}.
        cell: an `RGLRU`.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if `cell` is no `RGLRU`, or a name, shape or dtype is wrong.
    """
    cell = _rglru(cell)
    flat = {name.replace("/", "."): a for name, a in _arrays.flatten(arrays).items()}
    size, width = cell.hidden_size, cell.hidden_size // cell.heads
    blocks = np.zeros((cell.heads, width, width))
    expected = {"a_param": np.zeros(size)}
    for gate in _GATES:
        expected |= {f"{gate}.w": blocks, f"{gate}.b": blocks[..., 0]}
    _arrays.check(f"{cell} in recurrentgemma", flat, expected)
    w = [jnp.moveaxis(jnp.asarray(flat[f"{gate}.w"]), 0, 1).reshape(width, size) for gate in _GATES]
    b = [jnp.asarray(flat[f"{gate}.b"]).reshape(size) for gate in _GATES]
    return RGLRUParams(jnp.concatenate(w, 1), jnp.concatenate(b), jnp.array(flat["a_param"]))


def dump(cell: Model, params: RGLRUParams) -> Arrays:
    """Convert parameters to those of an RGLRU module.

    Args:
        cell: an `RGLRU`.
        params: its parameters.

    Returns:
        {name: NumPy array}, names joined by dots.

    Raises:
        ValueError: if `cell` is no `RGLRU`, or the parameters are not its own.
    """
    cell = _rglru(cell)
    check_fit(cell, params, cell.hidden_size)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(params)):
        raise TypeError("params: expected arrays, got traced ones; call dump outside of jit")
    host = jax.tree.map(np.asarray, params)
    arrays = {"a_param": np.array(host.a_param)}
    for gate, w, b in zip(_GATES, np.split(host.w_ih, 2, 1), np.split(host.b, 2), strict=True):
        blocks = np.moveaxis(w.reshape(len(w), cell.heads, len(w)), 1, 0)
        arrays[f"{gate}.w"] = np.array(blocks, order="C")
        arrays[f"{gate}.b"] = np.array(b.reshape(cell.heads, len(w)))
    return arrays


def _rglru(cell: Model) -> RGLRU:
    if type(cell) is not RGLRU:
        raise ValueError(f"cell: expected a cell that recurrentgemma has (RGLRU), got {cell}")
    return cell
