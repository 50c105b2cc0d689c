"""Cells equal the numbers of their authors' own code: outputs, last carries and gradients.

`tests/goldens/cells.npz` holds `CASE/NAME`: inputs, weights and carries by the names of the source,
`ys` and `final_*`, and `grad_NAME`, the gradient of `sum(ys ** 2)`. A row of `CASES` says how the
arrays of a source make a cell's arguments; gradients are taken through that, by the source's names.

Sources: flashrnn 1.0.8 (slstm); torch 2.13.0 (lstm_proj); github.com/tk-rusch/coRNN and /LEM;
github.com/PeterChe1990/GRU-D; github.com/JosvanderWesthuizen/janet; recurrentgemma 1.0.1 (rglru);
github.com/mravanelli/pytorch-kaldi (ligru); s5-pytorch 0.2.1 (s5); github.com/state-spaces/mamba,
which computes in float32; mlstm-kernels 2.0.6, recurrent (mlstm); fla-core 0.6.0, its naive forms,
which compute in float32 (gdn, deltanet, retention); github.com/lucidrains/minGRU-pytorch, not the
authors' own (mingru, minlstm); equations of the papers (unicornn, antisymmetric).
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells.cells.gated_delta_net import GatedDeltaNetDrive
from tests.goldens import read


class Golden(NamedTuple):
    """How a source's arrays are a cell's."""

    cell: sc.Cell
    params: Callable[[dict[str, jax.Array]], object]
    xs: Callable[[dict[str, jax.Array]], jax.Array]  # [T, B, D]
    # (carry, ys, the source's arrays) -> the source's outputs
    out: Callable[[object, jax.Array, dict[str, jax.Array]], dict[str, jax.Array]]
    flags: Callable[[dict[str, np.ndarray]], dict[str, object]] = lambda a: {}  # of unroll
    tol: float = 1e-12


def by_head(w):
    """[gate, head, unit, in] -> [in, (gate, head, unit)]."""
    return jnp.moveaxis(w, -1, 0).reshape(w.shape[-1], -1)


def slstm_params(a):
    return sc.SLSTMParams(by_head(a["W"]), by_head(a["R"]), a["b"].reshape(-1))


def slstm_out(carry, ys, a):
    heads = {f"final_{name}": leaf.reshape(2, 2, 3) for name, leaf in carry._asdict().items()}
    return heads | {"ys": jnp.moveaxis(ys, 0, 1).reshape(2, 9, 2, 3)}


def projected_params(a):
    """Matrices are [out, in] there, and there are two biases."""
    w_ih, w_hh, w_hr = (a[f"weight_{name}_l0"].T for name in ("ih", "hh", "hr"))
    return sc.LSTMParams(w_ih, w_hh, a["bias_ih_l0"] + a["bias_hh_l0"], w_hr=w_hr)


def candidate_last(w):
    """The candidate's block first -> last."""
    return jnp.roll(w, w.shape[-1] // 2, axis=-1)


def janet_params(a):
    return sc.JANETParams(*(candidate_last(a[name]) for name in ("W_xh", "W_hh", "bias")))


def ligru_params(a):
    """Their z keeps the old value."""
    w, u, b = (
        jnp.concatenate([-a[f"{name}z"], a[f"{name}h"]], axis=0).T for name in ("W", "U", "b")
    )
    return sc.LiGRUParams(w, u, b)


def cornn_params(a):
    w_ih, w_zh, w_hh = jnp.split(a["W"].T, [3, 8])
    return sc.CoRNNParams(w_ih, w_hh, w_zh, a["b"])


def lem_params(a):
    """Their blocks are 2|1|y|z of x and 2|1|z of y; the biases of both are added."""
    p_2, p_1, p_y, p_z = jnp.split(jnp.concatenate([a["W_in"], a["b_in"][:, None]], axis=1), 4)
    q_2, q_1, q_z = jnp.split(jnp.concatenate([a["W_hid"], a["b_hid"][:, None]], axis=1), 3)
    q_y = jnp.concatenate([a["W_z"], a["b_z"][:, None]], axis=1)
    w_in, w_hid = jnp.concatenate([p_1, p_2, p_z, p_y]).T, jnp.concatenate([q_1, q_2, q_z, q_y]).T
    return sc.LEMParams(w_in[:-1], w_hid[:-1], w_in[-1] + w_hid[-1])


def grud_params(a):
    """Their gates are z|r|n, z keeps the old value, and V multiplies 1 - m."""

    def ours(w):
        z, r, n = jnp.split(w, 3, axis=-1)
        return jnp.concatenate([r, -z, n], axis=-1)

    b = a["bias"] + jnp.sum(a["V"], axis=0)
    decays = (a[name] for name in ("wx", "bx", "Wgh", "bgh"))
    return sc.GRUDParams(ours(a["W"]), ours(-a["V"]), ours(a["U"]), ours(b), *decays)


def grud_inputs(a):
    """They read the time itself, batch first."""
    elapsed = jnp.diff(a["s"], axis=1, prepend=a["s"][:, :1])
    inputs = sc.GRUDInputs(a["x"], read("grud_a")["m"], elapsed)
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), inputs)


def grud_out(carry, ys, a):
    previous = read("grud_a")["s"][:, -1] - carry.since
    finals = {"final_h": carry.h, "final_keep": carry.last, "final_sprev": previous}
    return finals | {"ys": jnp.swapaxes(ys, 0, 1)}


def last(**leaves):
    """Outputs by the source's names."""
    return lambda carry, ys, a: (
        {"ys": ys} | {f"final_{name}": of(carry) for name, of in leaves.items()}
    )


def batch_first(**leaves):
    """Outputs by the source's names, [B, T, H]."""
    return lambda carry, ys, a: last(**leaves)(carry, ys.swapaxes(0, 1), a)


def whole(carry):
    return carry


def time_first(a):
    return a["x"].swapaxes(0, 1)


def lucidrains(kind):
    """Their candidate comes first."""
    return lambda a: kind(jnp.concatenate([a["W"][6:], a["W"][:6]]).T, None)


def rglru_params(a):
    names = {"a_gate.w": "Wa", "a_gate.b": "ba", "input_gate.w": "Wx", "input_gate.b": "bx"}
    arrays = {ours: a[name] for ours, name in names.items()} | {"a_param": a["a_param"]}
    return sc.interop.recurrentgemma.load(arrays, sc.RGLRU(6, heads=2))


def s5_params(a):
    w_ih, w_ho = (jnp.concatenate([a[f"{name}_re"].T, a[f"{name}_im"].T], axis=-1) for name in "BC")
    return sc.S5Params(w_ih, w_ho, a["Lam_re"], a["Lam_im"], a["log_step"], a["D"])


def s5_carry(a):
    return {"carry": sc.LRUCarry(a["x0_re"], a["x0_im"])} if "x0_re" in a else {}


def s5(**options):
    """P complex states."""
    return Golden(
        sc.S5(**options),
        s5_params,
        lambda a: a["u"].swapaxes(0, 1),
        batch_first(x_re=lambda carry: carry.re, x_im=lambda carry: carry.im),
        s5_carry,
    )


def mamba_xs(a):
    """They give delta, B and C beside u: here these are features, which weights of 0 and 1 read."""
    return jnp.concatenate([jnp.moveaxis(a[name], -1, 0) for name in ("u", "delta", "B", "C")], -1)


def mamba_params(a):
    def pad(rows, value):
        return jnp.pad(rows, [(0, 14)] + [(0, 0)] * (rows.ndim - 1), constant_values=value)

    logs = jnp.log(-a["A"])
    w_dt = jnp.eye(4, 18, dtype=logs.dtype)  # for the other features no time passes but ln 2
    return sc.MambaParams(
        jnp.eye(18, k=0, dtype=logs.dtype)[:, 4:],
        w_dt,
        pad(a["delta_bias"], 0),
        pad(logs, 0),
        pad(a["D"], 0),
    )


def mamba_out(carry, ys, a):
    """Their gate z belongs to the block."""
    return {"ys": jnp.moveaxis(ys[..., :4], 0, -1) * jax.nn.silu(a["z"]), "final_x": carry[:, :4]}


def parts(*names, time=2):
    """What is given for each head, joined to features: [B, heads, T, ...] -> [T, B, ...]."""

    def xs(a):
        whole = [jnp.moveaxis(a[name], time, 0) for name in names]
        return jnp.concatenate([w.reshape(*w.shape[:2], -1) for w in whole], axis=-1)

    return xs


def by_heads(time=2, **leaves):
    """Outputs by the source's names: [T, B, heads * V] -> [B, heads, T, V], two heads."""

    def out(carry, ys, a):
        ys = jnp.moveaxis(ys.reshape(*ys.shape[:2], 2, -1), 0, time)
        return {"ys": ys} | {f"final_{name}": of(carry) for name, of in leaves.items()}

    return out


@dataclasses.dataclass(frozen=True, repr=False)
class GivenDelta(sc.GatedDeltaNet):
    """The recurrence alone, with q, k, beta and the logarithm of the decay as they are given."""

    def project(self, params, x):
        q, k, v, gates = self._cut(x)
        log_alpha = gates[..., 1, :] if self.decay else None
        return GatedDeltaNetDrive(q * self.matrix[0] ** -0.5, k, v, gates[..., 0, :], log_alpha)


def delta_params(features, decay):
    w, gate = jnp.zeros((features, features)), jnp.zeros(2) if decay else None
    return lambda a: sc.GatedDeltaNetParams(w, gate, gate)


MATRIX = {"hidden_size": 6, "heads": 2, "key_size": 4}
POSITIONS = last(y=lambda carry: carry.y, z=lambda carry: carry.z)
CASES = {
    "slstm_a": Golden(
        sc.SLSTM(6, heads=2), slstm_params, lambda a: a["x"].swapaxes(0, 1), slstm_out
    ),
    "lstm_proj_1": Golden(
        sc.LSTM(6, proj_size=3),
        projected_params,
        lambda a: a["x"],
        last(h=lambda carry: carry.h[None], c=lambda carry: carry.c[None]),
    ),
    "janet_a": Golden(sc.JANET(5), janet_params, lambda a: a["x"], last(c=whole, h=whole)),
    "ligru_a": Golden(sc.LiGRU(5), ligru_params, lambda a: a["x"], last(h=whole)),
    "cornn_a": Golden(
        sc.coRNN(5, dt=0.3, gamma=1.2, epsilon=0.8), cornn_params, lambda a: a["x"], POSITIONS
    ),
    "grud_a": Golden(
        sc.GRUD(5, "sigmoid", gate_activation="hard_sigmoid", decayed_mix=False),
        grud_params,
        grud_inputs,
        grud_out,
    ),
    "lem_a": Golden(sc.LEM(5), lem_params, lambda a: a["x"], POSITIONS),
    "unicornn_a": Golden(
        sc.UnICORNN(5, dt=0.5, alpha=0.9),
        lambda a: sc.UnICORNNParams(a["V"].T, a["w"], a["b"], a["c"]),
        lambda a: a["x"],
        POSITIONS,
    ),
    "antisymmetric_a": Golden(
        sc.AntisymmetricRNN(5, eps=0.2, gamma=0.01),
        lambda a: sc.AntisymmetricRNNParams(a["V"].T, a["W"].T, a["b"]),
        lambda a: a["x"],
        last(h=whole),
    ),
    "mingru_a": Golden(
        sc.MinGRU(6, "positive", bias="none"),
        lucidrains(sc.MinGRUParams),
        time_first,
        batch_first(h=lambda carry: carry[:, None]),
    ),
    "minlstm_a": Golden(
        sc.MinLSTM(6, "positive", bias="none"),
        lucidrains(sc.MinLSTMParams),
        time_first,
        batch_first(h=lambda carry: carry[:, None]),
    ),
    "rglru_a": Golden(
        sc.RGLRU(6, heads=2),
        rglru_params,
        time_first,
        batch_first(h=whole),
        lambda a: {"resets": a["segment_pos"].T == 0},
    ),
    "s5_zoh": s5(hidden_size=4),
    "s5_bilinear": s5(hidden_size=6, discretisation="bilinear"),
    "mamba_a": Golden(
        sc.Mamba(18, state_size=5, rank=4), mamba_params, mamba_xs, mamba_out, tol=2e-6
    ),
    "mlstm_a": Golden(
        sc.MLSTM(**MATRIX),
        lambda a: sc.MLSTMParams(jnp.eye(26), jnp.zeros(4)),
        parts(*"qkvif"),
        by_heads(C=lambda carry: carry.c, n=lambda carry: carry.n, m=lambda c: c.m[..., None]),
    ),
    "gdn_a": Golden(
        GivenDelta(**MATRIX),
        delta_params(26, decay=True),
        parts(*"qkv", "beta", "g", time=1),
        by_heads(time=1, S=whole),
        tol=2e-6,
    ),
    "deltanet_a": Golden(
        GivenDelta(**MATRIX, decay=False),
        delta_params(24, decay=False),
        parts(*"qkv", "beta"),
        by_heads(S=whole),
        tol=2e-6,
    ),
    "retention_a": Golden(
        sc.RetNet(**MATRIX),
        lambda a: sc.RetNetParams(jnp.eye(22)),
        parts(*"qkv"),
        by_heads(),
        tol=2e-6,
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("x64")
def test_a_cell_equals_its_authors_code(name):
    golden, arrays = CASES[name], read(name)
    wanted = {key: a for key, a in arrays.items() if key == "ys" or key.startswith("final_")}
    gradients = {key[5:]: a for key, a in arrays.items() if key.startswith("grad_")}

    def run(inputs):
        given = arrays | inputs
        flags = golden.flags(given)
        carry, ys = sc.unroll(golden.cell, golden.params(given), golden.xs(given), **flags)
        out = golden.out(carry, ys, given)
        return jnp.sum(out["ys"] ** 2), out

    inputs = {key: jnp.asarray(arrays[key]) for key in gradients}
    gradient, got = jax.jit(jax.grad(run, has_aux=True))(inputs)
    assert got.keys() == wanted.keys()
    tol = golden.tol
    for key, value in wanted.items():
        np.testing.assert_allclose(got[key], value, rtol=tol, atol=tol, err_msg=key)
    for key, value in gradients.items():
        np.testing.assert_allclose(gradient[key], value, rtol=10 * tol, atol=tol, err_msg=key)
