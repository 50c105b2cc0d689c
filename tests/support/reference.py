"""Recurrences as plain NumPy loops over one sequence, written from the equations alone.

Nothing of seqcells is imported. Every function takes real or complex arrays, so that a step of
1e-30 i along a coordinate gives the derivative by it, exact to rounding (the complex step).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Step = Callable[[Any, Any, np.ndarray], tuple[Any, np.ndarray]]  # (params, carry, x) -> (carry, y)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def relu(a):
    return np.where(a.real > 0, a, 0)


def positive(a):
    return np.where(a.real >= 0, a + 0.5, sigmoid(a))


def softplus(a):
    return np.log(1 + np.exp(a))


ACTIVATIONS = {
    "tanh": np.tanh,
    "relu": relu,
    "sigmoid": sigmoid,
    "identity": lambda a: a,
    "silu": lambda a: a * sigmoid(a),
    "gelu": lambda a: a / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a**3))),
    "positive": positive,
}


def rnn_step(params, h, x, activation="tanh"):
    """h_t = act(W_h h_{t-1} + W_x x_t + b); matrices stand as [in, out]."""
    w_x, w_h, b = params
    a = w_x.T @ x + w_h.T @ h + (0 if b is None else b)
    h = ACTIVATIONS[activation](a)
    return h, h


def biases(c, gates, size):
    """The biases of each gate; one of [size] belongs to the last alone."""
    if c is None:
        return (0,) * gates
    return (0,) * (gates - 1) + (c,) if len(c) == size else np.split(c, gates)


def gru_step(params, h, x, reset_after=True):
    """z is the fraction that is written; gates stand in the order r|z|n."""
    w_r, w_z, w_n = np.split(params[0], 3, axis=-1)
    u_r, u_z, u_n = np.split(params[1], 3, axis=-1)
    b_r, b_z, b_n = (0, 0, 0) if params[2] is None else np.split(params[2], 3)
    c_r, c_z, c_n = biases(params[3], 3, len(h))
    r = sigmoid(w_r.T @ x + b_r + u_r.T @ h + c_r)
    z = sigmoid(w_z.T @ x + b_z + u_z.T @ h + c_z)
    if reset_after:
        n = np.tanh(w_n.T @ x + b_n + r * (u_n.T @ h + c_n))
    else:
        n = np.tanh(w_n.T @ x + b_n + u_n.T @ (r * h) + c_n)
    h = (1 - z) * h + z * n
    return h, h


def mgu_step(params, h, x, reset_after=False):
    """f is the fraction that is written, and resets; gates stand in the order f|n."""
    w_f, w_n = np.split(params[0], 2, axis=-1)
    u_f, u_n = np.split(params[1], 2, axis=-1)
    b_f, b_n = (0, 0) if params[2] is None else np.split(params[2], 2)
    c_f, c_n = biases(params[3], 2, len(h))
    f = sigmoid(w_f.T @ x + b_f + u_f.T @ h + c_f)
    if reset_after:
        n = np.tanh(w_n.T @ x + b_n + f * (u_n.T @ h + c_n))
    else:
        n = np.tanh(w_n.T @ x + b_n + u_n.T @ (f * h) + c_n)
    h = (1 - f) * h + f * n
    return h, h


def lstm_step(params, carry, x):
    """Gates stand in the order i|f|g|o, peepholes in the order i|f|o."""
    h, c = carry
    w_i, w_f, w_g, w_o = np.split(params[0], 4, axis=-1)
    u_i, u_f, u_g, u_o = np.split(params[1], 4, axis=-1)
    b_i, b_f, b_g, b_o = (0, 0, 0, 0) if params[2] is None else np.split(params[2], 4)
    p_i, p_f, p_o = (0, 0, 0) if params[3] is None else np.split(params[3], 3)
    i = sigmoid(w_i.T @ x + u_i.T @ h + p_i * c + b_i)
    f = sigmoid(w_f.T @ x + u_f.T @ h + p_f * c + b_f)
    g = np.tanh(w_g.T @ x + u_g.T @ h + b_g)
    c = f * c + i * g
    o = sigmoid(w_o.T @ x + u_o.T @ h + p_o * c + b_o)
    h = o * np.tanh(c)
    h = h if params[4] is None else params[4].T @ h
    return type(carry)(h, c), h


def indrnn_step(params, h, x, activation="relu"):
    """h_t = act(W x_t + u * h_{t-1} + b), u a vector."""
    w, u, b = params
    a = w.T @ x + u * h + (0 if b is None else b)
    h = ACTIVATIONS[activation](a)
    return h, h


def mingru_step(params, h, x, activation="identity"):
    """z is the fraction that is written; gates stand in the order z|n and do not read h."""
    w_z, w_n = np.split(params[0], 2, axis=-1)
    b_z, b_n = (0, 0) if params[1] is None else np.split(params[1], 2)
    z = sigmoid(w_z.T @ x + b_z)
    n = w_n.T @ x + b_n
    n = ACTIVATIONS[activation](n)
    h = (1 - z) * h + z * n
    return h, h


def minlstm_step(params, h, x, activation="identity"):
    """f is the fraction that is kept; gates stand in the order f|i|n and do not read h."""
    w, b = params
    f, i, n = np.split(w.T @ x + (0 if b is None else b), 3)
    f, i = sigmoid(f), sigmoid(i)
    h = f / (f + i) * h + i / (f + i) * ACTIVATIONS[activation](n)
    return h, h


def rglru_step(params, h, x, heads=1, fresh=False):
    """Gates stand in the order r|i and read their own head; w is [width, (gate, head, unit)]."""
    w, b, a_param = params
    width = len(h) // heads
    blocks, rows = w.reshape(width, 2, heads, width), np.split(x, heads)
    read = np.array([[blocks[:, g, k].T @ rows[k] for k in range(heads)] for g in range(2)])
    r, i = sigmoid(read.reshape(2, -1) + b.reshape(2, -1))
    a = np.exp(-8 * r * softplus(a_param))
    h = a * h + (1 if fresh else np.sqrt(1 - a * a)) * i * x
    return h, h


def mamba_step(params, h, x):
    """A memory [H, N]; x sends R|N|N."""
    w, w_dt, b_dt, a_log, d = params
    rank, states = len(w_dt), h.shape[1]
    s, b, c = np.split(w.T @ x, [rank, rank + states])
    step = softplus(w_dt.T @ s + b_dt)
    h = np.exp(-step[:, None] * np.exp(a_log)) * h + (step * x)[:, None] * b
    return h, h @ c + d * x


def by_head(w, x, heads, key, gates):
    """Cut W x into q, k, v and gates of each head: a list of heads."""
    q, k, rest = np.split(w.T @ x, [heads * key, 2 * heads * key])
    v, g = np.split(rest, [len(rest) - gates * heads])
    parts = (q.reshape(heads, -1), k.reshape(heads, -1), v.reshape(heads, -1))
    return zip(*parts, g.reshape(gates, heads).T, strict=True)


def mlstm_step(params, carry, x, eps=1e-6, projected=False):
    """A head by itself; the greater of two logarithms is the stabiliser."""
    w, b = params
    w = np.concatenate([np.eye(len(x)), w], axis=-1) if projected else w
    heads, key = carry.n.shape
    cs, ns, ms, ys = [], [], [], []
    rows = zip(by_head(w, x, heads, key, 2), b.reshape(2, heads).T, *carry, strict=True)
    for (q, k, v, gates), bias, c, n, m in rows:
        i, f = gates + bias
        kept = np.log(sigmoid(f)) + m
        m = np.where(i.real > kept.real, i, kept)
        c = np.exp(kept - m) * c + np.exp(i - m) * np.outer(k, v)
        n = np.exp(kept - m) * n + np.exp(i - m) * k
        q = q / np.sqrt(key)
        weight = n @ q
        weight, least = np.where(weight.real < 0, -weight, weight), np.exp(-m)
        ys.append(c.T @ q / (np.where(weight.real > least.real, weight, least) + eps))
        cs, ns, ms = [*cs, c], [*ns, n], [*ms, m]
    return type(carry)(np.array(cs), np.array(ns), np.array(ms)), np.concatenate(ys)


def retnet_step(params, s, x):
    """Head h keeps 1 - 2 ** (-5 - h)."""
    (w,) = params
    heads, key, _ = s.shape
    new, ys = [], []
    for h, (q, k, v, _) in enumerate(by_head(w, x, heads, key, 0)):
        new.append((1 - 2.0 ** (-5 - h)) * s[h] + np.outer(k, v))
        ys.append(new[-1].T @ q / np.sqrt(key))
    return np.array(new), np.concatenate(ys)


def delta_step(params, s, x, beta_max=1.0, activation="silu"):
    """What the key held is read from the decayed memory, and a share of it is replaced."""
    w, b_dt, a_log = params
    heads, key, _ = s.shape
    new, ys = [], []
    for h, (q, k, v, g) in enumerate(by_head(w, x, heads, key, 1 if b_dt is None else 2)):
        q, k, v = (ACTIVATIONS[activation](a) for a in (q, k, v))
        q, k = (a / np.sqrt(np.sum(a * a) + 1e-6) for a in (q, k))
        kept = 1 if b_dt is None else np.exp(-np.exp(a_log[h]) * softplus(g[1] + b_dt[h]))
        old = kept * s[h]
        new.append(old + np.outer(k, beta_max * sigmoid(g[0]) * (v - old.T @ k)))
        ys.append(new[-1].T @ q / np.sqrt(key))
    return np.array(new), np.concatenate(ys)


def times(a, b):
    """A product of complex numbers in pairs."""
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def over(a, b):
    """A quotient of complex numbers in pairs."""
    size = b[0] * b[0] + b[1] * b[1]
    re, im = times(a, (b[0], -b[1]))
    return re / size, im / size


def s5_step(params, carry, x, discretisation="zoh"):
    """Complex in pairs, as in `lru_step`."""
    w_ih, w_ho, *rate, step_log, d = params
    (b_re, b_im), (c_re, c_im) = (np.split(w, 2, axis=-1) for w in (w_ih, w_ho))
    step = np.exp(step_log)
    re, im = step * rate[0], step * rate[1]
    if discretisation == "zoh":
        keep = np.exp(re) * np.cos(im), np.exp(re) * np.sin(im)
        write = over((keep[0] - 1, keep[1]), rate)
    else:
        keep = over((1 + re / 2, im / 2), (1 - re / 2, -im / 2))
        write = over((step, 0 * step), (1 - re / 2, -im / 2))
    kept, new = times(keep, carry), times(write, (b_re.T @ x, b_im.T @ x))
    re, im = kept[0] + new[0], kept[1] + new[1]
    return type(carry)(re, im), c_re.T @ re - c_im.T @ im + (0 if d is None else d * x)


def lru_step(params, carry, x):
    """h_t = lambda h_{t-1} + exp(gamma) B x_t, complex in pairs: the derivative's i is another."""
    d = params[5]
    re, im = carry
    (b_re, b_im), (c_re, c_im) = (np.split(w, 2, axis=-1) for w in params[:2])
    size, phase, scale = np.exp(-np.exp(params[2])), np.exp(params[3]), np.exp(params[4])
    l_re, l_im = size * np.cos(phase), size * np.sin(phase)
    new_re = l_re * re - l_im * im + scale * (b_re.T @ x)
    new_im = l_re * im + l_im * re + scale * (b_im.T @ x)
    y = c_re.T @ new_re - c_im.T @ new_im
    return type(carry)(new_re, new_im), y if d is None else y + d * x


def sums(params, h, x, gates):
    """The sums of the gates of a cell with w_ih, w_hh and one bias."""
    w, u, b = params
    return np.split(w.T @ x + u.T @ h + (0 if b is None else b), gates)


def janet_step(params, h, x, beta=1.0):
    """f is the fraction that is kept; gates stand in the order f|g."""
    f, g = sums(params, h, x, 2)
    h = sigmoid(f) * h + (1 - sigmoid(f - beta)) * np.tanh(g)
    return h, h


def ligru_step(params, h, x, activation="relu"):
    """z is the fraction that is written; gates stand in the order z|n."""
    z, n = sums(params, h, x, 2)
    h = (1 - sigmoid(z)) * h + sigmoid(z) * ACTIVATIONS[activation](n)
    return h, h


def coupled_step(params, carry, x):
    """Gates stand in the order f|g|o; the input gate is 1 - f."""
    f, g, o = sums(params, carry[0], x, 3)
    c = sigmoid(f) * carry[1] + (1 - sigmoid(f)) * np.tanh(g)
    h = sigmoid(o) * np.tanh(c)
    return type(carry)(h, c), h


def antisymmetric_step(params, h, x, eps=0.01, gamma=0.01):
    """h_t = h + eps z tanh(M h + V x + b), M = W - W^T - gamma I; matrices stand as [in, out]."""
    v, w, b, v_z, b_z = params
    m = (w - w.T - gamma * np.eye(len(h))).T @ h
    z = 1 if v_z is None else sigmoid(m + v_z.T @ x + b_z)
    h = h + eps * z * np.tanh(m + v.T @ x + b)
    return h, h


def cornn_step(params, carry, x, dt, gamma, epsilon):
    """y takes the new z."""
    (y, z), (v, w, w_z, b) = carry, params
    z = z + dt * (np.tanh(w.T @ y + w_z.T @ z + v.T @ x + b) - gamma * y - epsilon * z)
    y = y + dt * z
    return type(carry)(y, z), y


def grud_step(params, carry, inputs, act="tanh", hard=False, decayed=True):
    """Gates stand in the order r|z|n; z is written. `inputs` are values, observed and elapsed."""
    w, v, u, b, w_x, c_x, w_h, c_h = params
    h, last, since, begun = carry
    values, observed, elapsed = inputs
    delta = since + elapsed if begun.real > 0 else 0 * since
    x = np.array(
        [
            values[d] if observed[d] else np.exp(-relu(w_x[d] * delta[d] + c_x[d])) * last[d]
            for d in range(len(last))
        ]
    )
    faded = np.exp(-relu(w_h.T @ delta + c_h)) * h
    m = np.asarray(observed, float)
    fixed = np.split(w.T @ x + v.T @ m + (0 if b is None else b), 3)
    u_r, u_z, u_n = np.split(u, 3, axis=-1)
    gate = hard_sigmoid if hard else sigmoid
    r, z = gate(fixed[0] + u_r.T @ faded), gate(fixed[1] + u_z.T @ faded)
    n = ACTIVATIONS[act](fixed[2] + u_n.T @ (r * faded))
    h = (1 - z) * (faded if decayed else h) + z * n
    last, since = np.where(observed, x, last), np.where(observed, 0, delta)
    return type(carry)(h, last, since, np.ones(1)), h


def hard_sigmoid(a):
    a = 0.2 * a + 0.5
    return np.where(a.real < 0, 0, np.where(a.real > 1, 1, a))


def lem_step(params, carry, x, dt=1.0):
    """Gates stand in the order s_z|s_y|z|y; y takes the new z, and W_y multiplies it."""
    (y, z), (v, w, b) = carry, params
    p_1, p_2, p_z, p_y = np.split(v.T @ x + (0 if b is None else b), 4)
    w_1, w_2, w_z, w_y = np.split(w, 4, axis=-1)
    s_z, s_y = dt * sigmoid(p_1 + w_1.T @ y), dt * sigmoid(p_2 + w_2.T @ y)
    z = (1 - s_z) * z + s_z * np.tanh(p_z + w_z.T @ y)
    y = (1 - s_y) * y + s_y * np.tanh(p_y + w_y.T @ z)
    return type(carry)(y, z), y


def unicornn_step(params, carry, x, dt, alpha):
    """y takes the new z; w and c are vectors."""
    (y, z), (v, w, b, c) = carry, params
    step = dt * sigmoid(c)
    z = z - step * (np.tanh(w * y + v.T @ x + b) + alpha * y)
    y = y + step * z
    return type(carry)(y, z), y


def ctrnn_step(params, h, x, share, form="rate", activation="tanh"):
    """A step of Euler's method; `share` is dt / tau, or dt where tau is a parameter."""
    w, u, b, tau_log = params
    act, b = ACTIVATIONS[activation], 0 if b is None else b
    if tau_log is not None:
        share = share * np.exp(-tau_log)
        share = np.where(share.real < 1, share, 1)
    if form == "rate":
        h = (1 - share) * h + share * act(w.T @ x + u.T @ h + b)
        return h, h
    h = (1 - share) * h + share * (w.T @ x + u.T @ act(h) + b)
    return h, act(h)


def slstm_step(params, carry, x, heads=1):
    """Gates stand in the order i|f|z|o; a unit reads its own head."""
    h, c, n, m = carry
    w, r, b = params
    width = len(h) // heads
    rows = np.split(h, heads)  # r is [width, (gate, head, unit)]
    blocks = r.reshape(width, 4, heads, width)
    read = np.array([[blocks[:, g, k].T @ rows[k] for k in range(heads)] for g in range(4)])
    sums = (x if w is None else w.T @ x) + (0 if b is None else b)
    i, f, z, o = sums.reshape(4, -1) + read.reshape(4, -1)
    kept = np.log(sigmoid(f)) + m
    m = np.where((n == 0) | (i.real > kept.real), i, kept)
    c = np.exp(kept - m) * c + np.exp(i - m) * np.tanh(z)
    n = np.exp(kept - m) * n + np.exp(i - m)
    n = np.where(n.real < 1, 1, n)
    h = sigmoid(o) * c / n
    return type(carry)(h, c, n, m), h


def normal(a, scale, shift, eps=1e-6):
    """Normalise over the units."""
    centred = a - np.mean(a)
    return centred / np.sqrt(np.mean(centred**2) + eps) * scale + shift


def layernorm_gru_step(params, h, x):
    """What x and h send to each gate is normalised by itself, before the two are added."""
    (w, u, _, _), *tables = params
    x_r, x_z, x_n = (
        normal(block.T @ x, scale, shift)
        for block, scale, shift in zip(np.split(w, 3, axis=-1), *tables[:2], strict=True)
    )
    h_r, h_z, h_n = (
        normal(block.T @ h, scale, shift)
        for block, scale, shift in zip(np.split(u, 3, axis=-1), *tables[2:], strict=True)
    )
    z = sigmoid(x_z + h_z)
    n = np.tanh(x_n + sigmoid(x_r + h_r) * h_n)
    h = (1 - z) * h + z * n
    return h, h


def constrained_step(params, carry, x, step, signs=None, mask=None):
    """A cell with a recurrent matrix of given signs by row, and of zeros where `mask` is False."""
    w = params.w_hh
    if signs is not None:
        w = np.where(w.real >= 0, w, -w) * np.asarray(signs)[:, None]
    if mask is not None:
        w = np.where(np.tile(mask, w.shape[1] // w.shape[0]), w, 0)
    return step(params._replace(w_hh=w), carry, x)


def zoneout_lstm_step(params, carry, x, rates):
    """In evaluation a carry is the mean of the old one and the new one."""
    new, _ = lstm_step(params, carry, x)
    mean = type(carry)(*(r * a + (1 - r) * b for r, a, b in zip(rates, carry, new, strict=True)))
    return mean, mean[0]


def conv_step(params, window, x, activation="identity"):
    """A window of the last inputs, the newest last, and x: each feature has weights of its own."""
    w, b = params
    seen = np.concatenate([window, x[None]])
    y = np.sum(w * seen, axis=0) + (0 if b is None else b)
    return seen[1:], ACTIVATIONS[activation](y)


def pair_step(params, carry, x):
    """A cell that is no library's: a carry of two leaves, and a y that is not the carry."""
    h, n = carry
    h = params["a"] * np.tanh(h) + params["w"].T @ x
    n = n + np.sum(h * h)
    return (h, n), h * x[0] + 0.1 * n


def cut(valid: Sequence[int], resets: Sequence[bool]) -> list[list[int]]:
    """Cut the valid steps of one sequence where a new sequence starts."""
    parts: list[list[int]] = []
    for t in valid:
        if not parts or resets[t]:
            parts.append([])
        parts[-1].append(t)
    return parts


def unroll(
    step: Step,
    params: Any,
    xs: np.ndarray,
    carry: Any,
    fresh: Any,
    *,
    length: int | None = None,
    mask: Sequence[bool] | None = None,
    resets: Sequence[bool] | None = None,
    reverse: bool = False,
    first: Step | None = None,
) -> tuple[Any, list[np.ndarray | None], list[Any]]:
    """Run one sequence xs [T, D]: cut it, then run every part by itself.

    `first` is the step after a reset, where it is another one.

    Returns:
        The last carry; y of every step, None at padding; the carry after every step, in the order
        of reading, where padding holds the one before.
    """
    T = len(xs)
    mask = [True] * T if mask is None else mask
    resets = [False] * T if resets is None else resets
    valid = [t for t in range(T) if mask[t] and (length is None or t < length)]
    way = -1 if reverse else 1
    start, ys, after = carry, [None] * T, {}
    for i, part in enumerate(cut(valid, resets)[::way]):
        now = step
        if i > 0 or (resets[part[0]] and not reverse):
            carry, now = fresh, first or step
        for t in part[::way]:
            carry, ys[t] = now(params, carry, xs[t])
            after[t], now = carry, step
    carries, held = [None] * T, start
    for t in range(T)[::way]:
        held = after.get(t, held)
        carries[t] = held
    return carry, ys, carries
