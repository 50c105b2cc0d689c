"""Programs that take or return the library's NamedTuples can be written by `jax.export`."""

import inspect

import jax
import jax.numpy as jnp
import pytest
from jax import export

import seqcells as sc
from seqcells import debug, diagnostics, probes, train
from tests.support.laws import CASES, NETS, B, D, T, assert_same_bits

NO_ARRAYS = {debug.Finding, debug.Report, diagnostics.Recurrence, probes.Success}
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
