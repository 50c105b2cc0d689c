"""What is measured besides scores: against one net by itself, and kept where it belongs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import seqcells as sc
from experiments.lab import AT_END, AT_START, CHRONO, GradientByLag, Reader, Run, RunGroup, Task
from experiments.lab import runs as lab_runs
from seqcells import probes, train

PROBE = probes.DelayedRecall(4)
TASK = Task(Reader(sc.GRU(3), PROBE.output_size), PROBE, batch_size=4)
LISTED = tuple(
    Run({"arm": "chrono", "lag": lag}, CHRONO.start(3, 4), seed, {}, {"lag": lag})
    for lag in (4, 2)
    for seed in (0, 1)
)
GROUP = RunGroup("small", TASK, LISTED, steps=1, eval_size=1, measures=(GradientByLag({"lag": 4}),))


@functools.partial(jax.jit, static_argnums=3)
@functools.partial(jax.vmap, in_axes=(None, 1, 1, None))
def norms(params, xs, target, cell):
    """The gradient by lag of one sequence by itself."""

    def loss(ys):
        return PROBE.score((ys[-1:] @ params.w + params.b)[None], target[None]).loss

    return sc.diagnostics.gradient_by_lag(cell, params.cell, xs, loss)


def by_hand(seed, change):
    k_init, _, k_eval = jax.random.split(jax.random.key(seed), 3)
    cell = CHRONO.start(3, 4)
    params = Reader(cell, PROBE.output_size).init(k_init, PROBE.input_size)
    params = jax.tree.map(lambda a: change * a, params)
    return jnp.mean(norms(params, *PROBE.sample(k_eval, 256, lag=4)[:2], cell), axis=0)


@pytest.mark.slow
def test_gradients_are_those_of_the_named_runs_before_and_after_training(monkeypatch):
    """Where two more devices have copies of the first run behind the others."""

    def halve(loss, state, members, steps, **_):
        curve = np.ones((len(state.step), steps))
        params = jax.tree.map(lambda a: 0.5 * a, state.params)
        return state._replace(params=params), {"loss": curve, "measure": curve}

    def pad(tree):
        return jax.tree.map(lambda a: jnp.concatenate([a, a[:1], a[:1]]), tree)

    monkeypatch.setattr(train, "fit", halve)
    monkeypatch.setattr(lab_runs, "pad", pad)
    rows = GROUP.measure(lambda steps: None)["gradients"]
    assert len(rows) == 10
    for when, change in ((AT_START, 1.0), (AT_END, 0.5)):
        mine = [row for row in rows if row["when"] == when]
        assert [row["lag"] for row in mine] == [0, 1, 2, 3, 4]
        expected = np.median([by_hand(seed, change) for seed in (0, 1)], axis=0)
        np.testing.assert_allclose([row["norm"] for row in mine], expected, rtol=1e-4)
        assert {row["arm"] for row in mine} == {"chrono"}
    elsewhere = GradientByLag({"lag": 4, "task": "adding"})
    assert elsewhere.rows(lab_runs.Trained(TASK, LISTED, *[None] * 4)) == []


def test_a_measure_has_columns_and_belongs_to_what_a_file_is_named_by(tmp_path):
    other = dataclasses.replace(GROUP, measures=(GradientByLag({"lag": 2}),))
    none = dataclasses.replace(GROUP, measures=())
    parts = [group.part(tmp_path) for group in (GROUP, other, none)]
    assert [list(part.columns) for part in parts] == [["results", "gradients"]] * 2 + [["results"]]
    assert parts[0].columns["gradients"] == ["arm", "when", "lag", "norm"]
    assert len({part.path for part in parts}) == 3
    assert [path.name for path in parts[0].code if path not in parts[2].code] == ["measures.py"]


def test_a_file_is_not_named_by_the_addresses_of_functions():
    """A GRU's initialisers are some: a second process would not find the file of the first."""
    assert " at 0x" in repr(GROUP.runs)
    assert " at 0x" not in lab_runs._repr(GROUP.runs)
    assert "Chrono(t_max=4)" in lab_runs._repr(GROUP.runs)
