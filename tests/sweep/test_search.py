"""Searches with Optuna: what is proposed, trained and told, also after a kill."""

import copy
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqcells import sweep
from seqcells.sweep import _bucket, _search
from tests.support.executors import Here
from tests.support.sweeps import Killed, plain

optuna = pytest.importorskip("optuna")
journal = pytest.importorskip("optuna.storages.journal")
optuna.logging.set_verbosity(optuna.logging.WARNING)


def make(kind="near"):
    """A loss that is known before training: quadratic in x and in the logarithm of rate."""

    def init(hparams, key):
        return 0.01 * jax.random.normal(key) * hparams["seed"]

    def segment(noise, hparams, n):
        loss = hparams["x"] ** 2 + (jnp.log10(hparams["rate"]) + 2) ** 2 + noise
        loss += {"near": 0.0, "far": 5.0}[kind]
        steps = jnp.arange(n, dtype=jnp.float32)
        return noise + n, {
            "loss": jnp.where(noise + steps >= hparams.get("ends", 1e9), jnp.nan, loss)
        }

    return sweep.Task(init, segment)


def space(samples=12, **further):
    fields = {"x": sweep.uniform(-1, 1), "rate": sweep.log_uniform(1e-4, 1.0)}
    return sweep.Space(samples=samples, **fields | further)


def study_of(storage=None, **given):
    sampler = optuna.samplers.TPESampler(n_startup_trials=4, seed=0)
    given = {"sampler": sampler, "study_name": "a", "load_if_exists": True} | given
    return optuna.create_study(storage=storage, **given)


OPTIONS = {"steps": 10, "segment": 10, "batch": 4}


def told(study):
    return [(t.state.name, t.params, t.value) for t in study.trials]


def test_a_study_is_told_the_mean_of_the_replicates():
    study = study_of()
    result = sweep.search(make, space(), study, replicates=3, **OPTIONS)
    assert len(result.rows) == 12 * 3
    for trial in study.trials:
        mine = [row["loss"] for row in result.rows if abs(row["x"] - trial.params["x"]) < 1e-8]
        assert len(mine) == 3
        np.testing.assert_allclose(trial.value, np.mean(mine), 1e-12)
    assert result.ranked()[0]["n"] == 3
    np.testing.assert_allclose(result.ranked()[0]["mean"], study.best_value, 1e-12)


def test_a_program_is_compiled_once_for_each_value_of_a_static_field(monkeypatch):
    built, build = [], _bucket.Bucket._build
    monkeypatch.setattr(
        _bucket.Bucket,
        "_build",
        lambda self, width: built.append((self.trial.static["kind"], width)) or build(self, width),
    )
    study = study_of()
    kinds = {"kind": ["near", "far"]}
    result = sweep.search(make, space(16, static=kinds), study, replicates=2, **OPTIONS)
    assert sorted(built) == [("far", 8), ("near", 8)]
    assert {row["kind"] for row in result.rows} == {"near", "far"}
    assert study.best_params["kind"] == "near"


def test_a_search_goes_in_its_direction():
    last = {}
    for direction in ("minimize", "maximize"):
        study = study_of(direction=direction)
        sweep.search(make, space(40), study, **OPTIONS)
        last[direction] = np.mean([trial.value for trial in study.trials[-16:]])
    assert last["minimize"] < 1 < 2 < last["maximize"]  # 1.67 by chance


def test_a_search_is_the_ask_and_tell_of_optuna_in_batches(monkeypatch):
    monkeypatch.setattr(_search, "seed", lambda *_: None)  # samplers keep the seed of `study_of`
    study, plain = study_of(), study_of()
    sweep.search(make, space(24), study, **OPTIONS)
    for _ in range(24 // OPTIONS["batch"]):
        asked = [plain.ask(sweep.to_optuna(space())) for _ in range(OPTIONS["batch"])]
        for trial in asked:
            x, rate = trial.params["x"], trial.params["rate"]
            plain.tell(trial, x**2 + (np.log10(rate) + 2) ** 2)
    assert [t.params for t in study.trials] == [t.params for t in plain.trials]


class Deaths:
    """Ends the process before or after the n-th call of the study or the sampler."""

    def __init__(self, monkeypatch, at=None):
        self.at, self.seen = at, 0
        for name in ("ask", "tell"):
            monkeypatch.setattr(optuna.Study, name, self.around(getattr(optuna.Study, name)))
        mark = optuna.trial.Trial.set_user_attr
        monkeypatch.setattr(optuna.trial.Trial, "set_user_attr", self.around(mark))

    def moment(self):
        self.seen += 1
        if self.seen == self.at:
            raise Killed

    def around(self, call):
        @functools.wraps(call)
        def cut(*args, **named):
            self.moment()
            result = call(*args, **named)
            self.moment()
            return result

        return cut


def searched(folder):
    backend = journal.JournalFileBackend(str(folder / "study.log"))
    study = study_of(optuna.storages.JournalStorage(backend))
    options = OPTIONS | {"save_seconds": 0, "out": folder / "out"}
    return study, sweep.search(make, space(8), study, **options)


def test_a_search_that_is_killed_ends_with_the_trials_of_an_undisturbed_one(
    tmp_path, monkeypatch, once
):
    def folder(name):
        (path := tmp_path / name).mkdir()
        return path

    with monkeypatch.context() as patch:
        deaths = Deaths(patch)
        whole, result = searched(folder("whole"))
    assert deaths.seen == 2 * 3 * 8
    for at in range(1, deaths.seen + 1, 3):
        here = folder(str(at))
        with monkeypatch.context() as patch:
            Deaths(patch, at)
            with pytest.raises(Killed):
                searched(here)
        study, again = searched(here)
        assert told(study) == told(whole), at
        assert plain(again.rows) == plain(result.rows)


@pytest.mark.parametrize("multivariate", [False, True])
def test_a_trial_that_was_being_asked_is_asked_to_its_end(monkeypatch, multivariate, once):
    def study():
        sampler = optuna.samplers.TPESampler(n_startup_trials=4, multivariate=multivariate)
        return study_of(sampler=sampler)

    whole = study()
    sweep.search(make, space(8), whole, **OPTIONS)
    for at in (1, 2, 9, 10, 13, 14):  # of 16 values
        one, count, suggest = study(), itertools.count(1), _search._suggest

        def killed(*given, count=count, at=at, suggest=suggest):
            suggest(*given)
            if next(count) == at:
                raise Killed

        monkeypatch.setattr(_search, "_suggest", killed)
        with pytest.raises(Killed):
            sweep.search(make, space(8), one, **OPTIONS)
        monkeypatch.setattr(_search, "_suggest", suggest)
        again = copy.copy(one)
        sweep.search(make, space(8), again, **OPTIONS)
        assert told(again) == told(whole), at


def test_a_search_goes_on_with_other_batches_and_more_proposals():
    study = study_of()
    for samples, batch in ((4, 4), (10, 3), (12, 7)):
        result = sweep.search(make, space(samples), study, **OPTIONS | {"batch": batch})
        assert len(study.trials) == len(result.rows) == samples
        assert {trial.state.name for trial in study.trials} == {"COMPLETE"}


def test_results_are_read_from_the_folder_and_the_study(tmp_path):
    study, seen = study_of(), []

    def look(progress):
        if progress.finished == 8:
            seen.append(sweep.load(tmp_path, space(10), study=study, replicates=2))

    options = {"out": tmp_path, "replicates": 2, **OPTIONS}
    result = sweep.search(make, space(10), study, on_segment=look, **options)
    loaded = sweep.load(tmp_path, space(10), study=study, replicates=2)
    assert (plain(loaded.rows), loaded.history) == (plain(result.rows), result.history)
    assert [row["id"] for row in seen[0].rows] == [row["id"] for row in result.rows[:16]]
    assert [row["status"] for row in seen[0].rows] == ["done"] * 8 + ["unfinished"] * 8


def test_workers_train_what_one_process_trains(tmp_path, once):
    one, other = study_of(), study_of()
    whole = sweep.search(make, space(8), one, **OPTIONS)
    engine = Here()
    result = sweep.search(make, space(8), other, out=tmp_path, executor=engine, **OPTIONS)
    assert (told(one), plain(whole.rows)) == (told(other), plain(result.rows))
    assert engine.count == 2


def test_what_diverged_is_told_as_pruned_at_its_last_finite_value():
    """So that a sampler avoids its neighbourhood."""
    study = study_of()
    some = space(8, ends=[25.0, 1e9])
    result = sweep.search(make, some, study, 30, segment=10, batch=4)
    for trial, row in zip(study.trials, result.rows, strict=True):
        diverged = trial.params["ends"] < 100
        assert row["status"] == ("diverged" if diverged else "done")
        assert trial.state.name == ("PRUNED" if diverged else "COMPLETE")
        if diverged:
            ((step, value),) = trial.intermediate_values.items()
            lines = (line for line in result.history if line["id"] == row["id"])
            at = {line["step"]: line["metrics"]["loss"] for line in lines}
            assert (step, value) == (20, at[20])
            assert np.isnan(at[30])
    assert {t.state.name for t in study.trials} == {"PRUNED", "COMPLETE"}


def test_what_halving_prunes_is_told_as_pruned():
    study = study_of()
    sweep.search(make, space(8), study, 20, segment=10, batch=4, halving=sweep.Halving(10))
    assert [t.state.name for t in study.trials].count("PRUNED") == 4


def test_distributions_are_converted_both_ways():
    some = space(static={"size": [8, 16]}, depth=[1, 2, 3], gain=[1.0])
    there = sweep.to_optuna(some)
    assert there.keys() == {"x", "rate", "size", "depth"}
    assert there["rate"] == optuna.distributions.FloatDistribution(1e-4, 1.0, log=True)
    back = sweep.from_optuna(there)
    assert back == {**some.distributions, "size": [8, 16], "depth": [1, 2, 3]}
    assert sweep.from_optuna({"n": optuna.distributions.IntDistribution(1, 7, step=3)}) == {
        "n": range(1, 8, 3)
    }
    with pytest.raises(ValueError, match="n: expected a float distribution without steps"):
        sweep.from_optuna({"n": optuna.distributions.FloatDistribution(0, 1, step=0.5)})


def test_a_sampler_draws_by_its_seed_alone():
    samplers = optuna.samplers
    names = [samplers.RandomSampler, samplers.TPESampler]
    for kind in names:
        drawn = []
        for begun in (1, 2):
            study = optuna.create_study(sampler=kind(seed=begun))
            _search.seed(study.sampler, 0, 1, 7)
            drawn.append(study.ask(sweep.to_optuna(space())).params)
        assert drawn[0] == drawn[1]
        _search.seed(study.sampler, 0, 1, 8)
        assert study.ask(sweep.to_optuna(space())).params != drawn[0]


def test_parameters_are_drawn_independently_and_by_the_key():
    pairs, uniform = [], space(32, rate=sweep.uniform(1e-4, 1.0))
    for key in (None, jax.random.key(1)):
        study = study_of(sampler=optuna.samplers.RandomSampler(seed=0))
        sweep.search(make, uniform, study, 10, segment=10, batch=32, key=key)
        pairs.append([(trial.params["x"], trial.params["rate"]) for trial in study.trials])
        assert abs(np.corrcoef(pairs[-1], rowvar=False)[0, 1]) < 0.5
    assert pairs[0][0] != pairs[1][0]


def test_trials_that_a_study_has_already_stay_as_they_are():
    study = study_of()
    study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=3)
    before = told(study)
    result = sweep.search(make, space(8), study, **OPTIONS)
    assert len(result.rows) == 8
    assert told(study)[:3] == before
    assert len(study.trials) == 3 + 8


def test_a_search_that_is_stopped_goes_on_when_it_is_called_again(tmp_path):
    study, whole = study_of(), study_of()
    want = sweep.search(make, space(8), whole, **OPTIONS)
    stopped = sweep.search(make, space(8), study, out=tmp_path, minutes=1e-9, **OPTIONS)
    assert set(stopped.column("status")) == {"unfinished"}
    assert {trial.state.name for trial in study.trials} == {"RUNNING"}
    result = sweep.search(make, space(8), study, out=tmp_path, **OPTIONS)
    assert (told(study), plain(result.rows)) == (told(whole), plain(want.rows))


def test_progress_counts_the_trials_of_all_proposals():
    seen = []
    sweep.search(make, space(8), study_of(), replicates=2, on_segment=seen.append, **OPTIONS)
    assert [(one.finished, one.total) for one in seen] == [(0, 16), (8, 16)]


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"study": 3}, TypeError, "study: expected an optuna.Study, got 3"),
        (
            {"study": lambda: optuna.create_study(directions=["minimize"] * 2)},
            ValueError,
            "study: expected a study with one direction, got 2",
        ),
        ({"space": sweep.Space(x=[1.0, 2.0])}, ValueError, "space: expected distributions and"),
        ({"space": space(seed=[0])}, ValueError, "space: expected no field seed"),
        ({"space": 3}, TypeError, "space: expected a sweep.Space, got 3"),
        ({"batch": 0}, ValueError, "batch: expected an int >= 1"),
        ({"replicates": 0}, ValueError, "replicates: expected an int >= 1"),
    ],
)
def test_wrong_searches_are_refused(changed, error, message):
    given = {"make": make, "space": space(), "study": study_of} | OPTIONS | changed
    if callable(given["study"]):
        given["study"] = given["study"]()
    with pytest.raises(error, match=message):
        sweep.search(**given)
