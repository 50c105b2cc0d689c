"""A matrix memory after each step of a chunk, computed at once by matrix products.

The memory after step t is what was at the start of its sequence, and what the steps j <= t of that
sequence wrote, each as far as it is kept::

    S_t = exp(start_t) S_start + sum_j exp(logs_tj) k_j u_j'
    start_t = g_1 + ... + g_t                           g: the logarithm of what a step keeps
    logs_tj = g_{j+1} + ... + g_t

The sums run over one sequence: a restart within the chunk and padding are masks, and no decay is
the logarithm of 0. Each sum is added from its own terms and is not the difference of two longer
sums: after a gate that closes, such a difference would be rounding errors.

Arrays have the steps next to last here, or last: q, k float[*B, heads, C, K], v and u
[*B, heads, C, V], memories [*B, heads, K, V], and one number for each step [*B, heads, C].
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from seqcells._flags import Flags
from seqcells._trees import as_rows, sharded_alike


class Sight(NamedTuple):
    """What each step of a chunk sees of the steps before it, and of the memory at the start."""

    logs: jax.Array  # [*B, heads, C, C], of step t and the write of step j; -inf: it sees none
    start: jax.Array  # [*B, heads, C], of step t and the memory at the start of its sequence
    carried: jax.Array  # [*B, heads, K, V], the memory before the chunk
    fresh: jax.Array  # [*B, heads, K, V], the memory after a restart
    first: jax.Array | None  # bool[*B, 1, C], before any restart; None: every step is


def pick(where: jax.Array, yes: jax.Array, no: jax.Array) -> jax.Array:
    """Call `jnp.where` for arrays of equal rank, sharded or not."""
    return jnp.where(*sharded_alike(where, yes, no))


def look(log_decay: jax.Array, carried: jax.Array, fresh: jax.Array, flags: Flags) -> Sight:
    """Sum the logarithms g of what each step keeps, float[*B, heads, C], at most 0."""
    valid, restart = (
        None if flag is None else jnp.moveaxis(flag, 0, -1)[..., None, :]
        for flag in (flags.valid, flags.restart)
    )  # [*B, 1, C]
    order = jnp.arange(log_decay.shape[-1])
    seen, first = as_rows(order[:, None] >= order, log_decay[..., None]), None  # [..., t, j]
    if valid is not None:
        log_decay = pick(valid, log_decay, jnp.zeros_like(log_decay))
    if restart is not None:
        sequence = jnp.cumsum(restart, axis=-1, dtype=order.dtype)
        first = sequence == 0
        seen = seen & (sequence[..., :, None] == sequence[..., None, :])
    decays = log_decay[..., None, :]
    decays = pick(seen, decays, jnp.zeros_like(decays))  # [..., t, s]
    after = (order[:, None] > order).astype(decays.dtype)  # [s, j]
    logs = jnp.einsum("...ts,sj->...tj", decays, after, precision="highest")
    seen = seen if valid is None else seen & valid[..., None, :]
    logs = pick(seen, logs, jnp.full_like(logs, -jnp.inf))
    return Sight(logs, jnp.sum(decays, -1), carried, fresh, first)


def stabilise(
    sight: Sight, log_write: jax.Array, carried: jax.Array, fresh: jax.Array
) -> tuple[Sight, jax.Array]:
    """Weigh each write by an exponential, and subtract the greatest logarithm of each step.

    Args:
        sight: what the steps see.
        log_write: i, float[*B, heads, C].
        carried: m before the chunk, float[*B, heads]: the carried memory is divided by exp(m).
        fresh: m with which a sequence starts, float[*B, heads].

    Returns:
        What the steps see, divided by exp(m_t), and m_t, float[*B, heads, C].
    """
    m = carried[..., None]
    m = m if sight.first is None else pick(sight.first, m, fresh[..., None])
    logs, start = sight.logs + log_write[..., None, :], sight.start + m
    m = jnp.maximum(jnp.max(logs, axis=-1), start)
    return sight._replace(logs=logs - m[..., None], start=start - m), m


def recall_start(sight: Sight, q: jax.Array) -> jax.Array:
    """Read what each step keeps of the memory at the start of its sequence, [*B, heads, C, V]."""
    read = q @ sight.carried
    if sight.first is not None:
        read = pick(sight.first[..., None], read, q @ sight.fresh)
    return jnp.exp(sight.start)[..., None] * read


def erase(sight: Sight, k: jax.Array, v: jax.Array, beta: jax.Array) -> jax.Array:
    """Compute what the delta rule writes: u_t = beta_t (v_t - S' k_t), S the decayed memory.

    S holds the u before, so they solve (I + L) u = beta (v - what k reads of the start), with
    L_tj = beta_t exp(logs_tj) k_t k_j' below the diagonal.
    """
    beta, order = beta[..., None], jnp.arange(beta.shape[-1])
    before = as_rows((order[:, None] > order).astype(beta.dtype), k)
    lower = beta * before * jnp.exp(sight.logs) * (k @ jnp.swapaxes(k, -1, -2))
    inverse = jax.lax.stop_gradient(_inverse(lower))  # derivatives are those of the system
    return jax.lax.custom_linear_solve(
        lambda u: u + lower @ u,
        beta * (v - recall_start(sight, k)),
        lambda _, right: inverse @ right,
        lambda _, right: jnp.swapaxes(inverse, -1, -2) @ right,
    )


def _inverse(lower: jax.Array) -> jax.Array:
    """Invert I + L, for L [..., C, C] below the diagonal.

    Blocks on the diagonal are inverted, the smallest first, and joined two by two::

        inverse of (A 0; B D) = (a 0; -d B a, d)            a, d: the inverses of A and D

    `jax.lax.linalg.triangular_solve` calls a library on a CPU that starts threads of its own, which
    wait for each other if the processor is busy: then it took a thousand times as long.
    """
    size, lead = lower.shape[-1], lower.shape[:-2]
    whole = 1 << (size - 1).bit_length()
    lower = jnp.pad(lower, [(0, 0)] * len(lead) + [(0, whole - size)] * 2)
    blocks = jnp.ones_like(lower[..., 0])[..., None, None]  # [..., count, width, width]
    while (width := blocks.shape[-1]) < whole:
        starts = range(width, whole, 2 * width)
        corners = jnp.stack([lower[..., i : i + width, i - width : i] for i in starts], axis=-3)
        a, d = blocks[..., 0::2, :, :], blocks[..., 1::2, :, :]
        rows = [(a, jnp.zeros_like(a)), (-d @ (corners @ a), d)]
        blocks = jnp.concatenate([jnp.concatenate(row, axis=-1) for row in rows], axis=-2)
    return blocks[..., 0, :size, :size]


def write_and_read(
    sight: Sight, q: jax.Array, k: jax.Array, u: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return the memory after the last step, and what q reads after each one, [*B, heads, C, V]."""
    kept, start = jnp.exp(sight.logs), sight.carried
    read = (kept * (q @ jnp.swapaxes(k, -1, -2))) @ u + recall_start(sight, q)
    if sight.first is not None:
        start = pick(sight.first[..., -1:, None], start, sight.fresh)
    start = jnp.exp(sight.start[..., -1, None, None]) * start
    return start + jnp.swapaxes(kept[..., -1, :, None] * k, -1, -2) @ u, read
