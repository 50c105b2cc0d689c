"""Cells equal the numbers of their authors' own code: outputs, last carries and gradients.

A case has inputs, weights and carries by the names of the source, `ys` and `final_*`, and
`grad_NAME`, the gradient of `sum(ys ** 2)`. A row of `CASES` says how the arrays of a source make a
cell's arguments; gradients are taken through that, by the source's names. The rows of `RESETS`
have resets and given carries; `scripts/make_cell_goldens.py` makes their arrays, and names them.

Sources: flashrnn 1.0.8 (slstm); torch 2.13.0 (lstm_proj); github.com/tk-rusch/coRNN and /LEM;
github.com/PeterChe1990/GRU-D; github.com/JosvanderWesthuizen/janet; recurrentgemma 1.0.1 (rglru);
github.com/mravanelli/pytorch-kaldi (ligru); s5-pytorch 0.2.1 (s5); github.com/state-spaces/mamba,
which computes in float32; mlstm-kernels 2.0.6, recurrent (mlstm); fla-core 0.6.0, its naive forms,
which compute in float32 (gdn, deltanet, retention); github.com/lucidrains/minGRU-pytorch, not the
authors' own (mingru, minlstm); keras 3 (convlstm); equations of the papers (unicornn,
antisymmetric).
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
from tests.goldens import names, read

INITIAL = {"x0_re": "initial_x_re", "x0_im": "initial_x_im"}  # as cells.npz has it


class Golden(NamedTuple):
    """How a source's arrays are a cell's."""

    cell: sc.Cell
    params: Callable[[dict[str, jax.Array]], object]
    xs: Callable[[dict[str, jax.Array]], jax.Array]  # [T, B, D]
    # (carry, ys, the source's arrays) -> the source's outputs
    out: Callable[[object, jax.Array, dict[str, jax.Array]], dict[str, jax.Array]]
    # (leaves of a carry of the source, the source's arrays) -> a carry
    carry: Callable[[dict[str, jax.Array], dict[str, jax.Array]], object] = lambda c, a: c["h"]
    tol: float = 1e-12


def flags(golden, a):
    """The carries that a case gives, and its resets."""
    result, a = {}, {INITIAL.get(key, key): leaf for key, leaf in a.items()}
    for prefix, name in {"initial_": "carry", "reset_": "reset_carry"}.items():
        leaves = {key.removeprefix(prefix): a[key] for key in a if key.startswith(prefix)}
        if leaves:
            result[name] = golden.carry(leaves, a)
    if "segment_pos" in a:  # recurrentgemma's: a sequence starts at position 0
        result["resets"] = a["segment_pos"].T == 0
    elif "resets" in a:
        result["resets"] = a["resets"]
    return result


def fields(kind):
    """A carry whose leaves have the source's names."""
    return lambda c, a: kind(**c)


def slstm_out(carry, ys, a):
    heads = {f"final_{name}": leaf for name, leaf in carry._asdict().items()}
    out = heads | {"ys": ys.swapaxes(0, 1)}
    return {name: leaf.reshape(a[name].shape) for name, leaf in out.items()}


def slstm(size, heads):
    """Their carry is [B, head, unit]."""
    cell = sc.SLSTM(size, heads=heads)
    return Golden(
        cell,
        lambda a: sc.interop.flashrnn.load({name: a[name] for name in "WRb"}, cell),
        time_first,
        slstm_out,
        lambda c, a: sc.SLSTMCarry(**{key: leaf.reshape(len(leaf), -1) for key, leaf in c.items()}),
    )


def projected_params(a):
    """Matrices are [out, in] there, and there are two biases."""
    w_ih, w_hh, w_hr = (a[f"weight_{name}_l0"].T for name in ("ih", "hh", "hr"))
    return sc.LSTMParams(w_ih, w_hh, a["bias_ih_l0"] + a["bias_hh_l0"], w_hr=w_hr)


def projected(size, proj_size):
    """Their carry has an axis of layers."""
    return Golden(
        sc.LSTM(size, proj_size=proj_size),
        projected_params,
        as_is,
        last(h=lambda carry: carry.h[None], c=lambda carry: carry.c[None]),
        lambda c, a: sc.LSTMCarry(c["h"][0], c["c"][0]),
    )


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
    """Their one matrix reads x, z and y."""
    size = len(a["b"])
    w_ih, w_zh, w_hh = a["W"][:, : -2 * size].T, a["W"][:, -2 * size : -size].T, a["W"][:, -size:].T
    return sc.CoRNNParams(w_ih, w_hh, w_zh, a["b"])


def cornn(size):
    cell = sc.coRNN(size, dt=0.3, gamma=1.2, epsilon=0.8)
    return Golden(cell, cornn_params, as_is, POSITIONS, fields(sc.CoRNNCarry))


def lem_params(a):
    """Their blocks are 2|1|y|z of x and 2|1|z of y; the biases of both are added."""
    p_2, p_1, p_y, p_z = jnp.split(jnp.concatenate([a["W_in"], a["b_in"][:, None]], axis=1), 4)
    q_2, q_1, q_z = jnp.split(jnp.concatenate([a["W_hid"], a["b_hid"][:, None]], axis=1), 3)
    q_y = jnp.concatenate([a["W_z"], a["b_z"][:, None]], axis=1)
    w_in, w_hid = jnp.concatenate([p_1, p_2, p_z, p_y]).T, jnp.concatenate([q_1, q_2, q_z, q_y]).T
    return sc.LEMParams(w_in[:-1], w_hid[:-1], w_in[-1] + w_hid[-1])


def lem(size):
    return Golden(sc.LEM(size), lem_params, as_is, POSITIONS, fields(sc.LEMCarry))


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
    inputs = sc.GRUDInputs(a["x"], a["m"], elapsed)
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), inputs)


def grud_carry(c, a):
    """They carry the time itself; here it counts from the first step, where `elapsed` is 0."""
    begun = jnp.ones_like(c["h"], shape=(len(c["h"]), 1))
    return sc.GRUDCarry(c["h"], c["keep"], a["s"][:, 0] - c["sprev"], begun)


def grud_out(carry, ys, a):
    previous = a["s"][:, -1] - carry.since
    finals = {"final_h": carry.h, "final_keep": carry.last, "final_sprev": previous}
    return finals | {"ys": jnp.swapaxes(ys, 0, 1)}


def grud(size):
    options = {"gate_activation": "hard_sigmoid", "decayed_mix": False}
    return Golden(
        sc.GRUD(size, "sigmoid", **options), grud_params, grud_inputs, grud_out, grud_carry
    )


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


def as_is(a):
    return a["x"]


def janet(size):
    return Golden(sc.JANET(size), janet_params, as_is, last(h=whole))


def ligru(size):
    return Golden(sc.LiGRU(size), ligru_params, as_is, last(h=whole))


def lucidrains(cell):
    """Their candidate comes first, and their carry has an axis of time."""

    def params(a):
        candidate, gates = jnp.split(a["W"], [cell.hidden_size])
        return cell.PARAMS(jnp.concatenate([gates, candidate]).T, None)

    out = batch_first(h=lambda carry: carry[:, None])
    return Golden(cell, params, time_first, out, lambda c, a: c["h"][:, 0])


def convlstm(size, kernel_size):
    """Keras's gates have the same order."""
    cell = sc.ConvLSTM(size, kernel_size=kernel_size)
    weights = ("kernel", "recurrent_kernel", "bias")
    finals = {"h": lambda carry: carry.h, "c": lambda carry: carry.c}
    return Golden(
        cell,
        lambda a: sc.ConvLSTMParams(*(a[name] for name in weights)),
        time_first,
        batch_first(**finals),
        fields(sc.LSTMCarry),
    )


def mingru(size):
    return lucidrains(sc.MinGRU(size, "positive", bias="none"))


def minlstm(size):
    return lucidrains(sc.MinLSTM(size, "positive", bias="none"))


def rglru(size, heads):
    cell = sc.RGLRU(size, heads=heads)
    names = {"a_gate.w": "Wa", "a_gate.b": "ba", "input_gate.w": "Wx", "input_gate.b": "bx"}

    def params(a):
        arrays = {ours: a[name] for ours, name in names.items()} | {"a_param": a["a_param"]}
        return sc.interop.recurrentgemma.load(arrays, cell)

    return Golden(cell, params, time_first, batch_first(h=whole))


def s5_params(a):
    w_ih, w_ho = (jnp.concatenate([a[f"{name}_re"].T, a[f"{name}_im"].T], axis=-1) for name in "BC")
    return sc.S5Params(w_ih, w_ho, a["Lam_re"], a["Lam_im"], a["log_step"], a["D"])


def s5(size, **options):
    """P complex states."""
    return Golden(
        sc.S5(size, **options),
        s5_params,
        lambda a: a["u"].swapaxes(0, 1),
        batch_first(x_re=lambda carry: carry.re, x_im=lambda carry: carry.im),
        lambda c, a: sc.LRUCarry(c["x_re"], c["x_im"]),
    )


def mamba_xs(a):
    """They give delta, B and C beside u: here these are features, which weights of 0 and 1 read."""
    return jnp.concatenate([jnp.moveaxis(a[name], -1, 0) for name in ("u", "delta", "B", "C")], -1)


def mamba(size, state_size):
    """A cell for u, delta, B and C side by side; their gate z belongs to the block."""
    features = 2 * (size + state_size)

    def params(a):
        def pad(rows, value):
            widths = [(0, features - size)] + [(0, 0)] * (rows.ndim - 1)
            return jnp.pad(rows, widths, constant_values=value)

        logs = jnp.log(-a["A"])
        w_dt = jnp.eye(size, features, dtype=logs.dtype)  # elsewhere the time step is ln 2
        w_in = jnp.eye(features, dtype=logs.dtype)[:, size:]
        return sc.MambaParams(w_in, w_dt, pad(a["delta_bias"], 0), pad(logs, 0), pad(a["D"], 0))

    def out(carry, ys, a):
        gated = jnp.moveaxis(ys[..., :size], 0, -1) * jax.nn.silu(a["z"])
        return {"ys": gated, "final_x": carry[:, :size]}

    cell = sc.Mamba(features, state_size=state_size, rank=size)
    return Golden(cell, params, mamba_xs, out, tol=2e-6)


@dataclasses.dataclass(frozen=True, repr=False)
class GivenDelta(sc.GatedDeltaNet):
    """The recurrence alone, with q, k, beta and the logarithm of the decay as they are given."""

    def project(self, params, x):
        (q, k, v), gates = self._cut(x)
        log_alpha = gates[1] if self.decay else None
        return GatedDeltaNetDrive(q * self.matrix[0] ** -0.5, k, v, gates[0], log_alpha)


def mlstm_carry(c, a):
    """Their stabiliser has one more axis."""
    return sc.MLSTMCarry(c["C"], c["n"], c["m"][..., 0])


def memory(source, heads, key, value):
    """A cell whose features are what the source is given for each head, side by side."""
    gates = {"mlstm": "if", "gdn": ("beta", "g"), "deltanet": ("beta",), "retention": ()}[source]
    names, time = (*"qkv", *gates), 1 if source == "gdn" else 2
    features = heads * (2 * key + value + len(gates))
    sizes = {"hidden_size": heads * value, "heads": heads, "key_size": key}

    def params(a):
        w, gate = jnp.eye(features), jnp.zeros(heads)
        if source == "mlstm":
            return sc.MLSTMParams(w, jnp.zeros(2 * heads))
        if source == "retention":
            return sc.RetNetParams(w)
        return sc.GatedDeltaNetParams(w, *[gate if source == "gdn" else None] * 2)

    def xs(a):
        whole = [jnp.moveaxis(a[name], time, 0) for name in names]
        return jnp.concatenate([w.reshape(*w.shape[:2], -1) for w in whole], axis=-1)

    def out(carry, ys, a):
        found = {"ys": jnp.moveaxis(ys.reshape(*ys.shape[:2], heads, -1), 0, time)}
        if source == "mlstm":
            return found | {"final_C": carry.c, "final_n": carry.n, "final_m": carry.m[..., None]}
        return found | ({"final_S": carry} if "final_S" in a else {})

    if source == "mlstm":
        return Golden(sc.MLSTM(**sizes), params, xs, out, mlstm_carry)
    retains, decay = source == "retention", source == "gdn"
    cell = sc.RetNet(**sizes) if retains else GivenDelta(**sizes, decay=decay)
    return Golden(cell, params, xs, out, lambda c, a: c["S"], tol=2e-6)


SIZES = {"a": (2, 4, 3), "resets": (2, 3, 5), "reset_carry": (1, 5, 3), "one": (1, 3, 1)}
MEMORIES = {
    f"{source}_{case}": memory(source, *sizes)
    for source in ("mlstm", "gdn", "deltanet", "retention")
    for case, sizes in SIZES.items()
}
POSITIONS = last(y=lambda carry: carry.y, z=lambda carry: carry.z)
CASES = {
    "slstm_a": slstm(6, heads=2),
    "lstm_proj_1": projected(6, proj_size=3),
    "janet_a": janet(5)._replace(out=last(c=whole, h=whole)),
    "ligru_a": ligru(5),
    "cornn_a": cornn(5),
    "grud_a": grud(5),
    "lem_a": lem(5),
    "unicornn_a": Golden(
        sc.UnICORNN(5, dt=0.5, alpha=0.9),
        lambda a: sc.UnICORNNParams(a["V"].T, a["w"], a["b"], a["c"]),
        as_is,
        POSITIONS,
    ),
    "antisymmetric_a": Golden(
        sc.AntisymmetricRNN(5, eps=0.2, gamma=0.01),
        lambda a: sc.AntisymmetricRNNParams(a["V"].T, a["W"].T, a["b"]),
        as_is,
        last(h=whole),
    ),
    "mingru_a": mingru(6),
    "minlstm_a": minlstm(6),
    "rglru_a": rglru(6, heads=2),
    "s5_zoh": s5(4),
    "s5_bilinear": s5(6, discretisation="bilinear"),
    "mamba_a": mamba(4, state_size=5),
    **{name: case for name, case in MEMORIES.items() if name.endswith("_a")},
}
RESETS = {
    "slstm_resets": slstm(6, heads=2),
    "slstm_reset_carry": slstm(5, heads=1),
    "slstm_one": slstm(1, heads=1),
    "lstm_proj_resets": projected(4, proj_size=3),
    "lstm_proj_reset_carry": projected(5, proj_size=1),
    "lstm_proj_one": projected(2, proj_size=1),
    "janet_resets": janet(3),
    "janet_reset_carry": janet(1),
    "janet_one": janet(2),
    "ligru_resets": ligru(3),
    "ligru_one": ligru(2),
    "cornn_resets": cornn(3),
    "cornn_reset_carry": cornn(1),
    "cornn_one": cornn(2),
    "lem_resets": lem(3),
    "lem_reset_carry": lem(1),
    "lem_one": lem(2),
    "grud_resets": grud(3),
    "grud_one": grud(1),
    "mingru_resets": mingru(3),
    "mingru_reset_carry": mingru(1),
    "mingru_one": mingru(2),
    "minlstm_resets": minlstm(3),
    "minlstm_reset_carry": minlstm(1),
    "minlstm_one": minlstm(2),
    "rglru_resets": rglru(6, heads=2),
    "rglru_one": rglru(3, heads=1),
    "s5_resets": s5(3),
    "s5_bilinear_reset_carry": s5(1, discretisation="bilinear"),
    "s5_one": s5(2),
    "mamba_resets": mamba(3, state_size=2),
    "mamba_one": mamba(1, state_size=3),
    "convlstm_resets": convlstm(2, (3, 3)),
    "convlstm_reset_carry": convlstm(3, (2, 3)),
    "convlstm_one": convlstm(1, (1, 2)),
    **{name: case for name, case in MEMORIES.items() if not name.endswith("_a")},
}


def test_every_stored_case_has_a_row():
    assert set(CASES) == {name.partition("/")[0] for name in names("cells.npz")}
    assert set(RESETS) == names("resets.npz")


@pytest.mark.parametrize(
    "name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in RESETS)]
)
@pytest.mark.usefixtures("x64")
def test_a_cell_equals_its_authors_code(name):
    golden, arrays = (CASES | RESETS)[name], read(name)
    wanted = {key: a for key, a in arrays.items() if key == "ys" or key.startswith("final_")}
    gradients = {key[5:]: a for key, a in arrays.items() if key.startswith("grad_")}

    def run(inputs):
        given = arrays | inputs
        xs, params = golden.xs(given), golden.params(given)
        carry, ys = sc.unroll(golden.cell, params, xs, **flags(golden, given))
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
