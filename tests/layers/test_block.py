"""Laws of the residual block: it is its parts, put together by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from tests.support.laws import B, D, H, T, assert_close, assert_same_bits, draw_flags, valid_steps

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
XS = jnp.sin(jnp.arange(T * B * D, dtype="float32")).reshape(T, B, D)
FLAGS = draw_flags()
VALID = valid_steps(FLAGS)[..., None]
CELL = sc.MinGRU(H)  # in the place of a paper's own
PAPERS = {
    "griffin": sc.Block(
        sc.Stack((sc.Dense(5), sc.CausalConv(4), CELL)), mlp=sc.GLU(3 * D, "gelu"), gate="gelu"
    ),
    "mamba": sc.Block(
        sc.Stack((sc.Dense(2 * D, bias="none"), sc.CausalConv(4, "silu"), CELL)),
        sc.Norm("rms", eps=0.1),
        gate="silu",
        bias="none",
    ),
    "xlstm": sc.Block(
        sc.Stack((sc.CausalConv(4, "silu"), sc.SLSTM(4, heads=2), sc.Norm("layer"))),
        "layer",
        mlp=sc.GLU(4 * D // 3, "gelu"),
    ),
    "plain": sc.Block(sc.GRU(H)),
}
over_papers = pytest.mark.parametrize("name", PAPERS)


def drawn(net):
    """Parameters, none of them as they start."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: net.init(KEY, D))
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), shapes)


def by_hand(block, params, xs, **flags):
    """The two halves, each of their parts called by itself."""
    norm = block.norm if isinstance(block.norm, sc.Norm) else sc.Norm(block.norm)
    act = {"gelu": jax.nn.gelu, "silu": jax.nn.silu}.get(block.gate)

    def plus(a, p):
        return a if p is None else a + p

    seen = sc.unroll(norm, params.norm, xs)[1]
    carry, ys = sc.unroll(block.cell, params.cell, seen, **flags)
    if act is not None:
        ys = ys * act(plus(seen @ params.gate.w, params.gate.b))
    ys = xs + plus(ys @ params.out.w, params.out.b)
    if block.mlp is not None:
        ys = ys + sc.unroll(block.mlp, params.mlp, sc.unroll(norm, params.mlp_norm, ys)[1])[1]
    return sc.BlockCarry(carry, ()), jnp.where(VALID, ys, 0) if flags else ys


@over_papers
@pytest.mark.parametrize("flags", [{}, FLAGS], ids=["no flags", "all flags"])
def test_a_block_is_its_parts(name, flags):
    block, params = PAPERS[name], drawn(PAPERS[name])
    got = jax.jit(functools.partial(sc.unroll, block))(params, XS, **flags)
    with jax.numpy_rank_promotion("allow"):
        expected = jax.jit(functools.partial(by_hand, block))(params, XS, **flags)
    assert_close(got, expected, 2e-5)


def test_without_a_part_there_are_no_parameters_of_it():
    plain, full = PAPERS["plain"].init(KEY, D), PAPERS["griffin"].init(KEY, D)
    assert (plain.gate, plain.mlp_norm, plain.mlp) == (None, None, None)
    assert isinstance(full.gate, sc.DenseParams)
    assert full.gate.w.shape == (D, H)
    assert full.out.w.shape == (H, D)
    assert isinstance(full.mlp, sc.GLUParams)
    assert PAPERS["mamba"].init(KEY, D).out.b is None


def test_parts_draw_parameters_of_their_own():
    params = sc.Block(sc.GRU(D), gate="silu").init(KEY, D)
    assert np.all(params.gate.w != params.out.w)


def test_noise_of_the_parts_is_that_of_the_key():
    block = sc.Block(sc.Zoneout(sc.GRU(H), 0.4), mlp=sc.Stack((sc.MLP(4), sc.Dropout(0.5))))
    params = block.init(KEY, D)
    _, still = sc.unroll(block, params, XS)
    keys = [jax.random.key(seed) for seed in (1, 1, 2)]
    drawn = [sc.unroll(block, params, XS, key=key)[1] for key in keys]
    assert_same_bits(drawn[0], drawn[1])
    assert np.abs(drawn[0] - drawn[2]).max() > 1e-3
    assert np.abs(drawn[0] - still).max() > 1e-3


def test_a_block_of_narrow_numbers_adds_in_them():
    block = sc.Block(sc.GRU(H), mlp=sc.MLP(4), dtype="bfloat16", param_dtype="bfloat16")
    params = block.init(KEY, D)
    assert {params.norm.scale.dtype, params.out.w.dtype} == {jnp.dtype("bfloat16")}
    carry, ys = sc.unroll(block, params, XS)
    assert ys.dtype == "bfloat16"
    assert carry.cell.dtype == "float32"
    wide = sc.Block(sc.GRU(H), mlp=sc.MLP(4))
    exact = sc.unroll(wide, jax.tree.map(lambda a: a.astype("float32"), params), XS)[1]
    assert_close(ys.astype("float32"), exact, 0.1)


def test_a_learned_carry_within_is_found():
    block = sc.Block(sc.Recurrent(sc.GRU(H), learned_carry=True))
    params = block.init(KEY, D)
    own = params.cell._replace(carry=jnp.arange(1.0, H + 1))
    params = params._replace(cell=own)
    assert_same_bits(block.init_carry(XS[0], params).cell, jnp.tile(own.carry, (B, 1)))


def grid(params, carry, x):
    return carry, jnp.stack([x, x], axis=-1)


WRONG = {
    "a norm": (lambda: sc.Block(sc.GRU(H), "batch"), ValueError, "norm: .*'rms', 'layer', got"),
    "a gate": (
        lambda: sc.Block(sc.GRU(H), gate="swish"),
        ValueError,
        "gate: .*'silu', got 'swish'",
    ),
    "a size for a cell": (lambda: sc.Block(64), TypeError, "cell: expected a seqcells.Cell or"),
    "a width for a perceptron": (
        lambda: sc.Block(sc.GRU(H), mlp=8),
        TypeError,
        "mlp: expected a seqcells.Layer, such as GLU",
    ),
    "a perceptron of another size": (
        lambda: sc.Block(sc.GRU(H), mlp=sc.MLP(4, size=5)).init(KEY, D),
        ValueError,
        r"mlp: expected as many outputs as inputs, got 5 outputs for 2 inputs: MLP\(4, size=5\)",
    ),
    "outputs of two axes": (
        lambda: sc.Block(sc.FunctionCell(grid, jnp.zeros_like, lambda k, n: None)).init(KEY, D),
        ValueError,
        r"cell: expected outputs \[\*B, H\], got float32\[2, 2\] of FunctionCell",
    ),
    "parameters of a cell": (
        lambda: sc.unroll(PAPERS["plain"], sc.GRU(H).init(KEY, D), XS),
        ValueError,
        "params: expected BlockParams for Block",
    ),
    "parameters of another size": (
        lambda: sc.unroll(PAPERS["plain"], PAPERS["plain"].init(KEY, D + 1), XS),
        ValueError,
        "params: Norm",
    ),
    "a map back of another size": (
        lambda: sc.unroll(
            PAPERS["plain"],
            PAPERS["plain"].init(KEY, D)._replace(out=sc.Dense(D).init(KEY, H + 1)),
            XS,
        ),
        ValueError,
        r"params: Dense\(2\) on inputs of 3 features",
    ),
    "parameters of a part that is not there": (
        lambda: sc.unroll(
            PAPERS["plain"], PAPERS["plain"].init(KEY, D)._replace(mlp=jnp.ones(3)), XS
        ),
        ValueError,
        r"params.mlp: expected None for Block",
    ),
    "a cell of images": (
        lambda: sc.Block(sc.ConvGRU(H)),
        ValueError,
        r"cell: expected one that reads features .*ConvGRU\(3\), .*3 axes.*write Residual\(cell\)",
    ),
    "a part that reads from the end": (
        lambda: sc.Block(sc.Bidirectional(sc.GRU(H))).step(
            sc.Block(sc.Bidirectional(sc.GRU(H))).init(KEY, D),
            sc.Block(sc.Bidirectional(sc.GRU(H))).init_carry(XS[0]),
            XS[0],
        ),
        ValueError,
        "step: expected a model that reads forward",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_says_what_was_expected(name):
    call, kind, message = WRONG[name]
    with pytest.raises(kind, match=message):
        call()
