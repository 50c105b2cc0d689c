"""Laws of initialisers: distributions, gates by themselves, equality."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import seqcells as sc
from seqcells import initializers as inits

pytestmark = pytest.mark.usefixtures("strict")

KEY = jax.random.key(0)
VALUES = [
    inits.Orthogonal(0.9),
    inits.Identity(0.5),
    inits.Normal(0.1),
    inits.Sparse(2, 0.5),
    inits.Uniform(0.2, 0.4),
    inits.Glorot(),
    inits.Lecun(),
    inits.Chrono(10.0),
    inits.Critical(0.1),
]
CLASSES = {name for name in inits.__all__ if isinstance(getattr(inits, name), type)}
over_values = pytest.mark.parametrize("init", VALUES, ids=lambda init: type(init).__name__)


def test_the_table_has_every_initialiser():
    assert {type(init).__name__ for init in VALUES} == CLASSES


@over_values
def test_equal_initialisers_are_equal_and_are_functions_of_their_key(init):
    again = dataclasses.replace(init)
    assert again is not init
    assert again == init
    assert hash(again) == hash(init)
    array = init(KEY, (4, 4), "float32")
    np.testing.assert_array_equal(array, again(KEY, (4, 4), "float32"))
    other = init(jax.random.key(1), (4, 4), "float32")
    assert np.any(other != array) == (not isinstance(init, inits.Identity))


def test_other_settings_are_other_values():
    for init in VALUES:
        for field in dataclasses.fields(init):
            value = getattr(init, field.name)
            other = not value if isinstance(value, bool) else value + 1
            changed = dataclasses.replace(init, **{field.name: other})
            assert changed != init
            assert sc.GRU(2, w_hh_init=changed) != sc.GRU(2, w_hh_init=init)


@over_values
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_arrays_have_the_shape_and_dtype_asked_for(init, dtype):
    shape = (6, 6) if isinstance(init, inits.Sparse) else (6, 4)
    array = jax.eval_shape(lambda: init(KEY, shape, dtype))
    assert array.shape == shape
    assert array.dtype == dtype


def gates_of(params, name, n):
    return np.split(np.asarray(getattr(params, name), np.float64), n, axis=-1)


DENSE = [sc.RNN(8), sc.GRU(8), sc.MGU(8), sc.LSTM(8)]


@pytest.mark.parametrize("cell", DENSE, ids=repr)
def test_every_gate_is_orthogonal_by_itself_unless_said_otherwise(cell):
    n = len(cell.GATES)
    blocks = gates_of(cell.init(KEY, 2), "w_hh", n)
    for block in blocks:
        np.testing.assert_allclose(block.T @ block, np.eye(8), atol=1e-5)
        radius = np.abs(np.linalg.eigvals(block)).max()
        assert radius == pytest.approx(1.0, abs=1e-5)
    for i in range(n):
        for j in range(i):
            assert np.abs(blocks[i] - blocks[j]).max() > 0.1


def test_orthogonal_scale_is_every_singular_value():
    matrix = inits.Orthogonal(0.7)(KEY, (6, 6), "float32")
    np.testing.assert_allclose(np.linalg.svd(matrix, compute_uv=False), 0.7, rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_a_float64_orthogonal_matrix_is_one_to_the_last_digit():
    matrix = inits.Orthogonal()(KEY, (8, 8), "float64")
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(8), atol=1e-14)


def test_a_bfloat16_orthogonal_matrix_is_a_rounded_float32_one():
    narrow, wide = (inits.Orthogonal()(KEY, (8, 8), dtype) for dtype in ("bfloat16", "float32"))
    np.testing.assert_array_equal(narrow, wide.astype("bfloat16"))
    params = sc.GRU(8, param_dtype="bfloat16").init(KEY, 3)
    assert {leaf.dtype for leaf in params} == {jnp.dtype("bfloat16")}


def test_vmapped_orthogonal_matrices_are_those_of_a_loop():
    keys = jax.random.split(KEY, 3)
    draw = lambda key: inits.Orthogonal()(key, (4, 4), "float32")  # noqa: E731
    np.testing.assert_array_equal(jax.vmap(draw)(keys), jnp.stack([draw(key) for key in keys]))


@pytest.mark.parametrize(("count", "radius"), [(3, 0.95), (15, 0.5), (40, 1.3)])
def test_a_sparse_matrix_has_few_inputs_a_unit_and_its_spectral_radius(count, radius):
    draw = jax.jit(jax.vmap(lambda key: inits.Sparse(count, radius)(key, (20, 20), "float32")))
    for matrix in np.float64(draw(jax.random.split(KEY, 3))):
        np.testing.assert_array_equal(np.count_nonzero(matrix, axis=0), min(count, 20))
        assert len(set(np.count_nonzero(matrix, axis=1))) > 1 or count > 20  # rows are not chosen
        assert np.abs(np.linalg.eigvals(matrix)).max() == pytest.approx(radius, rel=1e-5)


MANY = """
import jax
import seqcells as sc
keys = jax.random.split(jax.random.key(0), 8)
draw = jax.jit(jax.vmap(lambda key: sc.GRU(32).init(key, 17)))
for _ in range(400):
    jax.block_until_ready(draw(keys))
print("done")
"""


@pytest.mark.slow
def test_many_cells_drawn_at_once_end():
    """A batched QR decomposition (jaxlib 0.10.2, two cores) waits for ever within 400 calls."""
    command = [sys.executable, "-c", MANY]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=120, check=False)
    assert done.stdout == "done\n", done.stderr


def test_identity_makes_the_irnn():
    cell = sc.RNN(4, "relu", w_hh_init=inits.Identity(0.5))
    np.testing.assert_array_equal(cell.init(KEY, 3).w_hh, 0.5 * np.eye(4))


def test_glorot_is_uniform_within_the_bound_of_one_gate():
    params = sc.GRU(80, w_ih_init=inits.Glorot()).init(KEY, 40)
    bound = np.sqrt(6 / (40 + 80))  # of a gate: 80 wide, not 240
    for block in gates_of(params, "w_ih", 3):
        assert stats.kstest(block.ravel(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 0.01


def test_lecun_is_truncated():
    for block in gates_of(sc.GRU(80).init(KEY, 50), "w_ih", 3):
        assert np.abs(block).max() <= 2 / 0.87 / np.sqrt(50)  # truncated at two deviations


def test_lecun_has_the_variance_that_its_scale_says():
    matrix = np.asarray(inits.Lecun(3.0)(KEY, (50, 200), "float32"))
    assert np.var(matrix) * 50 == pytest.approx(3, rel=0.1)


def test_uniform_is_uniform():
    numbers = np.asarray(inits.Uniform(-1.0, 3.0)(KEY, (50, 50), "float32")).ravel()
    assert stats.kstest(numbers, stats.uniform(-1, 4).cdf).pvalue > 0.01


def test_the_lru_is_drawn_on_its_ring():
    params = sc.LRU(4000, output_size=1, r_min=0.5, r_max=0.9, max_phase=1.0).init(KEY, 1)
    size, phase = np.exp(-np.exp(params.nu_log)), np.exp(params.theta_log)
    assert stats.kstest(size**2, stats.uniform(0.25, 0.81 - 0.25).cdf).pvalue > 0.01
    assert stats.kstest(phase, stats.uniform(0, 1).cdf).pvalue > 0.01
    np.testing.assert_allclose(np.exp(params.gamma_log) ** 2, 1 - size**2, rtol=1e-4)


def test_normal_is_normal():
    numbers = np.asarray(inits.Normal(0.3)(KEY, (50, 50), "float32")).ravel()
    assert stats.kstest(numbers, stats.norm(0, 0.3).cdf).pvalue > 0.01


@pytest.mark.parametrize("t_max", [3.0, 50.0])
def test_chrono_makes_timescales_uniform_from_2_to_t_max(t_max):
    """1/z at rest, z being written: with the sign of the paper's z the timescale is below 2."""
    chrono = (inits.zeros, inits.Chrono(t_max), inits.zeros)
    cell = sc.GRU(2000, w_ih_init=inits.zeros, w_hh_init=inits.zeros, b_ih_init=chrono)
    params = cell.init(KEY, 1)
    blank = params._replace(b_ih=params.b_ih + jnp.repeat(jnp.array([0.0, 0, 40]), 2000))
    written, _ = cell.step(blank, jnp.zeros(2000), jnp.zeros(1))  # z * tanh(40)
    timescales = 1 / np.asarray(written, np.float64)
    assert stats.kstest(timescales, stats.uniform(2, t_max - 2).cdf).pvalue > 0.01


def test_chrono_of_a_gate_that_keeps_has_the_other_sign():
    written, kept = (inits.Chrono(50.0, kept)(KEY, (9,), "float32") for kept in (False, True))
    np.testing.assert_array_equal(kept, -written)
    assert np.all(kept >= 0)


BIASES = {  # the biases with which a cell of two units starts
    sc.RNN(2): {"b": [0, 0]},
    sc.GRU(2): {"b_ih": [0] * 6, "b_hh": [0] * 6},
    sc.MGU(2, bias="double"): {"b_ih": [0] * 4, "b_hh": [0] * 4},
    sc.LSTM(2, peepholes=True): {"b": [0, 0, 1, 1, 0, 0, 0, 0], "p": [0] * 6},  # i|f|g|o
    sc.IndRNN(2): {"b": [0, 0]},
    sc.MinGRU(2): {"b": [0] * 4},
    sc.JANET(2): {"b": [1, 1, 0, 0]},  # f|g
    sc.CoupledLSTM(2): {"b": [1, 1, 0, 0, 0, 0]},  # f|g|o
    sc.SLSTM(2): {"b": [0, 0, 1, 1, 0, 0, 0, 0]},  # i|f|z|o
}


@pytest.mark.parametrize("cell", BIASES, ids=repr)
def test_a_cell_starts_with_these_biases(cell):
    params = cell.init(KEY, 1)
    biases = {name: value.tolist() for name, value in params._asdict().items() if name[0] in "bp"}
    assert biases == BIASES[cell]


def test_an_indrnn_starts_with_carries_that_are_kept_in_part():
    w_hh = np.asarray(sc.IndRNN(2000).init(KEY, 1).w_hh)
    assert stats.kstest(w_hh, stats.uniform(0, 1).cdf).pvalue > 0.01


@pytest.mark.parametrize("cell", [*DENSE, sc.IndRNN(8), sc.MinGRU(8), sc.LRU(8)], ids=repr)
def test_input_weights_start_as_lecun_says(cell):
    """Those of the LRU are complex: each part has half of the variance."""
    params = dataclasses.replace(cell, hidden_size=100).init(KEY, 50)
    for block in gates_of(params, "w_ih", len(cell.GATES)):
        expected = 0.5 if isinstance(cell, sc.LRU) else 1
        assert np.var(block) * 50 == pytest.approx(expected, rel=0.1)


def test_a_tuple_gives_every_gate_its_own():
    own = (inits.zeros, inits.ones, inits.Normal())
    fields = {"w_ih": (5, 4), "w_hh": (4, 4), "b_ih": (4,), "b_hh": (4,)}
    cell = sc.GRU(4, **{f"{name}_init": own for name in fields})
    params = cell.init(KEY, 5)
    for name, shape in fields.items():
        r, z, n = gates_of(params, name, 3)
        assert r.shape == shape
        assert np.all(r == 0)
        assert np.all(z == 1)
        assert np.all((n != 0) & (n != 1))


@pytest.mark.parametrize("cell", [sc.RNN(3), sc.GRU(3)], ids=["RNN", "GRU"])
def test_every_parameter_has_an_initialiser_among_the_arguments(cell):
    for name in cell.init(KEY, 2)._fields:
        params = dataclasses.replace(cell, **{f"{name}_init": inits.ones}).init(KEY, 2)
        assert np.all(getattr(params, name) == 1)
        rest = [leaf for other, leaf in params._asdict().items() if other != name]
        assert not any(np.all(leaf == 1) for leaf in rest)


@pytest.mark.parametrize("init", [jax.nn.initializers.he_normal(), jax.nn.initializers.zeros])
def test_initialisers_of_jax_serve_as_well(init):
    params = sc.GRU(4, w_ih_init=init).init(KEY, 5)
    assert params.w_ih.shape == (5, 12)
