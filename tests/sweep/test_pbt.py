"""Populations: the worst trials become perturbed copies of the best, as the table says."""

import functools
import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import seqcells as sc
from seqcells import sweep
from seqcells.sweep import _bucket, _program
from seqcells.sweep._pbt import Evolution, Member, evolve
from tests.support.executors import Here
from tests.support.sweeps import plain, write_plainly


def make(traced=lambda f: f):
    """Adds up `lr` in each step, and turns to NaN above `most`; `x` is to be large."""

    def init(hparams, key):
        return {"x": 0 * hparams["lr"], "key": key}

    @traced
    def segment(state, hparams, n):
        def step(state, _):
            x = state["x"] + hparams["lr"]
            x = jnp.where(x > hparams["most"], jnp.nan, x)
            return state | {"x": x}, {"x": x}

        return jax.lax.scan(step, state, length=n)

    return sweep.Task(init, segment)


def space(count=6, most=(1000.0,)):
    return sweep.Space(lr=[0.25 * i for i in range(1, 1 + count)], most=most)


PBT = sweep.PBT(2, quantile=0.34, perturb={"lr": (0.5, 2.0)})
SWEEP = {"steps": 8, "segment": 2, "metric": "x", "mode": "max", "pbt": PBT, "save_seconds": 0}


def run(some=None, **changed):
    return sweep.run(make, some or space(), **(SWEEP | changed))


@pytest.mark.usefixtures("once")
def test_a_lineage_explains_the_state_of_every_trial():
    """The sum of the rates along the lineage, which the copies have carried from row to row."""
    result = run()
    assert [copy["step"] for copy in result.copies()] == [2, 2, 4, 4, 6, 6]
    for row in result.rows:
        lines = result.lineage(row["id"])
        assert [line["step"] for line in lines] == [2, 4, 6, 8]
        assert lines[-1]["id"] == row["id"]
        assert row["final_lr"] == lines[-1]["metrics"]["lr"]
        sums = 2 * np.cumsum([line["metrics"]["lr"] for line in lines])
        means = [line["metrics"]["x"] + line["metrics"]["lr"] / 2 for line in lines]
        np.testing.assert_array_equal(means, sums)
    assert [row["lr"] for row in result.rows] == list(space().grid["lr"])
    with pytest.raises(ValueError, match="id: expected the id of a row, got 'a'"):
        result.lineage("a")


@pytest.mark.usefixtures("once")
def test_the_worst_become_perturbed_copies_of_the_best():
    result = run()
    first = [line for line in result.history if line["step"] == 2]
    assert all(line["metrics"]["x"] == 1.5 * line["metrics"]["lr"] for line in first)
    at = {(line["id"], line["step"]): line for line in result.history}
    for step in (2, 4, 6):
        lines = [line for line in result.history if line["step"] == step]
        ranked = sorted(lines, key=lambda line: -line["metrics"]["x"])
        best, worst = ([line["id"] for line in part] for part in (ranked[:2], ranked[-2:]))
        parents = {c["id"]: c["parent"] for c in result.copies() if c["step"] == step}
        assert parents.keys() == set(worst)
        assert set(parents.values()) <= set(best)
        for line in lines:
            parent = at[parents.get(line["id"], line["id"]), step]["metrics"]["lr"]
            ratio = at[line["id"], step + 2]["metrics"]["lr"] / parent
            assert ratio in ((0.5, 2.0) if line["id"] in parents else (1.0,))


@pytest.mark.parametrize("resample", [0.0, 0.5])
def test_a_step_is_that_of_plain_numpy(resample):
    """Ten trials and two rows of padding: some are dead, and some have a score of infinity."""
    some = sweep.Space(
        rate=sweep.log_uniform(0.01, 0.64),
        width=sweep.uniform(0.5, 3.5),
        samples=10,
        count=[3],
        gain=[1.0],
    )
    perturb = {"rate": (0.5, 1.5), "count": (0.7, 1.0, 1.3), "width": (0.1, 10.0)}
    pbt = sweep.PBT(10, 0.3, perturb, resample)
    evolution = Evolution.of(pbt, some, steps=100, sign=1)
    size, width, share = 10, 12, 3
    rng = np.random.default_rng(0)
    hparams = {
        "count": rng.integers(1, 100, width).astype(np.int32),
        "gain": rng.normal(size=width).astype(np.float32),
        "rate": np.exp(rng.uniform(np.log(0.01), np.log(0.64), width)).astype(np.float32),
        "width": rng.uniform(0.5, 3.5, width).astype(np.float32),
    }
    state = rng.normal(size=(width, 3)).astype(np.float32)
    score = np.float32([3, 1, np.inf, 2, np.nan, 0, 1, 5, 4, 7, -9, -9])
    alive = np.asarray([1, 1, 1, 1, 0, 1, 1, 0, 1, 1, 0, 0], bool)
    present = np.arange(width) < size
    key = jax.random.key(7)
    take = lambda tree, rows: jax.tree.map(lambda a: a[rows], tree)  # noqa: E731
    step = jax.jit(lambda *given: evolve(evolution, key, *given, take))
    got, parents = step(Member(state, hparams), score, alive, present)

    k_exploit, k_explore = jax.random.split(key)
    usable = np.where(np.isfinite(score) & alive, score, np.inf)
    order = sorted(range(size), key=lambda i: (not alive[i], usable[i]))
    drawn = np.asarray(jax.random.randint(k_exploit, width, 0, share))
    expected = list(range(width))
    for i in {*order[-share:], *np.flatnonzero(present & ~alive).tolist()}:
        expected[i] = order[drawn[i]]
    assert order[:3] == [5, 1, 6]
    assert sorted(i for i in range(width) if expected[i] != i) == [2, 4, 7]
    np.testing.assert_array_equal(parents, expected)
    np.testing.assert_array_equal(got.state, state[expected])

    copied = np.asarray(expected) != np.arange(width)
    after = {name: values[expected] for name, values in hparams.items()}
    for name, k in zip(sorted(perturb), jax.random.split(k_explore, 3), strict=True):
        k_factor, k_choice, k_draw = jax.random.split(k, 3)
        factors = np.float32(perturb[name])
        index = np.asarray(jax.random.randint(k_factor, width, 0, len(factors)))
        moved = after[name].astype(np.float32) * factors[index]
        if name in ("rate", "width"):
            u = np.asarray(jax.random.uniform(k_draw, width))
            low, high = (0.01, 0.64) if name == "rate" else (0.5, 3.5)
            fresh = low * 64**u if name == "rate" else low + 3 * u
            chosen = np.asarray(jax.random.uniform(k_choice, width)) < resample
            moved = np.clip(np.where(chosen, fresh, moved), low, high)
        else:
            moved = np.rint(moved)
        after[name] = np.where(copied, moved, after[name])
    for name, values in after.items():
        np.testing.assert_allclose(got.hparams[name], values, 1e-6, err_msg=name)
        assert got.hparams[name].dtype == hparams[name].dtype


def test_a_quantile_replaces_one_trial_or_more_and_a_half_at_most():
    def replaced(quantile, count):
        pbt = sweep.PBT(2, quantile, {"lr": (0.5,)})
        return Evolution.of(pbt, space(), steps=8, sign=1).replaced(count)

    assert [replaced(0.2, n) for n in (2, 7, 8, 10, 100)] == [1, 1, 2, 2, 20]
    assert [replaced(0.5, n) for n in (2, 3, 4, 5, 7)] == [1, 1, 2, 2, 3]
    assert replaced(0.29, 100) == 29


@pytest.mark.usefixtures("once")
def test_a_diverged_trial_is_replaced():
    """Also one that has diverged a segment before, and more of them than the quantile."""
    some = sweep.Space(lr=[0.25, 0.5], most=[0.3, 0.8, 100.0])
    result = run(some, pbt=PBT._replace(every=4, quantile=0.5))
    first = {line["id"] for line in result.history if line["step"] == 2}
    second = {line["id"] for line in result.history if line["step"] == 4}
    assert first == second
    dead = [row["id"] for row in result.rows if 4 * row["lr"] > row["most"]]
    assert len(dead) == 4
    parents = {copy["id"]: copy["parent"] for copy in result.copies()}
    assert set(dead) <= parents.keys()
    assert set(parents.values()) <= second - parents.keys()
    assert {row["final_most"] for row in result.rows} == {100.0}
    assert {(row["status"], row["steps"]) for row in result.rows} == {("done", 8)}


@pytest.mark.usefixtures("once")
def test_a_population_that_has_diverged_ends():
    with pytest.raises(sweep.AllFailed) as caught:
        run(space(3, most=[0.1]))
    rows = caught.value.result.rows
    assert {(row["status"], row["steps"]) for row in rows} == {("diverged", 0)}
    assert [row["final_lr"] for row in rows] == [row["lr"] for row in rows]


def test_one_program_is_compiled(monkeypatch):
    built, build = [], _bucket.build
    monkeypatch.setattr(_bucket, "build", lambda *args: built.append(build(*args)) or built[-1])
    traced = chex.assert_max_traces(n=1)
    sweep.run(functools.partial(make, traced), space(5), **(SWEEP | {"save_seconds": 60}))
    assert [program.width for program in built] == [8]


@pytest.mark.usefixtures("once")
def test_a_bucket_is_a_population_of_its_own_whatever_the_others():
    def of_size(size):
        return make()

    alone = {
        row["id"]: row for size in (1, 2) for row in sweep.run(of_size, static(size), **SWEEP).rows
    }
    result = sweep.run(of_size, static(1, 2), **SWEEP)
    assert plain(result.rows) == plain(alone[row["id"]] for row in result.rows)
    sizes = {row["id"]: row["size"] for row in result.rows}
    assert result.copies()
    assert all(sizes[copy["id"]] == sizes[copy["parent"]] for copy in result.copies())


def static(*sizes):
    lr = [0.25 * i for i in range(1, 7)]
    return sweep.Space(lr=lr, most=[1000.0], static={"size": sizes})


@pytest.mark.usefixtures("once")
def test_workers_and_files_have_the_results_of_one_process(tmp_path, monkeypatch):
    write_plainly(monkeypatch)
    engine = Here()
    whole, there = run(), run(out=tmp_path, executor=engine)
    plan = engine.works[0].plan
    assert pickle.loads(pickle.dumps(plan)) == plan
    loaded = sweep.load(tmp_path, space())
    for result in (there, loaded):
        assert plain(result.rows) == plain(whole.rows)
        assert list(result.history) == list(whole.history)


@pytest.mark.usefixtures("once")
def test_choices_depend_on_the_key_and_the_step():
    assert run().copies() == run().copies()
    assert run().copies() != run(key=jax.random.key(1)).copies()
    some = sweep.Space(lr=sweep.uniform(0.0, 1.0), samples=3, most=[1000.0])
    pbt = PBT._replace(perturb={"lr": (1.0,)}, resample=1.0)
    result = run(some, steps=24, pbt=pbt)
    lr = {(line["id"], line["step"]): line["metrics"]["lr"] for line in result.history}
    drawn = [lr[copy["id"], copy["step"] + 2] for copy in result.copies()]
    assert len(set(drawn)) == len(drawn) == 11


@pytest.mark.usefixtures("once")
def test_a_population_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(_program, "available", lambda sharing: 100)
    with pytest.raises(ValueError, match="batch: expected a batch of 8 trials that fits"):
        run()


@pytest.mark.usefixtures("once")
def test_a_population_does_not_change(tmp_path, monkeypatch):
    write_plainly(monkeypatch)
    run(out=tmp_path)
    with pytest.raises(ValueError, match=r"out: expected .* this configuration, .*pbt: was"):
        run(space(7), out=tmp_path)


def test_a_rate_that_an_optimiser_keeps_in_its_state_is_refused():
    def loss(params, key, hparams):
        return jnp.square(params - jax.random.normal(key)), {}

    def trained(optimizer):
        make = lambda: sweep.from_loss(loss, lambda key, _: jnp.float32(1), optimizer)  # noqa: E731
        some = sweep.Space(learning_rate=[0.1, 0.2, 0.4])
        return sweep.run(make, some, 4, segment=2, pbt=sweep.PBT(2))

    for optimizer in (sc.train.adamw, lambda hparams: optax.sgd(hparams["learning_rate"])):
        rates = {(r["learning_rate"], r["final_learning_rate"]) for r in trained(optimizer).rows}
        assert len([first for first, last in rates if first != last]) == 1
    with pytest.raises(ValueError, match="perturb: expected fields that segment reads, got learn"):
        trained(lambda h: optax.inject_hyperparams(optax.sgd)(learning_rate=h["learning_rate"]))


def test_a_value_that_is_perturbed_out_of_its_range_is_refused():
    def loss(params, key, hparams):
        return jnp.square(params), {}

    def trained(b1, samples=None):
        some = sweep.Space(learning_rate=[0.1, 0.2], b1=b1, samples=samples)
        make = lambda: sweep.from_loss(loss, lambda key, _: jnp.float32(1))  # noqa: E731
        return sweep.run(make, some, 4, segment=2, pbt=sweep.PBT(2, perturb={"b1": (2.0,)}))

    with pytest.raises(
        ValueError, match=r"pbt.perturb: expected factors .* got b1: expected .*1.8"
    ):
        trained([0.9])
    values = [row["final_b1"] for row in trained(sweep.uniform(0.5, 0.99), samples=1).rows]
    assert max(values) == pytest.approx(0.99)


def quadratic():
    """SGD on a quadratic in 64 dimensions, with noise: the best rate falls as 1 / t."""

    def init(hparams, key):
        return {"x": jnp.ones(64), "key": key}

    def segment(state, hparams, n):
        def step(state, _):
            key, noise = jax.random.split(state["key"])
            gradient = state["x"] + jax.random.normal(noise, (64,))
            x = state["x"] - hparams["rate"] * gradient
            return {"x": x, "key": key}, {"loss": jnp.mean(jnp.square(x))}

        return jax.lax.scan(step, state, length=n)

    return sweep.Task(init, segment)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.usefixtures("once")
def test_a_population_lets_the_rate_fall_and_beats_its_best_constant(seed):
    some = sweep.Space(rate=sweep.log_uniform(1e-3, 1.0), samples=20)
    run = functools.partial(sweep.run, quadratic, some, 400, segment=10, key=jax.random.key(seed))
    constant = min(row["loss"] for row in run().rows)
    result = run(pbt=sweep.PBT(20))
    best = min(result.rows, key=lambda row: row["loss"])
    assert best["loss"] < 0.75 * constant
    rates = [line["metrics"]["rate"] for line in result.lineage(best["id"])]
    assert rates[-1] < 0.4 * rates[0]
