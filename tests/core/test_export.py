"""Programs that take or return the library's NamedTuples can be written by `jax.export`."""

import inspect

import jax
import jax.numpy as jnp
import pytest
from jax import export

import seqcells as sc
from seqcells import _static, debug, diagnostics, probes, train
from tests.support.laws import CASES, NETS, B, D, H, T, assert_same_bits

NO_ARRAYS = {debug.Finding, debug.Report, probes.Success}
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
