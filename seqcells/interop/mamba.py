"""mamba-ssm: the state dict of its language model, such as that of state-spaces/mamba-130m.

Names are those of `MambaLMHeadModel` with Mamba-1 blocks. `lm_head.weight` is the embedding under
another name: `load` does not need it, and `dump` gives both. Values are only reordered, so both
directions are exact.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from seqcells import models
from seqcells._model import Model, known_shapes
from seqcells._types import Params
from seqcells.cells import Mamba, MambaParams
from seqcells.interop import _arrays
from seqcells.interop._arrays import Arrays, Weights
from seqcells.layers import (
    Block,
    BlockParams,
    CausalConvParams,
    DenseParams,
    Embed,
    EmbedParams,
    NormParams,
    Stack,
)

_HEAD, _EMBEDDING = "lm_head.weight", "backbone.embedding.weight"
_NORM, _LAYER = "backbone.norm_f.weight", "backbone.layers.{}.{}"


def load(arrays: Weights, net: Model) -> Params:
    """Convert a state dict to parameters.

    Args:
        arrays: {"backbone.embedding.weight": float[vocab, width], ...}.
        net: `sc.models.mamba(..., vocab=)` of the same sizes.

    Returns:
        Its parameters, in the dtypes of the arrays.

    Raises:
        ValueError: if `net` is no such model, a name, shape or dtype is wrong, or `lm_head.weight`
            is not the embedding.

    >>> import jax, seqcells as sc
    >>> net = sc.models.mamba(layers=2, width=16, vocab=50)  # or "130m", of a published state dict
    >>> state_dict = sc.interop.mamba.dump(net, net.init(jax.random.key(0), ()))
    >>> len(state_dict), len(sc.interop.mamba.load(state_dict, net))
    (23, 4)
    """
    count = _blocks(net)
    zeros = jax.tree.map(lambda a: np.zeros(a.shape, np.float32), known_shapes(net, ()))
    expected = dump(net, zeros)
    given = _arrays.flatten(arrays)
    flat = {_HEAD: given.get(_EMBEDDING, np.zeros(()))} | given
    _arrays.check_names(f"{count} blocks of Mamba in mamba-ssm", flat, expected)
    if not np.array_equal(flat[_HEAD], flat[_EMBEDDING]):
        raise ValueError(f"{_HEAD}: expected {_EMBEDDING} again, got another array")
    names = [name.partition("0.")[2] for name in expected if name.startswith(_LAYER.format(0, ""))]
    ours = {name: jnp.array(array) for name, array in flat.items()}
    blocks = [{name: ours[_LAYER.format(i, name)] for name in names} for i in range(count)]
    return EmbedParams(ours[_EMBEDDING]), *map(_read, blocks), NormParams(ours[_NORM], None)


def dump(net: Model, params: Params) -> Arrays:
    """Convert parameters to a state dict.

    Args:
        net: `sc.models.mamba(..., vocab=)`.
        params: its parameters.

    Returns:
        {name: NumPy array}.

    Raises:
        ValueError: if `net` is no such model, or the parameters are not its own.
    """
    _blocks(net)
    net.check_params(params, ())
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(params)):
        raise TypeError("params: expected arrays, got traced ones; call dump outside of jit")
    embedding, *blocks, norm = jax.tree.map(np.asarray, params)
    arrays = {_EMBEDDING: embedding.w, _HEAD: embedding.w, _NORM: norm.scale}
    for i, block in enumerate(blocks):
        arrays |= {_LAYER.format(i, name): array for name, array in _write(block).items()}
    return {name: np.array(array, order="C") for name, array in arrays.items()}


def _blocks(net: Model) -> int:
    """Return how many blocks a model has, or raise."""
    match net:
        case Stack((Embed() as first, Block(Stack((_, _, Mamba() as cell))), *_)):
            count = len(net.layers) - 2
            if net == models.mamba(
                vocab=first.vocabulary,
                layers=count,
                width=first.size,
                state_size=cell.state_size,
                dtype=first.dtype,
                param_dtype=first.param_dtype,
            ):
                return count
    raise ValueError(f"net: expected sc.models.mamba(..., vocab=), got {net}")


def _read(a: dict[str, jax.Array]) -> BlockParams:
    x, z = jnp.split(a["mixer.in_proj.weight"].T, 2, axis=1)
    unit = MambaParams(
        a["mixer.x_proj.weight"].T,
        a["mixer.dt_proj.weight"].T,
        a["mixer.dt_proj.bias"],
        a["mixer.A_log"],
        a["mixer.D"],
    )
    conv = CausalConvParams(a["mixer.conv1d.weight"][:, 0].T, a["mixer.conv1d.bias"])
    out = DenseParams(a["mixer.out_proj.weight"].T, None)
    cell = (DenseParams(x, None), conv, unit)
    return BlockParams(NormParams(a["norm.weight"], None), cell, DenseParams(z, None), out)


def _write(block: Any) -> Arrays:
    x, conv, unit = block.cell
    return {
        "norm.weight": block.norm.scale,
        "mixer.in_proj.weight": np.concatenate([x.w, block.gate.w], axis=1).T,
        "mixer.conv1d.weight": conv.w.T[:, None],
        "mixer.conv1d.bias": conv.b,
        "mixer.x_proj.weight": unit.w_ih.T,
        "mixer.dt_proj.weight": unit.w_dt.T,
        "mixer.dt_proj.bias": unit.b_dt,
        "mixer.A_log": unit.a_log,
        "mixer.D": unit.d,
        "mixer.out_proj.weight": block.out.w.T,
    }
