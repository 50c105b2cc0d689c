"""Hawk: the recurrent model of the Griffin paper, without attention."""

from __future__ import annotations

import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells.cells import RGLRU
from seqcells.initializers import Normal
from seqcells.layers import GLU, Block, CausalConv, Dense, Norm, Stack
from seqcells.models._parts import Options, Sizes, assemble, settle

SIZES: dict[str, Sizes] = {  # table 2 of the paper, with 16 blocks in every gate (section 4.1)
    "100m": {"layers": 12, "width": 768, "rnn_width": 1024, "heads": 16},
    "200m": {"layers": 12, "width": 1024, "rnn_width": 1536, "heads": 16},
    "400m": {"layers": 12, "width": 1536, "rnn_width": 2048, "heads": 16},
    "1.3b": {"layers": 24, "width": 2048, "rnn_width": 2560, "heads": 16},
    "3b": {"layers": 24, "width": 3072, "rnn_width": 4096, "heads": 16},
    "7b": {"layers": 32, "width": 4096, "rnn_width": 5632, "heads": 32},  # recurrentgemma's preset
}


def hawk(
    size: str | None = None,
    *,
    vocab: int | None = None,
    outputs: int | None = None,
    layers: int | None = None,
    width: int | None = None,
    rnn_width: int | None = None,
    heads: int | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
) -> Stack:
    """Make a Hawk model (De et al. 2024, Griffin, arXiv 2402.19427).

    Each of its blocks is a recurrent half and a gated perceptron of 3 * width units::

        u_t = conv(W norm(x) + b)_t                                      rnn_width features
        y_t = x_t + W_o (RGLRU(u)_t * gelu(V norm(x_t) + c)) + b_o
        z_t = y_t + GeGLU(norm(y_t))

    Logits are made by the matrix of the embedding. The paper has 16 blocks in the matrices of every
    gate; the preset HAWK_PAPER_7B of recurrentgemma 1.0.1 has 32, and so has "7b" here. Parameters
    are as many as recurrentgemma makes for these sizes. It starts W_o and the perceptron's last
    matrix with a standard deviation that falls with the number of blocks; here it does not.
    Sequences there start with a reset: pass `resets` that are True at the first step for the same
    outputs (see `RGLRU`).

    Args:
        size: "100m", "200m", "400m", "1.3b", "3b" or "7b"; or None, and then `layers`, `width`,
            `rnn_width` and `heads`.
        vocab: the number of symbols; inputs are then int[T, *B]. None for inputs float[T, *B, D],
            which a `Dense` maps to `width` features.
        outputs: features of the outputs, by a `Dense`; None for logits of the symbols, or for the
            `width` features after the last norm where there are no symbols.
        layers: how many blocks there are; that of `size` if None.
        width: features between the blocks; that of `size` if None.
        rnn_width: units of the RG-LRU; that of `size` if None.
        heads: blocks in the matrices of its gates, a divisor of `rnn_width`; that of `size` if
            None.
        dtype: dtype of computation; that of the inputs, or of the parameters for symbols, if None.
        param_dtype: dtype of the parameters.

    Returns:
        A `Stack` of the embedding, the blocks, a `Norm`, and the readout if there is one.

    Raises:
        ValueError: on an unknown size, a number below 1, or heads that do not divide `rnn_width`.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.models.hawk(layers=2, width=12, rnn_width=16, heads=4, vocab=50)
    >>> carry, logits = sc.unroll(net, net.init(jax.random.key(0), ()), jnp.zeros((5, 3), int))
    >>> logits.shape
    (5, 3, 50)
    """
    own = settle(SIZES, size, layers=layers, width=width, rnn_width=rnn_width, heads=heads)
    options: Options = {"dtype": dtype, "param_dtype": param_dtype}
    mixer = Stack(
        (
            Dense(own.rnn_width, **options),
            CausalConv(4, **options),
            RGLRU(own.rnn_width, heads=own.heads, **options),
        )
    )
    block = Block(mixer, mlp=GLU(3 * own.width, "gelu", **options), gate="gelu", **options)
    return assemble(
        [block] * own.layers,
        Norm("rms", **options),
        width=own.width,
        vocab=vocab,
        outputs=outputs,
        tied=True,
        bias="none",
        embed_init=Normal(own.width**-0.5),
        options=options,
    )
