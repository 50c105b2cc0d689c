"""Removal of redundant biases."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from seqcells._model import Model
from seqcells._types import Params
from seqcells.cells import GRU, MGU, ConvGRU
from seqcells.interop import _walk
from seqcells.layers import Bidirectional, Both, Recurrent, RecurrentParams, Residual, Stack


def fold_biases(model: Model, params: Params) -> tuple[Model, Params]:
    """Return a model with as few biases as possible, and the parameters that make it the same.

    A gate that adds a recurrent bias to an input bias needs only one of them. A `GRU`, `MGU` or
    `ConvGRU` with bias="double" therefore becomes one with "candidate", whose reset gate multiplies
    c_n, or with "single" if it resets before the product. Outputs and gradients by the other
    parameters are unchanged up to the rounding of that sum. Flax, Haiku and Equinox have only these
    biases.

    Args:
        model: any cell or layer; cells within a wrapper are unchanged.
        params: its parameters.

    Returns:
        The model and its parameters; other cells and layers are unchanged.

    Raises:
        ValueError: if `params` do not belong to this model.

    >>> import jax, seqcells as sc
    >>> cell = sc.GRU(4)
    >>> sc.interop.fold_biases(cell, cell.init(jax.random.key(0), 2))[0]
    GRU(4, bias='candidate')
    """
    _walk.check_params(model, params)
    return _fold(model, params)


def _fold(model: Any, params: Any) -> tuple[Any, Any]:
    if isinstance(model, Stack):
        layers, own = zip(*map(_fold, model.layers, params), strict=True)
        return dataclasses.replace(model, layers=layers), own
    if isinstance(model, Bidirectional):
        (forward, backward), own = zip(*map(_fold, model.ways, params), strict=True)
        return dataclasses.replace(model, forward=forward, backward=backward), Both(*own)
    if isinstance(model, Residual):
        layer, own = _fold(model.layer, params)
        return dataclasses.replace(model, layer=layer), own
    if isinstance(model, Recurrent):
        learned = isinstance(params, RecurrentParams)
        cell, own = _fold(model.cell, params.cell if learned else params)
        return dataclasses.replace(model, cell=cell), params._replace(cell=own) if learned else own
    if type(model) in (GRU, MGU, ConvGRU) and model.bias == "double":
        return _fold_cell(model, params)
    return model, params


def _fold_cell(cell: GRU | MGU | ConvGRU, params: Any) -> tuple[GRU | MGU | ConvGRU, Any]:
    added, n = jnp.asarray(params.b_hh), slice(-cell.hidden_size, None)
    c_n = None
    if cell.reset_after:
        added, c_n = added.at[n].set(0), added[n]
    bias = "single" if c_n is None else "candidate"
    return dataclasses.replace(cell, bias=bias), params._replace(b_ih=params.b_ih + added, b_hh=c_n)
