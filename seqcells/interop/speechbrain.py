"""speechbrain: its LiGRU, `speechbrain.nnet.RNN.LiGRU`, with the batch norm folded in.

A cell is a `LiGRU_Layer` (w.weight), or a `LiGRU` of one layer (rnn.0.w.weight); a layer is a
`LiGRU` of one or more layers, in one or two directions. speechbrain's z keeps the old value, so the
signs of its weights change; its matrices are [out, in], with the candidate first. Both directions
of a bidirectional layer have the same weights there.

speechbrain normalises W x over the batch. With the running mean and variance that it uses after
training, this scales W and adds a bias, so a `LiGRU` with other weights computes the same, up to
rounding. The fold cannot be undone, so there is no `dump`. The other normalisations cannot be
folded: "layernorm" lacks running_mean, and `SLiGRU`, which lacks drop_masks, normalises U h too.
A state_dict does not contain `nonlinearity`: set the cell's activation to match, relu or tanh.
"""

from __future__ import annotations

from collections.abc import Mapping

from jax.core import Tracer

from seqcells._cell import Cell
from seqcells._model import Model
from seqcells._types import Params
from seqcells.cells import LiGRU
from seqcells.interop import _form
from seqcells.interop._arrays import Arrays, Weights
from seqcells.interop._form import Form, Names
from seqcells.interop._gates import TANH_OR_RELU, Table, slots
from seqcells.interop._walk import Leaf, Rules

_LIGRU = Table(
    "speechbrain.nnet.RNN.LiGRU",
    slots({"w.weight": "w_ih", "u.weight": "w_hh"}, {"norm.bias": "b"}, "nz"),
    needs=(TANH_OR_RELU,),
    negated="z",
    transposed=True,
)
_EPS = 1e-5  # of torch.nn.BatchNorm1d, which speechbrain leaves as it is
_NORM = ("norm.weight", "norm.running_mean", "norm.running_var")
_BUFFERS = ("drop_masks", "drop_mask_te", "h_init")


def load(state_dict: Weights, model: Model) -> Params:
    """Convert a module's `state_dict` to parameters; the batch norm is folded into w_ih and b.

    Args:
        state_dict: {name: array}, the whole of it, such as "w.weight": float[2H, D]; tensors on the
            CPU work too.
        model: a `LiGRU`, `Recurrent`, `Bidirectional` or a `Stack` of equal ones.

    Returns:
        Its parameters, in the dtype of the arrays.

    Raises:
        ValueError: if no weights make the two equal, or a name, shape or dtype is wrong.

    >>> import numpy as np, seqcells as sc
    >>> rng, unit = np.random.default_rng(0), np.ones(8, "f")
    >>> state_dict = {
    ...     "w.weight": rng.normal(size=(8, 3)).astype("f"),
    ...     "u.weight": rng.normal(size=(8, 4)).astype("f"),
    ...     "norm.weight": unit, "norm.bias": 0 * unit,
    ...     "norm.running_mean": 0 * unit, "norm.running_var": 4 * unit,
    ...     "drop_masks": np.ones((16000, 4), "f"),
    ... }
    >>> params = sc.interop.speechbrain.load(state_dict, sc.LiGRU(4))
    >>> bool(np.allclose(params.w_ih[:, 4:], state_dict["w.weight"][:4].T / 2, rtol=1e-5))
    True
    """
    if isinstance(state_dict, Mapping):  # a count of batches is an integer, and no weight
        items = state_dict.items()
        state_dict = {name: a for name, a in items if not str(name).endswith("batches_tracked")}
    return _form.load(_FORM, state_dict, model)


def _weights(arrays: Arrays, leaves: list[Leaf]) -> Arrays:
    """Drop the buffers that do nothing after training; raise if they show another function."""
    for name, array in arrays.items():
        masks = f"{name.removesuffix('w.weight')}drop_masks"
        if name.endswith("w.weight") and masks not in arrays:
            raise ValueError(
                f"{masks}: expected an array of this name for LiGRU in speechbrain, got "
                f"{', '.join(arrays)}; SLiGRU has none: it normalises U h too, so no LiGRU is equal"
            )
        if name.endswith("h_init") and not isinstance(array, Tracer) and array.any():
            raise ValueError(f"{name}: expected zeros, as speechbrain has them, got {array}")
    return {name: array for name, array in arrays.items() if not name.endswith(_BUFFERS)}


def _with_norm(arrays: Arrays) -> Arrays:
    """Add the batch norm's arrays, of the shape of its bias; `load` reads their shapes alone."""
    starts = [name.removesuffix("norm.bias") for name in arrays if name.endswith("norm.bias")]
    return arrays | {f"{s}{name}": arrays[f"{s}norm.bias"] for s in starts for name in _NORM}


def _fold(arrays: Arrays) -> Arrays:
    """Fold the batch norm into W and the bias."""
    folded = dict(arrays)
    for start in [name.removesuffix("w.weight") for name in arrays if name.endswith("w.weight")]:
        scale, mean, variance = (folded.pop(f"{start}{name}") for name in _NORM)
        scale = scale / (variance + _EPS) ** 0.5
        folded[f"{start}w.weight"] = arrays[f"{start}w.weight"] * scale[:, None]
        folded[f"{start}norm.bias"] = arrays[f"{start}norm.bias"] - mean * scale
    return folded


def _table(cell: Cell, names: Names) -> Table:
    return _form.select("speechbrain", {LiGRU: _LIGRU}, cell, "LiGRU")


def _place(leaves: list[Leaf], names: Names) -> list[str]:
    if leaves[0].layer is None and "rnn.0.w.weight" not in names:
        return ["{}"] * len(leaves)
    return [f"rnn.{leaf.layer or 0}.{{}}" for leaf in leaves]


_FORM = Form(
    Rules("speechbrain", ("concat",), reverse=False, alike="stack"),
    _table,
    _place,
    rename=_weights,
    pack=_with_norm,
    unpack=_fold,
)
