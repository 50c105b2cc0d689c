"""Laws of layers: each is what its cells do, put together by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import seqcells as sc
from tests.support.laws import (
    BACKWARD,
    FORWARD,
    NETS,
    B,
    D,
    H,
    T,
    assert_close,
    assert_same_bits,
    by_path,
    draw_flags,
    public,
)

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
XS = jnp.sin(jnp.arange(T * B * D, dtype="float32")).reshape(T, B, D)
FLAGS = draw_flags()
VALID = (FLAGS["mask"] & (np.arange(T)[:, None] < FLAGS["lengths"]))[..., None]
over_nets = pytest.mark.parametrize("net", NETS.values(), ids=NETS)
FEW = ("learned", "skip", "nested", "bidirectional")  # one of each kind: the others are slow
over_few = pytest.mark.parametrize(
    "net",
    [pytest.param(net, marks=[pytest.mark.slow] * (name not in FEW)) for name, net in NETS.items()],
    ids=NETS,
)


def test_every_layer_is_in_the_table():
    kinds = {type(part) for net in NETS.values() for part in (net, *getattr(net, "layers", ()))}
    missing = public(sc.Layer) - kinds - {sc.Embed}  # which reads integers: test_each_step.py
    assert not missing, f"add a row to FORWARD or BACKWARD of tests/support/laws.py: {missing}"


@over_few
def test_what_stands_in_the_padding_touches_nothing_and_padding_puts_out_zeros(net):
    params = net.init(KEY, D)

    def loss(params, xs):
        carry, ys = sc.unroll(net, params, xs, **FLAGS, key=KEY)
        return sum(jnp.sum(jnp.square(a)) for a in jax.tree.leaves((carry, ys))), (carry, ys)

    graded = jax.jit(jax.grad(loss, (0, 1), has_aux=True))
    clean, dirty = (graded(params, jnp.where(VALID, XS, fill)) for fill in (0.0, jnp.nan))
    assert_same_bits(dirty, clean)
    (_, d_xs), (_, ys) = clean
    assert not np.any(np.asarray(d_xs) * ~VALID)
    assert not np.any(np.asarray(ys) * ~VALID)


@over_few
def test_lengths_equal_truncation(net):
    params = net.init(KEY, D)
    apply = jax.jit(lambda *args, **flags: sc.unroll(net, *args, **flags))
    carry, ys = apply(params, XS, lengths=jnp.full(B, 3))
    cut = apply(params, XS[:3])
    assert_close((carry, ys[:3]), cut, 1e-6)


@over_few
def test_time_may_stand_behind_the_batch(net):
    params, flags = net.init(KEY, D), {"lengths": FLAGS["lengths"], "mask": FLAGS["mask"].T}
    carry, ys = sc.unroll(net, params, jnp.swapaxes(XS, 0, 1), **flags, time_axis=1)
    expected = sc.unroll(net, params, XS, lengths=FLAGS["lengths"], mask=FLAGS["mask"])
    assert_close((carry, jnp.swapaxes(ys, 0, 1)), expected, 1e-6)


@over_nets
def test_the_number_of_outputs_is_known_beforehand(net):
    ys = jax.eval_shape(lambda: sc.unroll(net, net.init(KEY, D), XS)[1])
    assert net.output_size(D) == ys.shape[-1]


@over_nets
def test_a_layer_is_a_static_value(net):
    assert jax.tree.leaves(net) == []
    assert hash(dataclasses.replace(net)) == hash(net)


SLOW = pytest.mark.slow


@pytest.mark.parametrize("name", ["learned", *(pytest.param(n, marks=SLOW) for n in FEW[1:])])
def test_a_call_may_be_mapped_over_parameters(name):
    net = NETS[name]
    many = jax.vmap(lambda key: net.init(key, D))(jax.random.split(KEY, 3))
    mapped = jax.vmap(lambda net, p: sc.unroll(net, p, XS)[1], (None, 0))(net, many)
    alone = sc.unroll(net, jax.tree.map(lambda a: a[1], many), XS)[1]
    assert_close(mapped[1], alone, 1e-6)


WHOLE = ("perceptrons", "whole", "parallel", "gated block")  # others: the law of the one verb


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[SLOW] * (n not in WHOLE)) for n in FORWARD]
)
def test_a_carry_goes_on_where_it_was(name):
    net = NETS[name]
    params, apply = net.init(KEY, D), jax.jit(functools.partial(sc.unroll, net))
    start = net.init_carry(XS[0], params)
    carry, first = apply(params, XS[:3], start)
    carry, second = apply(params, XS[3:6], carry)
    expected = apply(params, XS[:6], start)
    assert_close((carry, jnp.concatenate([first, second])), expected, 1e-6)


def parts_of(net, before, after):
    """The carries of a net with those of `before` where it reads forward, else of `after`."""
    if isinstance(net, sc.Bidirectional):
        return sc.layers.Both(before.forward, after.backward)
    if isinstance(net, (sc.Stack, sc.Parallel)):
        return tuple(map(parts_of, net.layers, before, after))
    if isinstance(net, sc.Block):
        pairs = zip((net.cell, net.mlp), before, after, strict=True)
        return sc.BlockCarry(*(parts_of(*pair) for pair in pairs))
    if isinstance(net, sc.Residual):
        return parts_of(net.layer, before, after)
    return after if isinstance(net, sc.Recurrent) and net.reverse else before


@pytest.mark.parametrize("net", BACKWARD.values(), ids=BACKWARD)
def test_packed_sequences_are_separate_ones_each_from_a_carry_of_its_own(net):
    """What is read first starts from `carry`, what is read after a reset from `reset_carry`.

    That layers which read forward do so too is the law of the one verb, in core/test_step.py.
    """
    params, rng = net.init(KEY, D), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: net.init_carry(XS[0], params))
    carry, fresh = (
        jax.tree.map(lambda a: rng.normal(size=a.shape).astype("float32"), shapes) for _ in range(2)
    )
    resets = np.zeros((6, B), bool)
    resets[3] = True
    apply = jax.jit(functools.partial(sc.unroll, net))
    end, ys = apply(params, XS[:6], carry, resets=resets, reset_carry=fresh)
    one, first = apply(params, XS[:3], parts_of(net, carry, fresh))
    two, second = apply(params, XS[3:6], parts_of(net, fresh, carry))
    assert_close((end, ys), (parts_of(net, two, one), jnp.concatenate([first, second])), 1e-5)


def test_a_recurrent_layer_is_its_cell():
    cell = sc.GRU(H)
    params = cell.init(KEY, D)
    for reverse in (False, True):
        layer = sc.Recurrent(cell, reverse)
        expected = sc.unroll(cell, params, XS, **FLAGS, reverse=reverse)
        assert_same_bits(sc.unroll(layer, params, XS, **FLAGS), expected)
    assert_same_bits(layer.init(KEY, D), params)


def test_a_learned_carry_starts_every_sequence_and_is_learned():
    cell = sc.LSTM(H)
    layer = sc.Recurrent(cell, learned_carry=True)
    params = layer.init(KEY, D)
    assert not any(np.any(leaf) for leaf in params.carry)  # it starts as the cell's own
    own = sc.LSTMCarry(jnp.arange(1.0, H + 1), -jnp.arange(1.0, H + 1))
    params = params._replace(carry=own)
    rows = jax.tree.map(lambda a: jnp.broadcast_to(a, (B, H)), own)
    expected = sc.unroll(cell, params.cell, XS, rows, **FLAGS, reset_carry=rows)
    assert_same_bits(sc.unroll(layer, params, XS, **FLAGS), expected)
    gradient = jax.grad(lambda p: jnp.sum(sc.unroll(layer, p, XS)[1]))(params)
    assert all(np.all(leaf != 0) for leaf in gradient.carry)


MERGES = {
    "concat": lambda a, b: np.concatenate([a, b], axis=-1),
    "sum": np.add,
    "mean": lambda a, b: (a + b) / 2,
    "mul": np.multiply,
}


@pytest.mark.parametrize("merge", [*MERGES, jnp.subtract], ids=str)
def test_bidirectional_reads_from_both_ends(merge):
    layer = sc.Bidirectional(sc.GRU(H), merge=merge)
    params = layer.init(KEY, D)
    assert np.any(params.forward.w_hh != params.backward.w_hh)
    one, ahead = sc.unroll(sc.GRU(H), params.forward, XS, **FLAGS)
    two, back = sc.unroll(sc.GRU(H), params.backward, XS, **FLAGS, reverse=True)
    by_hand = MERGES[merge] if isinstance(merge, str) else np.subtract
    expected = np.where(VALID, by_hand(ahead, back), 0)
    assert_close(sc.unroll(layer, params, XS, **FLAGS), (sc.Both(one, two), expected), 1e-6)


@pytest.mark.parametrize("kind", [sc.Bidirectional, lambda c, **kw: sc.Parallel((c, c), **kw)])
def test_a_merge_that_makes_something_of_nothing_still_puts_out_zeros(kind):
    layer = kind(sc.GRU(H), merge=lambda a, b: a + b + 1)
    _, ys = sc.unroll(layer, layer.init(KEY, D), XS, **FLAGS)
    assert not np.any(np.asarray(ys) * ~VALID)


def test_a_stack_is_one_on_the_other():
    cells = (sc.GRU(H), sc.LSTM(2), sc.RNN(4))
    net = sc.Stack(cells)
    params, carries, ys = net.init(KEY, D), [], XS
    for cell, p in zip(cells, params, strict=True):
        carry, ys = sc.unroll(cell, p, ys, **FLAGS)
        carries.append(carry)
    assert_same_bits(sc.unroll(net, params, XS, **FLAGS), (tuple(carries), ys))


def test_layers_of_one_kind_start_with_parameters_of_their_own():
    one, two = sc.Stack((sc.GRU(D), sc.GRU(D))).init(KEY, D)
    assert np.all(one.w_ih != two.w_ih)
    assert np.all(one.w_hh != two.w_hh)


def test_a_stack_of_one_cell_is_that_cell():
    cell = sc.GRU(H)
    params = cell.init(KEY, D)
    (carry,), ys = sc.unroll(sc.Stack((cell,)), (params,), XS)
    assert_same_bits((carry, ys), sc.unroll(cell, params, XS))


def test_skip_connections_show_the_input_to_all_and_put_out_all():
    net = NETS["skip"]
    one, two = net.init(KEY, D)
    assert two.w_ih.shape == (H + D, 4)
    _, first = sc.unroll(sc.GRU(H), one, XS)
    _, second = sc.unroll(sc.MinGRU(2), two, jnp.concatenate([first, XS], axis=-1))
    assert_close(sc.unroll(net, (one, two), XS)[1], jnp.concatenate([first, second], axis=-1), 1e-6)


def test_a_residual_layer_adds_its_input():
    layer, cell = NETS["residual"], sc.GRU(D)
    params = layer.init(KEY, D)
    _, ys = sc.unroll(cell, params, XS, **FLAGS)
    expected = ys + np.where(VALID, XS, 0)
    assert_close(sc.unroll(layer, params, XS, **FLAGS)[1], expected, 1e-6)


@pytest.mark.parametrize("merge", [*MERGES, jnp.subtract], ids=str)
def test_layers_side_by_side_read_the_same(merge):
    layers = (sc.GRU(H), sc.Dense(H))
    net = sc.Parallel(layers, merge)
    params = net.init(KEY, D)
    by_hand = MERGES[merge] if isinstance(merge, str) else np.subtract
    runs = [sc.unroll(*row, XS, **FLAGS) for row in zip(layers, params, strict=True)]
    carries, ys = zip(*runs, strict=True)
    expected = carries, np.where(VALID, by_hand(*ys), 0)
    assert_close(sc.unroll(net, params, XS, **FLAGS), expected, 1e-6)


def test_what_is_merged_has_one_shape():
    net = sc.Parallel((sc.GRU(H), sc.Dense(2)), "mul")
    refusal = r"merge: expected outputs of one shape for 'mul', got .*; give the parts equal sizes"
    with pytest.raises(ValueError, match=refusal):
        net.output_size(D)
    with pytest.raises(ValueError, match="merge: expected one of 'concat', 'sum'"):
        sc.Residual(sc.GRU(D), "add")


@pytest.mark.parametrize("merge", ["mul", "concat"])
def test_a_layer_may_gate_its_input_or_stand_beside_it(merge):
    layer, cell = sc.Residual(sc.GRU(D), merge), sc.GRU(D)
    params = layer.init(KEY, D)
    expected = MERGES[merge](sc.unroll(cell, params, XS, **FLAGS)[1], np.where(VALID, XS, 0))
    assert_close(sc.unroll(layer, params, XS, **FLAGS)[1], expected, 1e-6)


def test_dropout_between_layers_is_drawn_anew_at_every_step_and_keeps_the_mean():
    """The first cell puts out ones, the second what it sees."""
    size, rate = 500, 0.3
    first, second = sc.RNN(size, "identity"), sc.RNN(size, "identity")
    zeros, eye = jnp.zeros((size, size)), jnp.eye(size)
    ones = sc.RNNParams(jnp.zeros((D, size)), zeros, jnp.ones(size))
    net = sc.Stack((first, second), dropout=rate)
    params = (ones, sc.RNNParams(eye, zeros, jnp.zeros(size)))
    _, seen = sc.unroll(net, params, XS, key=KEY)
    np.testing.assert_allclose(np.unique(seen), [0, 1 / (1 - rate)], rtol=1e-6)
    assert np.mean(np.asarray(seen) == 0) == pytest.approx(rate, abs=0.02)
    assert np.any(seen[0] != seen[1])
    assert np.any(seen[:, 0] != seen[:, 1])
    assert np.all(sc.unroll(net, params, XS)[1] == 1)  # evaluation
    assert_same_bits(sc.unroll(net, params, XS, key=KEY)[1], seen)


@over_few
def test_in_flax_a_layer_is_itself(net):
    params = net.init(KEY, D)
    expected = sc.unroll(net, params, XS, lengths=FLAGS["lengths"])
    rnn = sc.nnx.RNN(net, D, rngs=nnx.Rngs(0))
    rnn.load(params)
    assert_same_bits(rnn(XS, lengths=FLAGS["lengths"]), expected)
    assert_same_bits(rnn.values, params)
    module = sc.linen.RNN(net)
    variables = module.init(KEY, XS)
    shapes = jax.tree.map(jnp.shape, jax.tree.leaves(params))
    assert sorted(map(jnp.shape, jax.tree.leaves(variables))) == sorted(shapes)
    assert_same_bits(
        module.apply({"params": by_path(params)}, XS, lengths=FLAGS["lengths"]), expected
    )


def test_the_summary_of_a_stack_counts_all():
    net = NETS["stack"]
    text = sc.summary(net, D)
    assert f"{sc.param_count(net.init(KEY, D)):,}" in text.splitlines()[-1]
    assert f"(T, B, {2 * H})" in text
    assert "    backward.w_hh" in text


def bare_step(params, carry, x):
    """Put out a number for each sequence, without an axis of features."""
    return carry + jnp.sum(x, axis=-1), carry


BARE = sc.FunctionCell(bare_step, lambda x: jnp.zeros_like(x[..., 0]), lambda key, size: ())


def merged(merge, size):
    """Unroll a cell of this size, and one of H units from the other end."""
    layer = sc.Bidirectional(sc.GRU(size), sc.GRU(H), merge)
    return sc.unroll(layer, layer.init(KEY, D), XS)


def learned(change):
    """Unroll with a learned carry that is changed."""
    layer = sc.Recurrent(sc.GRU(H), learned_carry=True)
    params = layer.init(KEY, D)
    return sc.unroll(layer, params._replace(carry=change(params.carry)), XS)


VALUES = {
    "dropout of 1": (lambda: sc.Stack((sc.GRU(H),), dropout=1), "dropout: .*1"),
    "a merge unknown": (
        lambda: sc.Bidirectional(sc.GRU(H), merge="max"),
        "merge: .*'concat'.*'max'",
    ),
    "a sum of two sizes": (lambda: merged("sum", 1), r"merge: .*'sum'.*3, 1\].*3, 3\]"),
    "a mean of two sizes": (lambda: merged("mean", 1), "merge: .*'mean'.*concat"),
    "a product of two sizes": (lambda: merged("mul", 1), "merge: .*'mul'.*concat"),
    "a merge without features": (
        lambda: merged(lambda a, b: jnp.sum(a + b, axis=-1), H),
        r"merge: .*returns float\[7, 3, \.\.\.\], got float32\[7, 3\]",
    ),
    "a merge over time": (
        lambda: merged(lambda a, b: (a + b)[0], H),
        r"merge: .*got float32\[3, 3\]",
    ),
    "a concatenation without features": (
        lambda: sc.unroll(sc.Bidirectional(BARE), ((), ()), XS),
        r"forward: .*float\[7, 3, H\].*'concat'.*got float32\[7, 3\]",
    ),
    "a residual without features": (
        lambda: sc.unroll(sc.Residual(BARE), (), XS),
        r"layer: .*got \(\) outputs for \(2,\) inputs",
    ),
    "a layer below without features": (
        lambda: sc.Stack((BARE, sc.GRU(H))).init(KEY, D),
        r"layers: .*GRU\(3\) can read.*got float32\[\]",
    ),
    "a layer below without features, unrolled": (
        lambda: sc.unroll(sc.Stack((BARE, sc.GRU(H))), ((), sc.GRU(H).init(KEY, B)), XS),
        r"layers: .*GRU\(3\) can read",
    ),
    "a residual of one unit": (
        lambda: sc.unroll(sc.Residual(sc.GRU(1)), sc.GRU(1).init(KEY, D), XS),
        "layer: .*1 outputs for 2 inputs",
    ),
    "a step of a residual of one unit": (
        lambda: sc.Residual(sc.GRU(1)).step(sc.GRU(1).init(KEY, D), jnp.ones((B, 1)), XS[0]),
        "layer: .*1 outputs for 2 inputs",
    ),
    "a learned carry of one unit": (
        lambda: learned(lambda a: a[:1]),
        r"params.carry: .*\[3\].*\[1\]",
    ),
    "a learned carry of a batch": (
        lambda: learned(lambda a: jnp.ones((B, 1)) * a),
        r"params.carry: .*float32\[3\].*float32\[3, 3\]",
    ),
    "a residual of another size": (
        lambda: sc.Residual(sc.GRU(H)).init(KEY, D),
        "layer: .*3 outputs for 2 inputs",
    ),
    "params of another stack": (
        lambda: sc.unroll(NETS["stack"], (sc.GRU(H).init(KEY, D),), XS),
        "params: expected a tuple of 3 .*got 1",
    ),
    "a carry of another stack": (
        lambda: sc.unroll(NETS["skip"], NETS["skip"].init(KEY, D), XS, jnp.ones((B, H))),
        r"carry: expected tuple\(0: float32\[3, 3\], 1: float32\[3, 2\]\) .*got float32\[3, 3\]",
    ),
    "an engine that cannot": (
        lambda: sc.unroll(
            sc.Recurrent(sc.GRU(H), engine=sc.AssociativeScan()), sc.GRU(H).init(KEY, D), XS
        ),
        "engine: .*not linear",
    ),
    "lengths above T": (
        lambda: sc.unroll(NETS["skip"], NETS["skip"].init(KEY, D), XS, lengths=np.full(B, T + 1)),
        f"lengths: .*T={T}",
    ),
}
TYPES = {
    "a stack of nothing": (lambda: sc.Stack(()), "layers: .*tuple"),
    "a stack of a cell": (lambda: sc.Stack(sc.GRU(H)), "layers: .*tuple"),
    "a stack of an int": (lambda: sc.Stack((3,)), "layers: .*seqcells.Layer.*3"),
    "two ways of a stack": (
        lambda: sc.Bidirectional(sc.Stack((sc.GRU(H),))),
        "forward, backward: .*Recurrent",
    ),
}


@pytest.mark.parametrize("name", [*VALUES, *TYPES])
def test_a_wrong_layer_says_what_was_expected(name):
    call, message = (VALUES | TYPES)[name]
    with pytest.raises(ValueError if name in VALUES else TypeError, match=message):
        call()
