"""Laws of a sweep: a trial's bits do not depend on its neighbours, and failures are reported."""

import functools
import itertools
import os
import subprocess
import sys
import types

import chex
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from seqcells import sweep, train
from seqcells.sweep import _batch, _bucket, _program, _table
from tests.support.sweeps import compile_once, make, plain, space


@pytest.fixture
def once(monkeypatch):
    compile_once(monkeypatch)


def by_id(result):
    return {row["id"]: row for row in plain(result.rows)}


def test_a_trial_has_the_same_bits_in_any_batch_and_space(once):
    whole = sweep.run(make, space(), 20, segment=10, batch=4)
    part = sweep.run(make, space(seeds=3, lr=[0.1]), 20, segment=10, batch=4)
    assert [row["status"] for row in whole.rows] == ["done"] * 8
    assert by_id(part).items() <= by_id(whole).items()
    assert len({row["loss"] for row in whole.rows}) == 8  # each has a key of its own
    other = sweep.run(make, space(), 20, segment=10, batch=4, key=jax.random.key(1))
    assert not {row["loss"] for row in whole.rows} & {row["loss"] for row in other.rows}


def test_a_row_equals_a_plain_loop():
    result = sweep.run(make, space(seeds=1), 20, segment=10)
    for trial, row in zip(space(seeds=1).trials(), result.rows, strict=True):
        words = int(trial.id[:6], 16), int(trial.id[6:], 16)
        key = functools.reduce(jax.random.fold_in, words, jax.random.key(0))
        task = make()
        hparams = {n: jnp.asarray(v) for n, v in trial.hparams.items()}
        _, metrics = task.segment(task.init(hparams, key), hparams, 20)
        np.testing.assert_allclose(row["loss"], np.mean(metrics["loss"][10:]), 1e-6)
        first, last = (line["metrics"] for line in result.history if line["id"] == trial.id)
        np.testing.assert_allclose(first["largest"], np.mean(metrics["largest"][:10]), 1e-6)
        assert last["largest"] == row["largest"]


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


def test_one_program_a_bucket_and_width_is_compiled():
    traced = chex.assert_max_traces(n=1)
    sizes = []

    def counted(size):
        sizes.append(size)
        return make(size, traced if size == 2 else chex.assert_max_traces(n=4))

    few = space(seeds=8, lr=[0.1], static={"size": [2]})
    sweep.run(counted, few, 30, segment=10, batch=4)  # two batches
    chex.clear_trace_counter()
    few = space(seeds=8, lr=[0.1], static={"size": [3]})
    sweep.run(counted, few, 40, segment=10, halving=sweep.Halving(10))  # widths 8, 4, 2, 1
    assert sizes == [2, 3]


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


def test_progress_shows_the_best_of_the_batch(once):
    for mode, better in (("min", min), ("max", max)):
        seen, options = [], {"segment": 10, "batch": 4, "mode": mode}
        result = sweep.run(make, space(seeds=2), 20, on_segment=seen.append, **options)
        losses = [
            [line["metrics"]["loss"] for line in result.history if line["step"] == step]
            for step in (10, 20)
        ]
        assert [one.best for one in seen] == [better(some) for some in losses]
        assert [(one.step, one.alive, one.finished, one.total) for one in seen] == [
            (10, 4, 0, 4),
            (20, 4, 0, 4),
        ]


def test_trials_share_the_seconds_of_the_machine(once, monkeypatch):
    clock = itertools.count(step=8)  # a segment takes 8 seconds, and trains 8 trials
    monkeypatch.setattr(_batch, "time", types.SimpleNamespace(perf_counter=clock.__next__))
    result = sweep.run(make, space(), 20, segment=10)
    assert [row["seconds"] for row in result.rows] == [2.0] * 8


def test_a_folder_is_read_as_it_was_written(tmp_path, once):
    """Also in part, and with trials that have not been run."""
    some = space(seeds=2, lr=[0.1])
    result = sweep.run(make, some, 10, segment=10, batch=2, mode="max", out=tmp_path)
    read = sweep.load(tmp_path, some)
    assert (read.rows, read.metric, read.mode) == (result.rows, "loss", "max")
    assert sorted(map(str, read.history)) == sorted(map(str, result.history))
    assert read.ranked() == result.ranked()
    more = sweep.load(tmp_path, space(seeds=3, lr=[0.1]))
    assert [row["status"] for row in more.rows] == ["done", "done", "unfinished"]


def test_a_survivor_of_halving_keeps_its_hyperparameters(once):
    """The trials that go on are not the first ones of the batch, and differ in their fields."""
    some = sweep.Space(lr=[0.0, 0.01, 0.1, 0.2], gain=[1.0, 0.1], boom=[-1], seed=[0])
    alone = {row["id"]: row["loss"] for row in sweep.run(make, some, 30, segment=10).rows}
    result = sweep.run(make, some, 30, segment=10, halving=sweep.Halving(10))
    survivors = [row for row in result.rows if row["status"] == "done"]
    assert [row["lr"] for row in survivors if row["lr"] > 0.01]
    for row in survivors:
        np.testing.assert_allclose(row["loss"], alone[row["id"]], 1e-5)


def test_a_batch_is_as_wide_as_memory_allows(monkeypatch, once):
    narrow = functools.partial(sweep.run, make, space(), 10, segment=10)
    full, need = narrow(), {}

    def available():
        return int(need["bytes"] / _program.SHARE)

    build = _bucket.build

    def seen(*args):
        return build(*args)._replace(bytes=100 + 10 * args[2])

    monkeypatch.setattr(_bucket, "build", seen)
    monkeypatch.setattr(_program, "available", available)
    widths = []
    for need["bytes"] in (145, 125):
        result = narrow(on_segment=lambda p: widths.append(p.alive))
        one, other = ([row["loss"] for row in some.rows] for some in (result, full))
        np.testing.assert_allclose(one, other, 1e-5)
    assert widths == [4, 4] + [2] * 4
    need["bytes"] = 100
    refusal = "batch: expected a trial that fits into 1e-07 GB a device, .* needs 1.1e-07 GB"
    with pytest.raises(ValueError, match=refusal):
        narrow()
    refusal = r"batch: expected a batch of 4 trials .*; take batch='auto'"
    with pytest.raises(ValueError, match=refusal):
        narrow(batch=4)


def test_a_program_needs_the_memory_of_its_state():
    hparams = {"lr": np.ones(1, np.float32)}

    def init(hparams, key):
        return jnp.ones((1000, 1000)) * hparams["lr"]

    task = sweep.Task(init, lambda a, hparams, n: (a + 1, {"loss": jnp.zeros(n)}))
    small, big = (_program.build(task, hparams, w, 1, "loss", jax.random.key(0)) for w in (1, 4))
    assert 3 * 4e6 <= big.bytes - small.bytes <= 4 * 3 * 4e6
    assert 1e6 < _program.available() < 1e14


def test_a_module_of_flax_and_an_optimiser_of_optax_are_swept():
    xs = jnp.linspace(-1, 1, 16)[:, None]

    def task(width):
        def net(key):
            return nnx.split(nnx.Linear(1, width, rngs=nnx.Rngs(params=key)), nnx.Param)

        graph = nnx.split(nnx.eval_shape(lambda: nnx.Linear(1, width, rngs=nnx.Rngs(0))))[0]

        def loss(params, key, hparams):
            noise = hparams["noise"] * jax.random.normal(key, xs.shape)
            return jnp.mean(jnp.square(nnx.merge(graph, params)(xs) - xs - noise)), {}

        return sweep.from_loss(loss, lambda key, h: net(key)[1], lambda h: optax.sgd(h["lr"]))

    some = sweep.Space(
        lr=sweep.log(1e-3, 1, 8), noise=[0.0, 0.1], seed=range(4), static={"width": [3]}
    )
    result = sweep.run(task, some, 200)
    assert len(result.rows) == 64
    best = result.ranked()[0]
    assert best["mean"] < 1e-3 < result.ranked()[-1]["mean"]
    assert (best["n"], best["noise"]) == (4, 0.0)


def test_a_loss_is_trained_with_the_fields_that_adamw_reads():
    def loss(params, key, hparams):
        return jnp.square(params - hparams["target"]), {}

    task = sweep.from_loss(loss, lambda key, hparams: jnp.float32(3))
    some = sweep.Space(learning_rate=[0.1], max_norm=[0.5], b1=[0.5], target=[1.0, 2.0])
    result = sweep.run(lambda: task, some, 20, segment=20)
    for row in result.rows:
        hparams = train.HParams(learning_rate=0.1, max_norm=0.5, b1=0.5)
        state = train.init(jnp.float32(3), hparams, jax.random.key(0))
        given = {"target": row["target"]}
        _, metrics = train.run(lambda p, k, _: loss(p, k, given), state, hparams, 20)  # noqa: B023
        np.testing.assert_allclose(row["loss"], np.mean(metrics["loss"]), 1e-5)


def test_ranks_are_over_seeds_with_the_interval_of_student(once):
    result = sweep.run(make, space(boom=(-1, 3)), 10, segment=10)
    best, _, *last = result.ranked()
    values = [row["loss"] for row in result.rows if row["lr"] == best["lr"] and row["boom"] == -1]
    interval = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    np.testing.assert_allclose([best["low"], best["high"]], interval, 1e-6)
    assert [rank["boom"] for rank in result.ranked()] == [-1, -1, 3, 3]
    assert last[0]["diverged"] == 4
    assert np.isnan(_table.interval(np.ones(1))[1])


@pytest.mark.parametrize(("mode", "best"), [("min", [0.1, 0.2, 0.3]), ("max", [0.3, 0.2, 0.1])])
def test_ranks_follow_the_mode(mode, best):
    """What was trained for longer comes before what is better."""
    row = {"status": "done", "steps": 30, "seed": 0}
    losses = {0.1: 0.2, 0.2: 0.4, 0.3: 0.6}
    rows = [row | {"lr": lr, "loss": loss} for lr, loss in losses.items()]
    rows += [row | {"lr": 0.5, "loss": loss, "status": "pruned", "steps": 10} for loss in (0, 1)]
    ranks = sweep.Result(tuple(rows), (), ("lr", "seed"), "loss", mode).ranked()
    assert [rank["lr"] for rank in ranks] == [*best, 0.5]
    assert [rank["rank"] for rank in ranks] == [1, 2, 3, 4]


def test_parameters_and_steps_have_keys_of_their_own():
    seen = {}

    def loss(params, key, hparams):
        return jnp.sum(params), {}

    def init(key, hparams):
        seen["params"] = jax.random.key_data(key).tolist()
        return jnp.ones(2)

    task = sweep.from_loss(loss, init, lambda hparams: optax.sgd(0.1))
    state = task.init({}, jax.random.key(3))
    others = [jax.random.key_data(key).tolist() for key in (state.key, jax.random.key(3))]
    assert seen["params"] not in others
    assert others[0] != others[1]


def test_the_table_is_written_as_csv_and_parquet(tmp_path, once, monkeypatch):
    pandas = pytest.importorskip("pandas")
    result = sweep.run(make, space(boom=(-1, 3)), 10, segment=10)
    result.to_csv(tmp_path / "a.csv")
    read = pandas.read_csv(tmp_path / "a.csv", dtype={"id": str})
    pandas.testing.assert_frame_equal(read, result.to_pandas())
    pytest.importorskip("pyarrow")
    result.to_parquet(tmp_path / "a.parquet")
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "a.parquet"), read)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ModuleNotFoundError, match=r'^pyarrow: .*pip install "seqcells\[sweep\]"$'):
        result.to_parquet(tmp_path / "b.parquet")


TWO = """
import jax, re
jax.config.update("jax_num_cpu_devices", 2)
from seqcells import sweep, train
from seqcells.sweep import _bucket
from tests.support.sweeps import make, plain, space
programs, build = [], _bucket.build
def seen(*args):
    programs.append(build(*args))
    return programs[-1]
_bucket.build = seen
halving = sweep.Halving(10)
result = sweep.run(make, space(seeds=3), 30, segment=10, halving=halving)
assert [p.width for p in programs] == [8, 4, 2], programs
for program in programs:
    text = program.advance.as_text() + program.init.as_text()
    assert not re.search("all-gather|all-reduce|all-to-all|permute|reduce-scatter", text)
    assert len(program.like["w"].sharding.device_set) == 2
assert [row["steps"] for row in result.rows].count(30) == 2
"""


def test_trials_share_the_devices_without_a_collective(pytestconfig):
    env, root = os.environ | {"JAX_PLATFORMS": "cpu"}, pytestconfig.rootpath
    run = [sys.executable, "-c", TWO]
    done = subprocess.run(
        run, capture_output=True, encoding="utf-8", env=env, cwd=root, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


def broken(**parts):
    return lambda size=2: make(size)._replace(**parts)


def rbg(s, hparams, n):
    return s, {"loss": jax.random.normal(jax.random.key(hparams["seed"], impl="rbg"), n)}


RATES = sweep.Space(learning_rate=[0.1, -0.1])
TRAINED = lambda: sweep.from_loss(lambda p, *_: (p, {}), lambda *_: 1.0)  # noqa: E731
RBG = broken(segment=rbg)
RANK = broken(segment=lambda s, hparams, n: (s, {"loss": jnp.ones(n), "rank": jnp.ones(n)}))
OTHER_STATE = broken(segment=lambda s, hparams, n: (s["w"], {"loss": jnp.ones(n)}))
ONE_LOSS = broken(segment=lambda s, hparams, n: (s, {"loss": jnp.ones(())}))


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"make": 3}, TypeError, "make: expected a function"),
        ({"make": lambda: 3}, TypeError, "make: expected to return a task with init and segment"),
        ({"space": 3}, TypeError, "space: expected a sweep.Space, got 3"),
        ({"steps": 25}, ValueError, "steps: expected a multiple of segment=10, got 25"),
        ({"mode": "least"}, ValueError, "mode: expected one of 'min', 'max'"),
        ({"batch": 0}, ValueError, "batch: expected an int >= 1, got 0"),
        ({"batch": "all"}, TypeError, "batch: expected an int >= 1, got 'all'"),
        ({"key": 0}, TypeError, "key: expected one random key"),
        ({"metric": "accuracy"}, ValueError, r"metric: .* \(largest, loss\), got 'accuracy'"),
        ({"space": space(largest=[1])}, ValueError, "segment: .* own id, .*, got largest"),
        ({"make": RANK}, ValueError, "segment: .* own id, .*, got rank"),
        ({"space": space(loss=[1])}, ValueError, "loss: expected a field named unlike the metric"),
        ({"key": jax.random.key(0, impl="rbg")}, ValueError, "key: expected a threefry2x32 key"),
        (
            {"space": RATES, "make": TRAINED},
            ValueError,
            "learning_rate: expected 0, or numbers .*, got -0.1",
        ),
        ({"make": RBG}, ValueError, "make: .* threefry2x32 keys, got key<rbg>"),
        ({"steps": 2**31, "segment": 2**31}, ValueError, "steps: expected at most 2147483647"),
        ({"save_seconds": -1}, ValueError, "save_seconds: expected a number >= 0, got -1"),
        ({"halving": sweep.Halving(20)}, ValueError, "every: expected fewer than steps=20"),
        ({"halving": sweep.Halving(10, "a")}, TypeError, "keep: expected a number, got 'a'"),
        ({"halving": 2}, TypeError, "halving: expected a sweep.Halving, got 2"),
        ({"halving": sweep.Halving(15)}, ValueError, "every: expected a multiple of segment=10"),
        ({"halving": sweep.Halving(10, 1.0)}, ValueError, "keep: expected a share .* got 1.0"),
        ({"make": OTHER_STATE}, ValueError, "segment: expected a state like the one given, dict"),
        ({"make": ONE_LOSS}, ValueError, r"segment: expected loss as float\[10\], got float32\[\]"),
        (
            {"make": lambda: sweep.from_loss(lambda *_: (jnp.float32(0), {}), lambda *_: 1.0)},
            ValueError,
            "optimizer: expected .* a field learning_rate, got lr, gain, boom, seed;",
        ),
    ],
)
def test_wrong_arguments_are_refused(changed, error, message):
    given = {"make": make, "space": space(), "steps": 20, "segment": 10} | changed
    with pytest.raises(error, match=message):
        sweep.run(**given)


def test_a_column_of_several_types_is_text_in_parquet(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    columns = {  # what is read back
        "text": ([16, "auto", None], ["16", "auto", None]),
        "flag": ([False, 0.5, 1], ["False", "0.5", "1"]),
        "long": ([2**80, 1, None], [str(2**80), "1", None]),
        "some": ([None, "a", "b"], [None, "a", "b"]),
        "part": ([None, 0.5, 0.25], [None, 0.5, 0.25]),
        "size": ([1, 2, 3], [1, 2, 3]),
    }
    rows = [{name: values[i] for name, (values, _) in columns.items()} for i in range(3)]
    sweep.Result(tuple(rows), (), (), "loss", "min").to_parquet(tmp_path / "a.parquet")
    read = pandas.read_parquet(tmp_path / "a.parquet")
    for name, (_, expected) in columns.items():
        assert [None if pandas.isna(value) else value for value in read[name]] == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2**31], "whole numbers from -2147483648 to 2147483647"),
        ([0, 2**32], "got 4294967296"),
        ([-(2**31) - 1], "got -2147483649"),
        ([2**70], "got 1180591620717411303424"),
        ([1e39], r"numbers .* of size 1.18e-38 to 3.4e\+38, .*, got 1e\+39"),
        ([-1e39], "got -1e"),
        ([1e-50], "got 1e-50"),
        ([1e-40], "got 1e-40"),  # XLA takes it for 0
        ([16777217.0], "got 16777217.0"),
        ([0.5, 16777217], "got 16777217.0"),
        ([0.1, 0.100000001], "got 0.100000001"),  # the same float32
    ],
)
def test_a_value_that_jax_would_change_is_refused_with_the_range(values, expected):
    with pytest.raises(ValueError, match=f"x: expected .*{expected}"):
        sweep.run(make, sweep.Space(x=values), 10, segment=10)


def test_the_largest_values_are_trained_as_they_are():
    def segment(state, hparams, n):
        return state, {"loss": jnp.zeros(n), "got": jnp.full(n, hparams["x"].astype(float))}

    task = sweep.Task(lambda hparams, key: hparams["x"], segment)
    for values in ([-1, 2**31 - 1, -(2**31)], [1e38, -2e-38, 16777216.0, 1e10]):
        rows = sweep.run(lambda: task, sweep.Space(x=values), 1).rows
        assert [row["got"] for row in rows] == np.float32(values).tolist()


def test_a_rank_is_over_values_of_one_type():
    rows = [{"status": "done", "steps": 1, "loss": 1.0, "n": n} for n in (1, True, 1.0, 0.0, -0.0)]
    result = sweep.Result(tuple(rows), (), ("n",), "loss", "min")
    assert len(result.ranked()) == 5
    with pytest.raises(ValueError, match="over: expected one of n, got 'sede'"):
        result.ranked(over="sede")


def test_a_bucket_is_of_values_of_one_type(once):
    sizes = []

    def sized(flag):
        sizes.append(flag)
        return make()

    some = space(seeds=1, lr=[0.1], static={"flag": [1, True, 1.0]})
    assert len({row["id"] for row in sweep.run(sized, some, 10, segment=10).rows}) == 3
    assert list(map(repr, sizes)) == ["1", "True", "1.0"]


def test_a_seed_that_ended_in_nan_ranks_below_what_was_pruned_early():
    row = {"status": "done", "steps": 30, "loss": 0.1}
    rows = (
        row | {"lr": 1.0, "seed": 0},
        row | {"lr": 1.0, "seed": 1, "status": "diverged", "loss": np.nan},
        row | {"lr": 0.1, "seed": 0, "status": "pruned", "steps": 10, "loss": 0.5},
    )
    ranks = sweep.Result(rows, (), ("lr", "seed"), "loss", "min").ranked()
    read = [(rank["lr"], rank["n"], rank["diverged"]) for rank in ranks]
    assert read == [(0.1, 1, 0), (1.0, 1, 1)]
