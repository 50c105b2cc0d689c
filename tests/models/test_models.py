"""Named models: they equal their authors' code, in the numbers of a small one and in their counts.

`scripts/make_models.py` ran the authors' code: recurrentgemma 1.0.1 (hawk), mamba-ssm 2.2.2, xlstm
2.0.6, github.com/lindermanlab/S5, and github.com/NicolasZucchet/minimal-LRU for the LRU, whose
authors published no model. `models.npz` has weights by the names of the code, `models.json` how
many parameters a named size has.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells._model import param_shapes
from tests import goldens
from tests.support.laws import assert_same_bits

FOLDER = Path(goldens.__file__).parent
COUNTS = json.loads((FOLDER / "models.json").read_text("utf-8"))


def rms(scale):
    return sc.NormParams(scale, None)


def dense(a, name):
    return sc.DenseParams(a[f"{name}/kernel"], a[f"{name}/bias"])


def hawk(a):
    """Norms there multiply by 1 + scale."""

    def block(i):
        names, at = {}, f"blocks.{i}"
        for name in ("a_gate/w", "a_gate/b", "input_gate/w", "input_gate/b", "a_param"):
            names[name] = a[f"{at}/recurrent_block/rg_lru/{name}"]
        unit = sc.interop.recurrentgemma.load(names, sc.RGLRU(12, heads=2))
        conv = (a[f"{at}/recurrent_block/conv_1d/{name}"] for name in "wb")
        (gate, value), biases = (a[f"{at}/mlp_block/ffw_up/{name}"] for name in "wb")
        x, y, out = (dense(a, f"{at}/recurrent_block/linear_{part}") for part in ("x", "y", "out"))
        return sc.BlockParams(
            rms(1 + a[f"{at}/temporal_pre_norm/scale"]),
            (x, sc.CausalConvParams(*conv), unit),
            y,
            out,
            rms(1 + a[f"{at}/channel_pre_norm/scale"]),
            sc.GLUParams(
                sc.DenseParams(gate, biases[0, 0, 0]),
                sc.DenseParams(value, biases[1, 0, 0]),
                dense(a, f"{at}/mlp_block/ffw_down"),
            ),
        )

    embedding = sc.EmbedParams(a["embedder/input_embedding"])
    return embedding, block(0), block(1), rms(1 + a["final_norm/scale"])


def linear(w):
    """[out, in] -> a map without a bias."""
    return sc.DenseParams(w.T, None)


def convolution(a, name):
    """[D, 1, width] -> [width, D]."""
    return sc.CausalConvParams(a[f"{name}.weight"][:, 0].T, a[f"{name}.bias"])


def mamba(a):
    arrays = {name: array for name, array in a.items() if name.startswith("backbone.")}
    return sc.interop.mamba.load(arrays, tiny("mamba", vocab=8))


def by_head(*blocks):
    """[head, out, in] each -> a block-diagonal map without a bias, to all outputs in order."""
    rows = [np.moveaxis(w, 2, 0).reshape(w.shape[2], -1) for w in blocks]
    return sc.DenseParams(np.concatenate(rows, axis=-1), None)


def xlstm(a):
    """Norms there multiply by 1 + weight. The gate i of the sLSTM is what they name fgate."""
    a = {name.removeprefix("xlstm_block_stack."): array for name, array in a.items()}
    at = "blocks.0.xlstm"
    u, z = np.split(a[f"{at}.proj_up.weight"], 2)
    q, k, v = (a[f"{at}.{name}_proj.weight"] for name in "qkv")
    w, b = (
        np.concatenate([a[f"{at}.mlstm_cell.{gate}gate.{part}"] for gate in "if"])
        for part in ("weight", "bias")
    )
    memory = (
        ((None, by_head(q, k)), (None, by_head(v))),
        sc.MLSTMParams(w.T, b),
        rms(1 + a[f"{at}.mlstm_cell.outnorm.weight"]),
    )
    skip = (None, sc.CausalConvParams(a[f"{at}.learnable_skip"][None], None))
    first = sc.BlockParams(
        rms(1 + a["blocks.0.xlstm_norm.weight"]),
        (linear(u), convolution(a, f"{at}.conv1d.conv"), (memory, skip)),
        linear(z),
        linear(a[f"{at}.proj_down.weight"]),
    )
    at = "blocks.1.xlstm"
    i, f, z, o = (a[f"{at}.{name}gate.weight"] for name in "fizo")
    mixed = a[f"{at}.slstm_cell._recurrent_kernel_"].reshape(2, 4, 16, 16)  # head, gate, out, in
    unit = sc.SLSTMParams(
        None, mixed.transpose(3, 1, 0, 2).reshape(16, -1), a[f"{at}.slstm_cell._bias_"]
    )
    gate, value = map(linear, np.split(a["blocks.1.ffn.proj_up.weight"], 2))
    second = (
        (
            rms(1 + a["blocks.1.xlstm_norm.weight"]),
            ((convolution(a, f"{at}.conv1d.conv"), by_head(i, f)), by_head(z, o)),
            unit,
            rms(1 + a[f"{at}.group_norm.weight"]),
        ),
        (
            rms(1 + a["blocks.1.ffn_norm.weight"]),
            sc.GLUParams(gate, value, linear(a["blocks.1.ffn.proj_down.weight"])),
        ),
    )
    ends = rms(1 + a["post_blocks_norm.weight"]), linear(a["lm_head.weight"])
    return sc.EmbedParams(a["token_embedding.weight"]), first, second, *ends


def halves(parts):
    """Two matrices [out, in] -> [in, 2 * out]."""
    return np.concatenate([part.T for part in parts], axis=-1)


def classifier(a, block):
    ends = (dense(a, "encoder/encoder"), dense(a, "decoder"))
    return ends[0], *(block(f"encoder/layers_{i}") for i in range(2)), ends[1]


def s5(a):
    """A unit there stands for a conjugate pair, which counts twice in y."""

    def block(at):
        b, c, d, re, im, step = (
            a[f"{at}/seq/{name}"] for name in ("B", "C", "D", "Lambda_re", "Lambda_im", "log_step")
        )
        w_ih, w_ho = (halves(np.moveaxis(w, -1, 0)) for w in (b, 2 * c))
        norm = sc.NormParams(a[f"{at}/norm/scale"], a[f"{at}/norm/bias"])
        return norm, sc.S5Params(w_ih, w_ho, re, im, step[:, 0], d), None, dense(a, f"{at}/out2")

    return classifier(a, block)


def lru(a):
    def block(at):
        w_ih, w_ho = (
            halves(a[f"{at}/seq/{name}_{part}"] for part in ("re", "im")) for name in "BC"
        )
        rest = (a[f"{at}/seq/{name}"] for name in ("nu_log", "theta_log", "gamma_log", "D"))
        norm = (a[f"{at}/normalization/{name}"] for name in ("scale", "bias"))
        gated = dense(a, f"{at}/out1"), dense(a, f"{at}/out2")
        return sc.NormParams(*norm), sc.LRUParams(w_ih, w_ho, *rest), None, gated

    return classifier(a, block)


def classes(ys):
    """What their classifiers put out: their mean over time comes before the last map."""
    return jax.nn.log_softmax(ys.mean(axis=0))


def rows(ys):
    return ys.swapaxes(0, 1)


TINY = {
    "hawk": {"layers": 2, "width": 8, "rnn_width": 12, "heads": 2},
    "mamba": {"layers": 2, "width": 8, "state_size": 4},
    "xlstm": {"layers": 2, "width": 32, "heads": 2, "slstm_at": (1,)},
    "s5": {"layers": 2, "width": 8, "state_size": 5},
    "lru": {"layers": 2, "width": 8, "state_size": 5},
}
GOLDENS = {  # its parameters by the names of the code, and what the code puts out
    "hawk": (hawk, rows),
    "mamba": (mamba, rows),
    "xlstm": (xlstm, rows),
    "s5": (s5, classes),
    "lru": (lru, classes),
}


def tiny(model, **given):
    return getattr(sc.models, model)(**TINY[model], **given)


def drawn(net):
    """Parameters for symbols, none of them as they start."""
    rng = np.random.default_rng(0)
    shapes = param_shapes(net, ())
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), shapes)


@pytest.mark.parametrize("name", GOLDENS)
@pytest.mark.usefixtures("x64")
def test_a_model_equals_its_authors_code(name):
    convert, shown = GOLDENS[name]
    net = tiny(name, **({"vocab": 8} if name in VOCAB else {"outputs": 4}))
    arrays = goldens.read(name, "models.npz")
    params = jax.tree.map(jnp.asarray, convert(arrays))
    resets = arrays["positions"].T == 0 if name == "hawk" else None
    ys = jax.jit(sc.unroll)(net, params, arrays["xs"].swapaxes(0, 1), resets=resets)[1]
    np.testing.assert_allclose(shown(ys), arrays["ys"], rtol=1e-12, atol=1e-12)


VOCAB = {"hawk": 256_000, "mamba": 50_280, "xlstm": 50_304}
TASKS = {  # features of the inputs, and classes
    "mnist": (1, 10),
    "speech35": (1, 35),
    "lra-cifar": (1, 10),
    "scifar": (3, 10),
    "listops": (20, 10),
    "text": (135, 2),
}
SIZES = [(model, size) for model, counts in COUNTS.items() for size in counts]
FIRST = {(model, next(iter(counts))) for model, counts in COUNTS.items()}


@pytest.mark.parametrize(
    ("model", "size"),
    [pytest.param(*row, marks=[pytest.mark.slow] * (row not in FIRST)) for row in SIZES],
)
def test_a_named_size_has_as_many_parameters_as_the_authors_code_makes(model, size):
    features, outputs = TASKS.get(size, ((), None))
    net = getattr(sc.models, model)(size, vocab=VOCAB.get(model), outputs=outputs)
    assert sc.param_count(param_shapes(net, features)) == COUNTS[model][size]


@pytest.mark.parametrize("model", COUNTS)
def test_the_page_of_a_model_shows_its_sizes(model):
    assert list(COUNTS[model]) == list(sc.models.SIZES[model])
    page = (Path(__file__).parents[2] / "docs" / "models" / f"{model}.md").read_text("utf-8")
    for size, given in sc.models.SIZES[model].items():
        shown = [str(given[name]) for name in ("layers", "width")]
        cells = [f'`"{size}"`', *shown, f"{COUNTS[model][size]:,}"]
        assert any(all(f"| {cell} " in line for cell in cells) for line in page.split("\n")), cells


def test_what_is_given_goes_before_the_named_size():
    net = sc.models.mamba("130m", layers=1, width=16)
    assert net == sc.models.mamba(layers=1, width=16)
    assert sc.models.xlstm("125m[7:1]", layers=4, width=8, slstm_at=()) == sc.models.xlstm(
        layers=4, width=8, heads=4
    )


FEW = ("mamba", "s5")  # a model of symbols and one of vectors: the others are slow
over_few = pytest.mark.parametrize(
    "model", [pytest.param(m, marks=[pytest.mark.slow] * (m not in FEW)) for m in COUNTS]
)


@over_few
def test_vectors_come_in_and_features_go_out(model):
    """Without symbols there is a map before the blocks, and one after them if asked for."""
    bare, read, symbols = (
        tiny(model, **given) for given in ({}, {"outputs": 3}, {"vocab": 9, "outputs": 3})
    )
    assert [type(net.layers[0]) for net in (bare, read, symbols)] == [sc.Dense, sc.Dense, sc.Embed]
    sizes = [net.output_size(size) for net, size in ((bare, 5), (read, 5), (symbols, ()))]
    assert sizes == [TINY[model]["width"], 3, 3]
    assert not any(net.tied for net in (bare, read, symbols))


@over_few
def test_dtypes_reach_every_part(model):
    net = tiny(model, vocab=5, dtype="bfloat16", param_dtype="float16")
    params = param_shapes(net, ())
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float16")}
    ys = jax.eval_shape(lambda p: sc.unroll(net, p, jnp.zeros((2, 3), int))[1], params)
    assert ys.dtype == "bfloat16"


@over_few
def test_a_model_is_saved_and_loaded(model, tmp_path):
    """By both formats: a file that says which model it is, and Orbax, which is told the shapes."""
    pytest.importorskip("safetensors")
    ocp = pytest.importorskip("orbax.checkpoint")
    net = tiny(model, vocab=5)
    params = drawn(net)
    sc.interop.save(tmp_path / "net.safetensors", net, params)
    again, back = sc.interop.load(tmp_path / "net.safetensors")
    assert again == net
    assert_same_bits(back, params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "orbax", params)
        checkpointer.wait_until_finished()
        assert_same_bits(checkpointer.restore(tmp_path / "orbax", param_shapes(net, ())), params)


WRONG = {
    "an unknown size": (lambda: sc.models.mamba("7b"), "size: expected one of '130m', .* got '7b'"),
    "no size": (lambda: sc.models.hawk(width=8), "layers: expected a value .* size='100m', '200m'"),
    "no units": (lambda: sc.models.s5(layers=1, width=8), "state_size: expected a value without"),
    "no blocks": (
        lambda: sc.models.mamba(layers=0, width=8),
        "layers: expected an int >= 1, got 0",
    ),
    "no such block": (
        lambda: sc.models.xlstm(layers=2, width=8, heads=2, slstm_at=(2,)),
        "slstm_at: expected blocks below layers = 2, got 2",
    ),
    "heads of another size": (
        lambda: sc.models.hawk(layers=1, width=8, rnn_width=9, heads=2),
        "heads: expected a divisor of hidden_size = 9, got 2",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_says_what_was_expected(name):
    call, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        call()
