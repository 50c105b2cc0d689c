"""Groups of runs: each row is that of its run trained by itself."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import seqcells as sc
from experiments.lab import Member, Run, RunGroup, Task, list_runs, runs
from experiments.lab.runs import CODE
from seqcells import initializers, probes, train

PROBE = probes.AddingURNN(4)
SLOW = sc.GRU(3, b_ih_init=(initializers.zeros, initializers.Chrono(50), initializers.zeros))


def sgd(member):
    return optax.sgd(member.hparams.learning_rate)


def trials(runs=None, **options):
    runs = runs or [
        Run({"arm": name, **knobs}, start, seed, {"learning_rate": rate}, knobs)
        for name, start, rate in (("slow", SLOW, 0.0), ("plain", sc.GRU(3), 0.5))
        for knobs in ({"length": 3}, {"length": 4})
        for seed in (0, 1)
    ]
    task = Task(sc.GRU(3), PROBE, 8)
    options = {"steps": 5, "segment": 2, "eval_size": 600} | options
    return RunGroup("small", task, tuple(runs), **options)


def measured(group):
    return group.measure(lambda steps: None)["results"]


@functools.partial(jax.jit, static_argnums=0)
def step(group, state, member):
    return train.train_step(group.task, state, member, group.optimizer)[0]


@functools.partial(jax.jit, static_argnums=0)
def evaluate(group, params, key, member):
    return group.task.evaluate(params, key, member, group.eval_size)


def by_hand(run, group):
    """Train one run by itself with a loop, and score it."""
    k_init, k_train, k_eval = jax.random.split(jax.random.key(run.seed), 3)
    reader = dataclasses.replace(group.task.reader, cell=run.start)
    params = reader.init(k_init, PROBE.input_size)
    hparams = jax.tree.map(jnp.float32, train.HParams()._replace(**run.hparams))
    member = Member(hparams, jax.tree.map(jnp.int32, run.knobs))
    state = train.init(params, member, k_train, group.optimizer)
    fixed = dataclasses.replace(group, runs=())  # what these programs depend on
    for _ in range(group.steps):
        state = step(fixed, state, member)
    return evaluate(fixed, state.params, k_eval, member)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"optimizer": sgd}], ids=["adamw", "sgd"])
def test_a_row_is_that_of_its_run_trained_by_itself(options):
    group = trials(trials().runs[::3] if options else None, **options)
    rows = measured(group)
    assert [(r["arm"], r["length"], r["seed"], r["learning_rate"]) for r in rows] == [
        (*run.labels.values(), run.seed, run.hparams["learning_rate"]) for run in group.runs
    ]
    for run, row in zip(group.runs, rows, strict=True):
        score = by_hand(run, group)
        for name in ("loss", "accuracy", "exact"):
            assert row[name] == pytest.approx(float(getattr(score, name)), rel=1e-4)
        assert row["steps"] == 5
        assert row["solved"] is bool(PROBE.solved(score))


@pytest.mark.slow
def test_runs_may_come_in_any_order_and_rows_keep_what_is_theirs():
    group = trials()
    other = trials([*group.runs[4:], *group.runs[:4]][::-1])
    key = lambda row: (row["arm"], row["length"], row["seed"])  # noqa: E731
    for a, b in zip(*(sorted(measured(g), key=key) for g in (group, other)), strict=True):
        assert key(a) == key(b)
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)


def test_a_run_has_a_row_for_each_length_at_which_its_net_is_scored(monkeypatch):
    """The loss is that of the probe of this length; here it is a number over its length."""

    def fit(task, state, members, steps, segment, progress, optimizer, strictness):
        told.append((task.probe.length, strictness))
        return state, dict.fromkeys(("loss", "measure"), np.ones((len(state.step), steps))), 0.1

    def evaluate(task, size):
        return lambda params, keys, members: probes.Score(
            *[members.hparams.learning_rate / task.probe.length] * 3
        )

    told = []
    monkeypatch.setattr(runs, "fit", fit)
    monkeypatch.setattr(runs, "evaluate", evaluate)
    group = trials(
        list_runs({"arm": "one", "length": 4}, sc.GRU(3), (0.05, 0.09), 1),
        lengths=(8, 12),
        strictness=7.0,
    )
    rows = measured(group)
    assert told == [(4, 7.0)]
    assert [(row["length"], row["learning_rate"]) for row in rows] == [
        (length, rate) for length in (4, 8, 12) for rate in (0.05, 0.09)
    ]
    for row in rows:
        assert row["loss"] == pytest.approx(row["learning_rate"] / row["length"], rel=1e-6)
        assert row["solved"] is (row["loss"] < 0.01)
        assert (row["solved_at"] == 5) is row["solved"]  # in the end, as no segment passes
    assert {row["solved"] for row in rows} == {True, False}
    with pytest.raises(ValueError, match="length: expected"):
        trials(lengths=(0,)).check()


def test_other_runs_are_another_file(tmp_path):
    group = trials()
    changed = [{"steps": 6}, {"optimizer": sgd}, {"segment": 3}, {"lengths": (8,)}]
    changed += [{"runs": group.runs[1:]}, {"strictness": 3.0}]
    others = [trials(**options) for options in changed]
    assert len({g.part(tmp_path).path for g in [group, *others]}) == 7
    assert trials().part(tmp_path).path == group.part(tmp_path).path


@pytest.mark.slow
def test_the_seeds_of_a_group_start_apart():
    rows = measured(trials())
    assert stats.describe([row["loss"] for row in rows]).variance > 0
    assert len({row["loss"] for row in rows}) == len(rows)


def scaled(factor):
    def init(key, shape, dtype):
        return factor * jax.random.normal(key, shape, dtype)

    return init


def adam(member):
    return optax.adam(member.hparams.learning_rate)


def test_a_group_is_kept_by_the_content_of_what_it_measures(tmp_path):
    def path(**changed):
        return trials(**changed).part(tmp_path).path

    def run(start):
        return [Run({"arm": "one"}, start, 0, {"learning_rate": 0.1})]

    def chrono(longest):
        return sc.GRU(3, b_ih_init=initializers.Chrono(longest))

    groups = [{}, {"optimizer": sgd}, {"optimizer": adam}, {"optimizer": functools.partial(sgd)}]
    groups += [{"runs": run(start)} for start in (chrono(4), chrono(5), SLOW)]
    assert len({path(**one) for one in groups}) == len(groups)
    assert path(runs=run(chrono(4))) == path(runs=run(chrono(4)))
    for name, wrong in (
        ("runs", {"runs": run(sc.GRU(3, w_hh_init=scaled(2.0)))}),  # its repr is that of any other
        ("optimizer", {"optimizer": lambda member: sgd(member)}),
    ):
        with pytest.raises(TypeError, match=f"{name}: expected values with a name"):
            path(**wrong)
    own = [file.name for file in trials(optimizer=sgd).part(tmp_path).code]
    assert own == [*(file.name for file in CODE), "test_runs.py"]
