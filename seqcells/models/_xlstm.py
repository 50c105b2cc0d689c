"""xLSTM: blocks around the mLSTM and the sLSTM."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jax.typing import DTypeLike

from seqcells import _check, initializers
from seqcells._model import Model
from seqcells.cells import MLSTM, SLSTM
from seqcells.initializers import Normal
from seqcells.layers import GLU, Block, CausalConv, Dense, Norm, Parallel, Residual, Stack, Take
from seqcells.models._parts import Options, Sizes, assemble, settle

_FEW, _MORE = (3, 20), (3, 5, 7, 40, 42, 44)  # where the paper has sLSTM blocks, of 24 and of 48
SIZES: dict[str, Sizes] = {  # appendix of the paper; [1:0] has no sLSTM blocks
    "125m[1:0]": {"layers": 24, "width": 768, "heads": 4, "slstm_at": ()},
    "125m[7:1]": {"layers": 24, "width": 768, "heads": 4, "slstm_at": _FEW},
    "350m[1:0]": {"layers": 48, "width": 1024, "heads": 4, "slstm_at": ()},
    "350m[7:1]": {"layers": 48, "width": 1024, "heads": 4, "slstm_at": _MORE},
    "760m[1:0]": {"layers": 48, "width": 1536, "heads": 4, "slstm_at": ()},
    "760m[7:1]": {"layers": 48, "width": 1536, "heads": 4, "slstm_at": _MORE},
    "1.3b[1:0]": {"layers": 48, "width": 2048, "heads": 4, "slstm_at": ()},
    "1.3b[7:1]": {"layers": 48, "width": 2048, "heads": 4, "slstm_at": _MORE},
}


def xlstm(
    size: str | None = None,
    *,
    vocab: int | None = None,
    outputs: int | None = None,
    layers: int | None = None,
    width: int | None = None,
    heads: int | None = None,
    slstm_at: tuple[int, ...] | None = None,
    dtype: DTypeLike | None = None,
    param_dtype: DTypeLike = jnp.float32,
) -> Stack:
    """Make an xLSTM model (Beck et al. 2024, arXiv 2405.04517).

    A block is one of two, with n_t = norm(x_t) and a norm of each head of the memory's output::

        u_t = W n_t                                          2 * width features or more
        c_t = silu(conv(u))_t
        h_t = norm(mLSTM(q|k|v)_t) + s * c_t                 q, k = Q c_t, K c_t and v = V u_t
        y_t = x_t + W_o (h_t * silu(Z n_t))                                  the mLSTM block

        c_t = silu(conv(n))_t
        z_t = x_t + norm(sLSTM(i|f|z|o)_t)                   i, f of c_t and z, o of n_t
        y_t = z_t + GeGLU(norm(z_t))                                         the sLSTM block

    Q, K and V are block-diagonal, in blocks of 4 features, and so are the maps to the gates of the
    sLSTM, in `heads` blocks. As in the authors' code (xlstm 2.0.6), u has 2 * width features and
    the GeGLU 1.3 * width, both rounded up to a multiple of 64; the embedding and the readout have
    weights of their own; and a named size has as many parameters with `vocab=50304`. Matrices of
    gates of the mLSTM and R of the sLSTM start at 0, as there. Biases of forget gates are spaced
    there; here they are drawn from the same range for the mLSTM, and start at 1 for the sLSTM. W_o
    and the last matrix of the GeGLU start there with a standard deviation that falls with the
    number of blocks.

    Args:
        size: "125m", "350m", "760m" or "1.3b", with "[1:0]" or "[7:1]" behind it, such as
            "125m[7:1]"; or None, and then `layers`, `width` and `heads`.
        vocab: the number of symbols; inputs are then int[T, *B]. None for inputs float[T, *B, D],
            which a `Dense` maps to `width` features.
        outputs: features of the outputs, by a `Dense`; None for logits of the symbols, or for the
            `width` features after the last norm where there are no symbols.
        layers: how many blocks there are; that of `size` if None.
        width: features between the blocks; that of `size` if None.
        heads: heads of both memories, a divisor of `width`; that of `size` if None.
        slstm_at: the blocks with an sLSTM, counted from 0; if None, those of `size`, or none
            without a size.
        dtype: dtype of computation; that of the inputs, or of the parameters for symbols, if None.
        param_dtype: dtype of the parameters.

    Returns:
        A `Stack` of the embedding, the blocks, a `Norm`, and the readout if there is one.

    Raises:
        ValueError: on an unknown size, a number below 1, heads that do not divide `width`, or a
            block that is not there.

    >>> import jax, jax.numpy as jnp, seqcells as sc
    >>> net = sc.models.xlstm(layers=2, width=8, heads=2, slstm_at=(1,), vocab=50)
    >>> carry, logits = sc.unroll(net, net.init(jax.random.key(0), ()), jnp.zeros((5, 3), int))
    >>> logits.shape
    (5, 3, 50)
    """
    if size is None and slstm_at is None:
        slstm_at = ()
    own = settle(SIZES, size, layers=layers, width=width, heads=heads, slstm_at=slstm_at)
    for i in own.slstm_at:
        wanted = f"blocks below layers = {own.layers}"
        _check.number("slstm_at", i, wanted, lambda i: 0 <= i < own.layers)
    options: Options = {"dtype": dtype, "param_dtype": param_dtype}
    sizes = (own.width, own.heads, options)
    blocks = (_mlstm_block(*sizes), _slstm_block(*sizes))
    return assemble(
        [blocks[i in own.slstm_at] for i in range(own.layers)],
        _norm(options),
        width=own.width,
        vocab=vocab,
        outputs=outputs,
        tied=False,
        bias="none",
        embed_init=Normal((2 / (5 * own.width)) ** 0.5),
        options=options,
    )


def _norm(options: Options, heads: int = 1) -> Norm:
    return Norm("layer", eps=1e-5, bias="none", heads=heads, **options)


def _up(factor: float, width: int) -> int:
    """Round a multiple of the width up to one of 64."""
    return 64 * math.ceil(factor * width / 64)


def _mlstm_block(width: int, heads: int, options: Options) -> Model:
    inner = _up(2.0, width)
    c, u = Take(0, inner), Take(inner, 2 * inner)  # what the convolution puts out, and its inputs
    quarter = {"heads": inner // 4, "bias": "none", **options}
    qkv = Parallel((Stack((c, Dense(2 * inner, **quarter))), Stack((u, Dense(inner, **quarter)))))
    memory = MLSTM(inner, heads=heads, projected=True, w_ih_init=initializers.zeros, **options)
    scale = CausalConv(1, bias="none", w_init=initializers.ones, **options)  # s, for each feature
    mixer = Stack(
        (
            Dense(inner, bias="none", **options),
            Residual(CausalConv(4, "silu", **options), "concat"),
            Parallel((Stack((qkv, memory, _norm(options, heads))), Stack((c, scale))), "sum"),
        )
    )
    return Block(mixer, _norm(options), gate="silu", bias="none", **options)


def _slstm_block(width: int, heads: int, options: Options) -> Model:
    two = Dense(2 * width, heads=heads, bias="none", **options)  # gates
    gates = Parallel((Stack((CausalConv(4, "silu", **options), two)), two))
    memory = SLSTM(width, heads=heads, projected=True, w_hh_init=initializers.zeros, **options)
    perceptron = GLU(_up(1.3, width), "gelu_exact", bias="none", **options)
    return Stack(
        (
            Residual(Stack((_norm(options), gates, memory, _norm(options, heads)))),
            Residual(Stack((_norm(options), perceptron))),
        )
    )
