"""Programs that take or return the library's NamedTuples can be written by `jax.export`."""

import inspect
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

import seqcells as sc
from seqcells import _static, debug, diagnostics, probes, train
from tests.support.laws import CASES, NETS, B, D, H, T, assert_close, assert_same_bits

NO_ARRAYS = {debug.Finding, debug.Replay, debug.Report, probes.Success}
MODULES = (sc, diagnostics, probes, train, debug)
TUPLES = {
    value
    for module in MODULES
    for value in vars(module).values()
    if inspect.isclass(value) and issubclass(value, tuple) and hasattr(value, "_fields")
}


@pytest.mark.parametrize("kind", sorted(TUPLES - NO_ARRAYS, key=lambda kind: kind.__name__))
def test_every_public_tuple_of_arrays_is_registered(kind):
    with pytest.raises(ValueError, match=rf"Duplicate.*`seqcells\.{kind.__name__}`"):
        export.register_namedtuple_serialization(kind, serialized_name="another")


def test_every_class_that_a_file_can_name_is_registered():
    for name, kind in _static.named().items():
        with pytest.raises(ValueError, match=rf"Duplicate.*`seqcells\.{name}`"):
            export.register_pytree_node_serialization(
                kind, serialized_name="another", serialize_auxdata=None, deserialize_auxdata=None
            )


MODELS = {name: CASES[name].cell for name in ("gru-after-double", "lstm-bias", "lru")}
MODELS |= {name: NETS[name] for name in ("learned", "stack")}


@pytest.mark.parametrize("name", MODELS)
def test_parameters_go_in_and_a_carry_comes_out_of_a_program_from_disk(name):
    pytest.importorskip("flatbuffers")
    model = MODELS[name]
    params = model.init(jax.random.key(0), D)
    xs = jnp.sin(jnp.arange(T * B * D, dtype="float32")).reshape(T, B, D)
    run = jax.jit(lambda params, xs: sc.unroll(model, params, xs))
    data = export.export(run)(params, xs).serialize()
    assert_same_bits(export.deserialize(data).call(params, xs), run(params, xs))
    whole = export.deserialize(export.export(jax.jit(sc.unroll))(model, params, xs).serialize())
    assert_same_bits(whole.call(model, params, xs), run(params, xs))


def test_a_model_of_ones_own_is_not_written_and_says_why():
    pytest.importorskip("flatbuffers")
    cell = sc.GRU(H, w_hh_init=lambda key, shape, dtype: jnp.zeros(shape, dtype))
    program = export.export(jax.jit(sc.unroll))(
        cell, cell.init(jax.random.key(0), D), jnp.ones((T, D))
    )
    with pytest.raises(ValueError, match=r"value\.w_hh_init: expected a class of seqcells, or an"):
        program.serialize()


SYMBOLIC = {"static": "7, 3", "batch": "7, b", "time": "t, 3", "both": "t, b"}
ASKED = {  # engines, and the symbolic sizes with which each can be exported
    "default": (None, SYMBOLIC),
    "scan": (sc.Scan(), SYMBOLIC),
    "unroll": (sc.Scan(unroll=2), ("static", "batch")),
    "sqrt": (sc.Scan(checkpoint="sqrt"), ("static", "batch")),
    "truncated": (sc.Truncated(3), ("static", "batch")),
    "deferred": (sc.Deferred(3), ("static",)),
    "associative": (sc.AssociativeScan(), ("static", "batch")),
}
GIVEN = {  # flags, for the steps and the rows of a call
    "plain": lambda t, b: {},
    "flags": lambda t, b: {
        "lengths": np.arange(b, dtype="int32") % (t + 1),
        "resets": np.arange(t * b).reshape(t, b) % 3 == 1,
        "reverse": True,
    },
}
EXPORTED = {
    "gru": (sc.GRU(H), ("default", "scan", "unroll", "sqrt", "truncated", "deferred")),
    "mingru": (sc.MinGRU(H), ("default", "associative")),
    "net": (sc.Stack((sc.Dense(4), sc.Norm("rms"), sc.GRU(H), sc.Dense(2))), ("default",)),
    "both": (sc.Bidirectional(sc.LSTM(2)), ("default",)),
}
MATRIX = [
    (name, engine, sizes, given)
    for name, (_, engines) in EXPORTED.items()
    for engine, sizes, given in itertools.product(engines, SYMBOLIC, GIVEN)
]
FEW = {("net", "default", "both", "flags")}
FEW |= {row for row in MATRIX if row[2] not in ASKED[row[1]][1]}  # what is refused is quick


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, marks=[pytest.mark.slow] * (row not in FEW), id="-".join(row))
        for row in MATRIX
    ],
)
def test_a_program_of_any_size_computes_what_its_engine_does_or_is_refused(row):
    pytest.importorskip("flatbuffers")
    name, engine, sizes, given = row
    (model, _), (engine, able) = EXPORTED[name], ASKED[engine]
    params = model.init(jax.random.key(0), D)
    flags = GIVEN[given](7, 3)
    static = {key: flags.pop(key) for key in ("reverse",) if key in flags}

    def run(params, xs, flags):
        return sc.unroll(model, params, xs, engine=engine, **flags, **static)

    t, b = export.symbolic_shape(SYMBOLIC[sizes])
    shapes = {"lengths": ((b,), "int32"), "resets": ((t, b), "bool")}
    args = (
        jax.ShapeDtypeStruct((t, b, D), "float32"),
        {key: jax.ShapeDtypeStruct(*shapes[key]) for key in flags},
    )
    if sizes not in able:
        with pytest.raises(ValueError, match=r"engine: .* cannot run .* symbolic; .* can"):
            export.export(jax.jit(run))(params, *args)
        return
    program = export.deserialize(export.export(jax.jit(run))(params, *args).serialize(vjp_order=1))
    for t, b in ((7, 3), (1, 1), (5, 3), (7, 2), (30, 4), (7, 6)):
        if (sizes in ("static", "batch") and t != 7) or (sizes in ("static", "time") and b != 3):
            continue
        xs = jnp.sin(jnp.arange(t * b * D, dtype="float32")).reshape(t, b, D)
        flags = {key: value for key, value in GIVEN[given](t, b).items() if key in shapes}
        expected = jax.jit(run)(params, xs, flags)
        assert_close(program.call(params, xs, flags), expected, 1e-6)

    def loss(params, call):  # of the last size
        return sum(jnp.sum(jnp.sin(a)) for a in jax.tree.leaves(call(params, xs, flags)))

    got, expected = (
        jax.jit(jax.grad(loss), static_argnums=1)(params, f) for f in (program.call, run)
    )
    assert_close(got, expected, 1e-5)


def test_one_program_serves_several_platforms():
    pytest.importorskip("flatbuffers")
    cell, xs = sc.GRU(H), jnp.ones((T, B, D))
    params = cell.init(jax.random.key(0), D)
    run = jax.jit(lambda params, xs: sc.unroll(cell, params, xs))
    made = export.export(run, platforms=("cpu", "cuda", "tpu"))(params, xs)
    program = export.deserialize(made.serialize())
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert_close(program.call(params, xs), run(params, xs), 1e-6)


def test_modules_of_flax_are_exported_too():
    pytest.importorskip("flatbuffers")
    t, b = export.symbolic_shape("t, b")
    shape, xs = jax.ShapeDtypeStruct((t, b, D), "float32"), jnp.ones((4, 2, D))
    rnn = sc.nnx.RNN(sc.LSTM(H), D, rngs=nnx.Rngs(0))
    linen = sc.linen.RNN(sc.LSTM(H))
    variables = linen.init(jax.random.key(0), xs)
    for run in (lambda xs: rnn(xs), lambda xs: linen.apply(variables, xs)):
        program = export.deserialize(export.export(jax.jit(run))(shape).serialize())
        assert_close(program.call(xs), run(xs), 1e-6)
