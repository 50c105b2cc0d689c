"""`debug.check` passes what is lawful, and finds what is not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from seqcells import debug
from tests.support.laws import CASES, H


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    [sc.GRUD(H), sc.RNN(64, "relu"), sc.Constrained(sc.RNN(64), sc.Dale())],
    ids=["inputs are a tree", "kinks of relu", "kinks of abs"],
)
def test_inputs_may_be_a_tree_and_there_may_be_many_kinks(cell):
    assert debug.check(cell, seed=1).ok


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru-after-double"])
def test_cells_of_the_library_are_lawful(name):
    case = CASES[name]

    def reference(params, carry, x):
        params = jax.tree.map(np.float64, params)
        return case.step(params, jax.tree.map(np.float64, carry), np.float64(x))

    report = debug.check(case.cell, reference=reference)
    assert [finding for finding in report.findings if finding.holds is False] == []
    assert report.ok
    spoken = {finding.law for finding in report.findings if finding.holds}
    assert spoken >= set(debug.LAWS) - {"split"}


def test_a_function_that_casts_its_parameters_to_its_carry_is_lawful_in_every_dtype():
    report = debug.check(CASES["function"].cell, laws=["step", "dtype"])
    assert [finding.holds for finding in report.findings] == [True, True]


@dataclasses.dataclass(frozen=True)
class Decay(sc.SplitCell):
    """A lawful cell, of which each broken one below breaks a method."""

    size: int = H

    def init(self, key, input_size):
        return 0.3 * jax.random.normal(key, (input_size, self.size))

    def init_carry(self, x, params=None):
        return jnp.zeros((*x.shape[:-1], self.size))

    def project(self, params, x):
        return x.astype(jnp.float32) @ params

    def mix(self, params, carry):
        return 0.9 * carry

    def gate(self, carry, drive, mixed):
        return mixed + drive

    def read(self, params, carry, drive):
        return jnp.tanh(carry)


def reference(params, carry, x):
    carry = 0.9 * carry + x @ params
    return carry, np.tanh(carry)


def broken(**methods):
    return type("Broken", (Decay,), methods)()


def gated(gate):
    return broken(gate=lambda self, carry, drive, mixed: gate(drive, mixed))


def directed(self, params, x):
    return (x / jnp.linalg.norm(x, axis=-1, keepdims=True)).astype(jnp.float32) @ params


def counted(self, x, params=None):
    return jnp.full((*x.shape[:-1], self.size), 0.1 * next(COUNT))


def narrow(self, x, params=None):
    return jnp.zeros((*x.shape[:-1], self.size), x.dtype)


def single(self, x, params=None):
    return jnp.zeros((*x.shape[:-1], self.size), jnp.float32)


COUNT = iter(range(10**6))
BROKEN = {
    "static": broken(__hash__=lambda self: id(self)),  # every copy is another
    "step": gated(lambda drive, mixed: (mixed + drive).astype(jnp.bfloat16)),
    "reference": gated(lambda drive, mixed: mixed - drive),
    "batch": gated(lambda drive, mixed: mixed + drive - jnp.mean(drive, axis=0)),
    "gradient": gated(lambda drive, mixed: mixed + drive + jnp.round(50 * drive) / 50),
    "padding": broken(project=directed),  # no derivative where x is zero
    "resets": broken(init_carry=counted),  # no two fresh carries are alike
    "split": broken(recur=lambda self, params, carry, drive: 0.8 * carry + drive),
    "dtype": broken(init_carry=narrow),
}


def test_a_lawful_cell_of_ones_own_passes():
    report = debug.check(Decay(), reference=reference)
    others = [finding for finding in report.findings if finding.law != "units"]
    assert all(finding.holds for finding in others), str(report)


def test_derivatives_are_compared_across_kinks():
    kinked = gated(lambda drive, mixed: mixed + jnp.abs(drive * 1000 % 2 - 1) / 1000)
    assert debug.check(kinked, laws=["gradient"]).ok


def test_a_first_carry_that_a_step_widens_is_named():
    def project(self, params, x):
        return x @ params

    cell = broken(init_carry=single, project=project)
    (found,) = debug.check(cell, laws=["dtype"]).findings
    assert found.holds is False
    assert "init_carry: expected float64[3, 3]" in found.detail
    with jax.enable_x64(True):
        params, xs = cell.init(jax.random.key(0), 2), jnp.ones((5, 2))
        for run in (sc.unroll, sc.trajectory, sc.diagnostics.step_jacobians):
            with pytest.raises(
                TypeError, match=r"init_carry: expected float64\[3\].*promote_types"
            ):
                run(cell, params, xs)


@pytest.mark.parametrize(("law", "cell"), BROKEN.items(), ids=BROKEN)
def test_a_broken_law_is_found(law, cell):
    report = debug.check(cell, reference=reference, laws=[law])
    assert not report.ok
    (found,) = report.findings
    assert (found.law, found.holds) == (law, False)
    assert found.detail


def doubled(self, params, x):
    return sc.LSTM.project(self, params, 2 * x)


def halved(self, params, carry):
    return sc.GRU.mix(self, params, carry / 2)


@pytest.mark.parametrize(
    ("base", "wrong", "own"),
    [
        (sc.LSTM, "INPUT_WEIGHTS", {"project": doubled, "RECURRENT_WEIGHTS": ("w_hh", None)}),
        (sc.GRU, "RECURRENT_WEIGHTS", {"mix": halved}),
    ],
)
def test_declared_weights_by_which_a_cell_does_not_multiply_are_found(base, wrong, own):
    for holds, declared in ((True, {}), (False, {wrong: getattr(base, wrong)})):
        (found,) = debug.check(type("Own", (base,), own | declared)(H), laws=["split"]).findings
        assert found.holds is holds
        assert holds or "WEIGHTS" in found.detail


def flipped(self, params, x):
    z, n = sc.MinGRU.project(self, params, x)
    return z[..., ::-1], n


@pytest.mark.parametrize(
    ("base", "own", "flaw"),
    [
        (sc.MinGRU, {"UNIT_WEIGHTS": ("w_ih", "b")}, None),
        (sc.MinGRU, {"UNIT_WEIGHTS": ("w_ih", "b"), "project": flipped}, "several units"),
        (sc.Mamba, {"UNIT_WEIGHTS": ("w_dt",)}, "does not end in units"),
        (sc.GRUD, {"UNIT_WEIGHTS": ("w_ih",)}, "leaves of the carry"),
    ],
)
def test_weights_that_do_not_reach_one_unit_each_are_found(base, own, flaw):
    (found,) = debug.check(type("Own", (base,), own)(H), laws=["units"]).findings
    assert found.holds is (flaw is None)
    assert flaw is None or flaw in found.detail


def test_cells_whose_form_is_not_split_declare_nothing():
    (found,) = debug.check(sc.GRU(H, reset_after=False), laws=["units"]).findings
    assert found.holds is None


def test_a_law_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"laws: .*'padding'.*'gravity'"):
        debug.check(sc.GRU(H), laws=["gravity"])


@pytest.mark.slow
def test_the_report_is_a_table_of_the_laws():
    text = str(debug.check(sc.GRU(H))).splitlines()
    assert text[0] == "The laws of GRU(3)"
    assert [line.split()[0] for line in text[1:]] == list(debug.LAWS)
    assert text[3].split(maxsplit=2) == ["reference", "-", "no reference was given"]
    assert text[1].split() == ["static", "holds"]


def test_what_is_no_cell_is_refused():
    with pytest.raises(TypeError, match="cell: expected a seqcells"):
        debug.check(3)


def test_parameters_may_be_given():
    case = CASES["gru-after-double"]
    params = case.cell.init(jax.random.key(7), 5)
    assert debug.check(case.cell, params=params, input_size=5, laws=["step", "scan"]).ok
