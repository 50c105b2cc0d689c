"""What the models share: named sizes, and the layers before and after the blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from seqcells import _check
from seqcells._model import Model
from seqcells.initializers import Initializer, Normal
from seqcells.layers import Dense, Embed, Norm, Stack

Sizes = Mapping[str, Any]  # arguments of a model, by name
Options = dict[str, Any]  # dtypes of layers and cells


def settle(table: Mapping[str, Sizes], size: str | None, **given: Any) -> SimpleNamespace:
    """Return the sizes that are given, and for those that are None the ones of a named size.

    Args:
        table: the sizes of each name.
        size: a name, or None for no named size.
        given: the arguments of the model; None where the named size decides.

    Raises:
        ValueError: on an unknown name, an argument that nothing decides, or no layers or features.
    """
    names = ", ".join(map(repr, table))
    if size is not None and size not in table:
        raise ValueError(f"size: expected one of {names}, got {size!r}")
    named = {} if size is None else table[size]
    settled = {name: named.get(name) if value is None else value for name, value in given.items()}
    for name, value in settled.items():
        if value is None:
            raise ValueError(f"{name}: expected a value without a named size; give size={names}")
    for name in ("layers", "width"):
        _check.size(name, settled[name], least=1)
    return SimpleNamespace(**settled)


def assemble(
    blocks: Iterable[Model],
    norm: Norm | None,
    *,
    width: int,
    vocab: int | None,
    outputs: int | None,
    tied: bool,
    bias: str,
    embed_init: Initializer = Normal(1.0),
    options: Options,
) -> Stack:
    """Put blocks between the layer that reads the inputs and the one that puts out.

    Args:
        blocks: the blocks, of `width` inputs and outputs.
        norm: what follows them, or None.
        width: features between the blocks.
        vocab: how many symbols are read; None for vectors.
        outputs: how many features are put out; None for the logits of the symbols, or for the
            `width` features where there are none.
        tied: whether the logits are made by the matrix of the embedding.
        bias: that of the map to the outputs.
        embed_init: initialiser of the embedding.
        options: dtypes of the layers.
    """
    first = Dense(width, **options)
    if vocab is not None:
        first = Embed(vocab, width, w_init=embed_init, **options)
    logits = vocab is not None and outputs is None
    last = vocab if logits and not tied else outputs
    readout = () if last is None else (Dense(last, bias=bias, **options),)
    after = () if norm is None else (norm,)
    return Stack((first, *blocks, *after, *readout), tied=logits and tied)
