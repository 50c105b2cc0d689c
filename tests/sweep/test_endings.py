"""Trials that end early: the best of a halving go on, and NaN ends one trial alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqcells import sweep
from seqcells.sweep import _program
from tests.support.sweeps import make, plain, space


def test_halving_keeps_the_best_and_records_when_the_others_were_pruned(once):
    few = space(seeds=5, lr=[0.1])
    result = sweep.run(make, few, 30, segment=10, halving=sweep.Halving(10, keep=0.5))
    at = {line["id"]: {} for line in result.history}
    for line in result.history:
        at[line["id"]][line["step"]] = line["metrics"]["loss"]
    alive = list(at)
    for step, count in ((10, 3), (20, 2)):
        kept = sorted(alive, key=lambda id: at[id][step])[:count]
        for row in result.rows:
            if row["id"] in set(alive) - set(kept):
                ended = (row["status"], row["steps"], row["loss"])
                assert ended == ("pruned", step, at[row["id"]][step])
        alive = kept
    assert {row["id"] for row in result.rows if row["status"] == "done"} == set(alive)
    assert all(max(at[id]) == 30 for id in alive)
    assert result.ranked(over=None)[0]["steps"] == 30
    most = sweep.run(make, few, 30, segment=10, mode="max", halving=sweep.Halving(10, keep=0.5))
    best = max(at, key=lambda id: at[id][10])
    assert next(row for row in most.rows if row["id"] == best)["steps"] > 10


def test_halving_waits_for_its_step(once):
    """And does not prune at the end, where nothing goes on."""
    result = sweep.run(make, space(lr=[0.1]), 40, segment=10, halving=sweep.Halving(20))
    assert sorted(row["steps"] for row in result.rows) == [20, 20, 40, 40]
    assert [row["status"] for row in result.rows].count("done") == 2


def test_a_survivor_of_halving_keeps_its_hyperparameters(once):
    """The trials that go on are not the first ones of the batch, and differ in their fields."""
    some = sweep.Space(lr=[0.0, 0.01, 0.1, 0.2], gain=[1.0, 0.1], boom=[-1], seed=[0])
    alone = {row["id"]: row["loss"] for row in sweep.run(make, some, 30, segment=10).rows}
    result = sweep.run(make, some, 30, segment=10, halving=sweep.Halving(10))
    survivors = [row for row in result.rows if row["status"] == "done"]
    assert [row["lr"] for row in survivors if row["lr"] > 0.01]
    for row in survivors:
        np.testing.assert_allclose(row["loss"], alone[row["id"]], 1e-5)


def test_one_trial_of_64_that_ends_in_nan_changes_no_bit_of_the_others(once):
    def run(boom):
        some = sweep.Space(lr=[0.1], gain=[1.0], boom=[boom, *range(1000, 1063)])
        return sweep.run(make, some, 20, segment=10)

    broken, healthy = run(13), run(999)
    assert plain(broken.rows[1:]) == plain(healthy.rows[1:])
    row = broken.rows[0]
    assert (row["status"], row["steps"], str(row["loss"])) == ("diverged", 10, "nan")
    ranks = broken.ranked(over=None)
    assert (ranks[-1]["boom"], ranks[-1]["diverged"], ranks[-1]["n"]) == (13, 1, 0)
    assert [rank["mean"] for rank in ranks[:-1]] == sorted(rank["mean"] for rank in ranks[:-1])


def test_a_nan_trial_is_frozen_as_it_was_before_its_segment():
    trials = space(boom=(3, -1), seeds=1).trials()
    hparams = {n: np.asarray([t.hparams[n] for t in trials]) for n in trials[0].hparams}
    hparams = {n: a.astype(jax.dtypes.canonicalize_dtype(a.dtype)) for n, a in hparams.items()}
    program = _program.build(make(), hparams, 4, 5, "loss", jax.random.key(0))
    begin = lambda: program.begin(hparams, np.zeros((4, 2), np.uint32))  # noqa: E731
    state, alive, _ = program.advance(begin(), *program.place((hparams, np.ones(4, bool))))
    before = np.asarray(begin()["w"])
    assert np.asarray(alive).tolist() == [t.hparams["boom"] == -1 for t in trials]
    for i, is_alive in enumerate(np.asarray(alive)):
        assert (np.asarray(state["w"])[i] == before[i]).all() == (not is_alive)
        assert np.asarray(state["t"])[i] == (5 if is_alive else 0)


def test_a_loss_that_is_not_finite_for_one_step_ends_a_trial():
    def init(hparams, key):
        return jnp.int32(0)

    def segment(state, hparams, n):
        steps = state + jnp.arange(n)
        return state + n, {"loss": jnp.where(steps == hparams["boom"], jnp.inf, 1.0)}

    some = sweep.Space(boom=[3, -1])
    result = sweep.run(lambda: sweep.Task(init, segment), some, 20, segment=10)
    ends = [(row["boom"], row["status"], row["steps"]) for row in result.rows]
    assert ends == [(3, "diverged", 0), (-1, "done", 20)]


def test_a_sweep_of_nan_alone_raises_and_has_a_table(tmp_path):
    with pytest.raises(sweep.AllFailed, match="all 8 trials ended with a loss") as caught:
        sweep.run(make, space(boom=(3,)), 20, segment=10, out=tmp_path)
    assert {row["status"] for row in caught.value.result.rows} == {"diverged"}
    assert (tmp_path / "results.csv").read_text("utf-8").count("diverged") == 8
