"""Each cell's equations as a competent user writes them, for the body of one `jax.lax.scan`.

Parameters and carries are seqcells' own NamedTuples. A step takes the cell, for its constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.nn import relu, sigmoid, softplus

import seqcells as sc
from benchmarks.harness.problem import Inputs, Params, Shape, draw_inputs

Step = Callable[[Any, Params, Any, Any], tuple[Any, jax.Array]]  # (cell, params, carry, x)


def _products(params: Params, h: jax.Array, x: jax.Array, gates: int) -> list[jax.Array]:
    w, u, b = params[:3]
    return jnp.split(x @ w + h @ u + b, gates, axis=-1)


def janet(cell: sc.JANET, params: Params, h: jax.Array, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of a JANET."""
    f, g = _products(params, h, x, 2)
    h = sigmoid(f) * h + (1 - sigmoid(f - cell.beta)) * jnp.tanh(g)
    return h, h


def ligru(cell: sc.LiGRU, params: Params, h: jax.Array, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of a light GRU."""
    z, n = _products(params, h, x, 2)
    z = sigmoid(z)
    h = (1 - z) * h + z * relu(n)
    return h, h


def coupled(
    cell: sc.CoupledLSTM, params: Params, carry: Any, x: jax.Array
) -> tuple[Any, jax.Array]:
    """Take a step of an LSTM with coupled gates."""
    f, g, o = _products(params, carry.h, x, 3)
    f = sigmoid(f)
    c = f * carry.c + (1 - f) * jnp.tanh(g)
    h = sigmoid(o) * jnp.tanh(c)
    return type(carry)(h, c), h


def slstm(cell: sc.SLSTM, params: Params, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of an sLSTM with one head."""
    i, f, z, o = _products(params, carry.h, x, 4)
    kept = jax.nn.log_sigmoid(f) + carry.m
    m = jnp.where(carry.n == 0, i, jnp.maximum(kept, i))
    forget, write = jnp.exp(jnp.minimum(kept - m, 0)), jnp.exp(i - m)
    c = forget * carry.c + write * jnp.tanh(z)
    n = jnp.maximum(forget * carry.n + write, 1)
    h = sigmoid(o) * c / n
    return type(carry)(h, c, n, m), h


def antisymmetric(
    cell: sc.AntisymmetricRNN, params: Params, h: jax.Array, x: jax.Array
) -> tuple[Any, jax.Array]:
    """Take a step of an antisymmetric RNN without a gate."""
    w = params.w_hh - params.w_hh.T - cell.gamma * jnp.eye(h.shape[-1])
    h = h + cell.eps * jnp.tanh(h @ w + x @ params.w_ih + params.b)
    return h, h


def cornn(cell: sc.coRNN, params: Params, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of a coRNN."""
    y, z = carry
    drive = jnp.tanh(y @ params.w_hh + z @ params.w_zh + x @ params.w_ih + params.b)
    z = z + cell.dt * (drive - cell.gamma * y - cell.epsilon * z)
    y = y + cell.dt * z
    return type(carry)(y, z), y


def unicornn(cell: sc.UnICORNN, params: Params, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of a UnICORNN."""
    y, z = carry
    step = cell.dt * sigmoid(params.c)
    z = z - step * (jnp.tanh(params.w_hh * y + x @ params.w_ih + params.b) + cell.alpha * y)
    y = y + step * z
    return type(carry)(y, z), y


def ctrnn(cell: sc.CTRNN, params: Params, h: jax.Array, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of a CTRNN in its rate form."""
    w, u, b = params[:3]
    share = cell.dt / jnp.asarray(cell.tau)
    h = (1 - share) * h + share * jnp.tanh(x @ w + h @ u + b)
    return h, h


def lem(cell: sc.LEM, params: Params, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of a LEM."""
    (y, z), (v, w, b) = carry, params
    size = y.shape[-1]
    s_z, s_y, p_z, p_y = jnp.split(x @ v + b, 4, axis=-1)
    w_1, w_2, w_z = jnp.split(y @ w[:, : 3 * size], 3, axis=-1)
    s_z, s_y = cell.dt * sigmoid(s_z + w_1), cell.dt * sigmoid(s_y + w_2)
    z = (1 - s_z) * z + s_z * jnp.tanh(p_z + w_z)
    y = (1 - s_y) * y + s_y * jnp.tanh(p_y + z @ w[:, 3 * size :])
    return type(carry)(y, z), y


def projected(cell: sc.LSTM, params: Params, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of an LSTM whose output is projected."""
    i, f, g, o = _products(params, carry.h, x, 4)
    c = sigmoid(f) * carry.c + sigmoid(i) * jnp.tanh(g)
    h = (sigmoid(o) * jnp.tanh(c)) @ params.w_hr
    return type(carry)(h, c), h


def grud(cell: sc.GRUD, params: Params, carry: Any, x: Any) -> tuple[Any, jax.Array]:
    """Take a step of a GRU-D."""
    w, v, u, b, w_x, c_x, w_h, c_h = params
    seen, size = x.observed.astype(x.values.dtype), carry.h.shape[-1]
    delta = jnp.where(carry.begun > 0, carry.since + x.elapsed, 0)
    values = jnp.where(x.observed, x.values, jnp.exp(-relu(w_x * delta + c_x)) * carry.last)
    h = jnp.exp(-relu(delta @ w_h + c_h)) * carry.h
    r, z, n = jnp.split(values @ w + seen @ v + b, 3, axis=-1)
    u_r, u_z = jnp.split(h @ u[:, : 2 * size], 2, axis=-1)
    z = sigmoid(z + u_z)
    n = jnp.tanh(n + (sigmoid(r + u_r) * h) @ u[:, 2 * size :])
    h = (1 - z) * h + z * n
    last, since = jnp.where(x.observed, values, carry.last), jnp.where(x.observed, 0, delta)
    return type(carry)(h, last, since, jnp.ones_like(carry.begun)), h


def minlstm(cell: sc.MinLSTM, params: Params, h: jax.Array, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of a minLSTM."""
    w, b = params
    f, i, n = jnp.split(x @ w + b, 3, axis=-1)
    f, i = sigmoid(f), sigmoid(i)
    h = (f * h + i * n) / (f + i)
    return h, h


def rglru(cell: sc.RGLRU, params: Params, h: jax.Array, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of an RG-LRU with one head."""
    w, b, a_param = params
    r, i = jnp.split(x @ w + b, 2, axis=-1)
    log_a = -8 * sigmoid(r) * softplus(a_param)
    h = jnp.exp(log_a) * h + jnp.sqrt(1 - jnp.exp(2 * log_a)) * sigmoid(i) * x
    return h, h


def s5(cell: sc.S5, params: Params, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of an S5 with zero-order hold, in complex numbers."""
    w_ih, w_ho, re, im, log_step, d = params
    rate = jax.lax.complex(re, im)
    keep = jnp.exp(rate * jnp.exp(log_step))
    b = jax.lax.complex(*jnp.split(w_ih, 2, axis=-1))
    h = keep * jax.lax.complex(*carry) + (keep - 1) / rate * (x @ b)
    c = jax.lax.complex(*jnp.split(w_ho, 2, axis=-1))
    return type(carry)(h.real, h.imag), (h @ c).real + d * x


def mamba(cell: sc.Mamba, params: Params, h: jax.Array, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of a selective state-space model."""
    w, w_dt, b_dt, a_log, d = params
    rank = w_dt.shape[0]
    s, b, c = jnp.split(x @ w, [rank, rank + a_log.shape[1]], axis=-1)
    step = softplus(s @ w_dt + b_dt)[..., None]
    h = jnp.exp(-step * jnp.exp(a_log)) * h + step * b[..., None, :] * x[..., None]
    return h, jnp.einsum("...hn,...n->...h", h, c) + d * x


def _heads(cell: Any, sums: jax.Array) -> list[jax.Array]:
    """Cut products into q, k, v [..., heads, K or V] and the gates [..., heads]."""
    key, value = cell.matrix
    gates = sums.shape[-1] // cell.heads - (2 * key + value)
    ends = [key, 2 * key, *range(2 * key + value, 2 * key + value + gates)]
    q, k, v, *rest = jnp.split(sums, [cell.heads * end for end in ends], -1)
    return [*(a.reshape(*a.shape[:-1], cell.heads, -1) for a in (q, k, v)), *rest]


def _asked(memory: jax.Array, q: jax.Array) -> jax.Array:
    return jnp.einsum("...kv,...k->...v", memory, q)


def retnet(cell: sc.RetNet, params: Params, s: jax.Array, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of a RetNet."""
    q, k, v = _heads(cell, x @ params.w_ih)
    kept = (1 - 2.0 ** (-5 - jnp.arange(cell.heads)))[:, None, None]
    s = kept * s + k[..., None] * v[..., None, :]
    y = _asked(s, q * q.shape[-1] ** -0.5)
    return s, y.reshape(*y.shape[:-2], -1)


def mlstm(cell: sc.MLSTM, params: Params, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
    """Take a step of an mLSTM."""
    width = params.w_ih.shape[-1] - params.b.shape[-1]
    q, k, v, i, f = _heads(cell, x @ params.w_ih + jnp.pad(params.b, (width, 0)))
    q, kept = q * q.shape[-1] ** -0.5, jax.nn.log_sigmoid(f) + carry.m
    m = jnp.maximum(i, kept)
    forget, write = jnp.exp(kept - m)[..., None], jnp.exp(i - m)[..., None]
    c = forget[..., None] * carry.c + (write * k)[..., None] * v[..., None, :]
    n = forget * carry.n + write * k
    least = jnp.maximum(jnp.abs(jnp.sum(n * q, -1)), jnp.exp(-m)) + cell.eps
    y = _asked(c, q) / least[..., None]
    return type(carry)(c, n, m), y.reshape(*y.shape[:-2], -1)


def delta(
    cell: sc.GatedDeltaNet, params: Params, s: jax.Array, x: jax.Array
) -> tuple[Any, jax.Array]:
    """Take a step of a gated DeltaNet."""
    q, k, v, beta, step = _heads(cell, x @ params.w_ih)
    q, k, v = map(jax.nn.silu, (q, k, v))
    q, k = (a / jnp.sqrt(jnp.sum(a * a, -1, keepdims=True) + 1e-6) for a in (q, k))
    log_kept = -jnp.exp(params.a_log) * softplus(step + params.b_dt)
    s = jnp.exp(log_kept)[..., None, None] * s
    u = cell.beta_max * sigmoid(beta)[..., None] * (v - _asked(s, k))
    s = s + k[..., None] * u[..., None, :]
    y = _asked(s, q * q.shape[-1] ** -0.5)
    return s, y.reshape(*y.shape[:-2], -1)


class Twin(NamedTuple):
    """A cell and its step by hand."""

    make: Callable[[Shape], sc.Cell]
    step: Step
    inputs: Callable[[Shape], Inputs] = draw_inputs


def _wide(shape: Shape) -> jax.Array:
    """Draw inputs of H features, for cells that read and write as many."""
    return draw_inputs(shape._replace(D=shape.H))


def _sparse(shape: Shape) -> sc.GRUDInputs:
    """Draw values of which half are observed, one unit of time apart."""
    values = draw_inputs(shape)
    observed = jax.random.bernoulli(jax.random.key(3), shape=values.shape)
    return sc.GRUDInputs(values, observed, jnp.ones((*values.shape[:-1], 1)))


def _count(shape: Shape) -> int:
    """Return a number of heads of 32 units."""
    return max(shape.H // 32, 1) if shape.H % 32 == 0 else 1


TWINS = {
    "SLSTM": Twin(lambda s: sc.SLSTM(s.H), slstm),
    "JANET": Twin(lambda s: sc.JANET(s.H), janet),
    "LiGRU": Twin(lambda s: sc.LiGRU(s.H), ligru),
    "CoupledLSTM": Twin(lambda s: sc.CoupledLSTM(s.H), coupled),
    "AntisymmetricRNN": Twin(lambda s: sc.AntisymmetricRNN(s.H), antisymmetric),
    "coRNN": Twin(lambda s: sc.coRNN(s.H), cornn),
    "UnICORNN": Twin(lambda s: sc.UnICORNN(s.H), unicornn),
    "CTRNN": Twin(lambda s: sc.CTRNN(s.H), ctrnn),
    "LEM": Twin(lambda s: sc.LEM(s.H), lem),
    "projected LSTM": Twin(lambda s: sc.LSTM(s.H, proj_size=max(s.H // 2, 1)), projected),
    "GRUD": Twin(lambda s: sc.GRUD(s.H), grud, _sparse),
    "MinLSTM": Twin(lambda s: sc.MinLSTM(s.H), minlstm),
    "RGLRU": Twin(lambda s: sc.RGLRU(s.H), rglru, _wide),
    "S5": Twin(lambda s: sc.S5(s.H), s5, _wide),
    "Mamba": Twin(lambda s: sc.Mamba(s.H), mamba, _wide),
    "RetNet": Twin(lambda s: sc.RetNet(s.H, heads=_count(s)), retnet),
    "MLSTM": Twin(lambda s: sc.MLSTM(s.H, heads=_count(s)), mlstm),
    "GatedDeltaNet": Twin(lambda s: sc.GatedDeltaNet(s.H, heads=_count(s)), delta),
}


def unroll(twin: Twin, cell: sc.Cell, params: Params, xs: Inputs) -> jax.Array:
    """Run a cell's step by hand over xs [T, B, ...]; returns ys [T, B, ...]."""
    start = cell.init_carry(jax.tree.map(lambda a: a[0], xs), params)
    return jax.lax.scan(lambda carry, x: twin.step(cell, params, carry, x), start, xs)[1]
