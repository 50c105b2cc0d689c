"""Programs that take or return the library's NamedTuples can be written by `jax.export`."""

import inspect
import itertools
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

import seqcells as sc
from seqcells import _static, debug, diagnostics, probes, train
from seqcells._flags import Flags
from tests.support import laws
from tests.support.laws import CASES, FORMS, NETS, B, D, H, T, assert_close, assert_same_bits

PAGE = Path(__file__).parents[2] / "docs" / "export.md"

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


SIZES = {  # of T and B, and what the page calls them
    "static": ("7, 3", "known sizes"),
    "batch": ("7, b", "any batch"),
    "time": ("t, 3", "any length"),
    "both": ("t, b", "both"),
}
ASKED = {  # engines, what the page calls them, and the sizes with which each can be exported
    "default": (None, "the default", ("static", "batch", "time", "both")),
    "scan": (sc.Scan(), "`Scan()`", ("static", "batch", "time", "both")),
    "unroll": (sc.Scan(unroll=2), "`Scan(unroll=)`", ("static", "batch")),
    "sqrt": (sc.Scan(checkpoint="sqrt"), "`Scan(checkpoint=)`", ("static", "batch")),
    "truncated": (sc.Truncated(3), "`Truncated`", ("static", "batch")),
    "associative": (sc.AssociativeScan(), "`AssociativeScan`", ("static", "batch")),
    "chunkwise": (sc.Chunkwise(3), "`Chunkwise`", ("static", "batch")),
    "deferred": (sc.Deferred(3), "`Deferred`", ("static",)),
}


def every_flag(t, b):
    return {
        "lengths": np.arange(b, dtype="int32") % (t + 1),
        "mask": np.arange(t * b).reshape(t, b) % 4 != 2,
        "resets": np.arange(t * b).reshape(t, b) % 3 == 1,
        "reverse": True,
    }


def some(*names):
    return lambda t, b: {name: every_flag(t, b)[name] for name in names}


GIVEN = {"plain": some(), "flags": every_flag}  # flags, for the steps and the rows of a call
EACH = {name: some(name) for name in every_flag(1, 1)}
TOKENS = sc.Stack((sc.Embed(9, 4), sc.GRU(H)))
EXPORTED = {name: CASES[name].cell for name in (*FORMS, "function")} | NETS | {"tokens": TOKENS}
WAYS = (
    "default",
    "scan",
    "deferred",
    "associative",
    "chunkwise",
)  # for a cell, those that can run it
QUICK = ("gru-after-double", "lru")  # what of these is refused is tested by default


def _matrix():
    for name, model in EXPORTED.items():
        engines = WAYS if isinstance(model, sc.Cell) else ("default",)
        for engine in ASKED if name == "gru-after-double" else engines:
            asked = ASKED[engine][0]
            if asked is None or asked.why_not(model, XS, Flags()) is None:
                for sizes, given in itertools.product(SIZES, GIVEN):
                    yield name, engine, sizes, given
    for sizes, given in itertools.product(SIZES, EACH):
        yield "gru-after-double", "default", sizes, given


XS = jax.ShapeDtypeStruct((T, B, D), "float32")
MATRIX = list(_matrix())
FEW = {("whole", "default", "both", "flags")}
FEW |= {row for row in MATRIX if row[2] not in ASKED[row[1]][2] and row[0] in QUICK}


def test_the_page_shows_the_matrix():
    lines = ["| engine | " + " | ".join(label for _, label in SIZES.values()) + " | tested with |"]
    lines.append("|---" * (len(SIZES) + 2) + "|")
    for engine, (_, label, able) in ASKED.items():
        marks = " | ".join("yes" if sizes in able else "no" for sizes in SIZES)
        kinds = {
            laws.kind(EXPORTED[name]).__name__ for name, other, *_ in MATRIX if other == engine
        }
        lines.append(f"| {label} | {marks} | {', '.join(map('`{}`'.format, sorted(kinds)))} |")
    assert "\n".join(lines) in PAGE.read_text("utf-8")


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
    model, (engine, _, able) = EXPORTED[name], ASKED[engine]
    flags_of = (GIVEN | EACH)[given]
    size = CASES[name].features if name in CASES else D
    features, kind = ((), "int32") if name == "tokens" else ((size,), "float32")
    params = model.init(jax.random.key(0), features if name == "tokens" else size)
    static = {key: value for key, value in flags_of(7, 3).items() if key == "reverse"}

    def draw(t, b):
        flags = {key: value for key, value in flags_of(t, b).items() if key != "reverse"}
        xs = 4 * jnp.sin(jnp.arange(math.prod((t, b, *features)))).reshape(t, b, *features)
        return jnp.abs(xs).astype(kind) if name == "tokens" else xs.astype(kind), flags

    def run(params, xs, flags):
        return sc.unroll(model, params, xs, engine=engine, **flags, **static)

    t, b = export.symbolic_shape(SIZES[sizes][0])
    shapes = {"lengths": (b,), "mask": (t, b), "resets": (t, b)}
    xs, flags = draw(7, 3)
    args = (
        jax.ShapeDtypeStruct((t, b, *features), kind),
        {key: jax.ShapeDtypeStruct(shapes[key], flag.dtype) for key, flag in flags.items()},
    )
    if sizes not in able:
        with pytest.raises(ValueError, match=r"engine: .* cannot run .* symbolic; .* can"):
            export.export(jax.jit(run))(params, *args)
        return
    program = export.deserialize(export.export(jax.jit(run))(params, *args).serialize(vjp_order=1))
    for t, b in ((7, 3), (1, 1), (5, 3), (7, 2), (30, 4), (7, 6)):
        if (sizes in ("static", "batch") and t != 7) or (sizes in ("static", "time") and b != 3):
            continue
        xs, flags = draw(t, b)
        assert_close(program.call(params, xs, flags), jax.jit(run)(params, xs, flags), 1e-6)

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
