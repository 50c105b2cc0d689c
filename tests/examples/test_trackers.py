"""What a tracker shows of a sweep: which runs, with which fields and curves."""

import json
import math
import struct

import numpy as np
import pytest

from examples import track_sweep, trackers
from seqcells import sweep
from tests.support.sweeps import POPULATION, compile_once, run, space


class Notes(trackers.Tracker):
    """Keeps what a tracker is told: `fields` and `points` by names of runs, and how they ended."""

    def __init__(self, **options):
        self.points, self.failed = {}, {}
        super().__init__(self.begin, **options)

    def begin(self, name, fields, metrics):
        points = self.points[name] = []
        return lambda *point: points.append(point), lambda failed: self.failed.update(
            {name: failed}
        )

    def tell(self, step, *trials):
        """Tell of a segment of trials: an id, lr, seed and metrics each."""
        rows = [{"id": i, "lr": lr, "seed": s, "steps": step, **of} for i, lr, s, of in trials]
        self(sweep.Progress({}, step, len(rows), 0, 9, 0, 0.0, rows))


@pytest.fixture
def swept(monkeypatch):
    """A function that runs a sweep of 2 configurations and 3 seeds, and closes its tracker."""
    compile_once(monkeypatch)

    def swept(tracker, some=None, **changed):
        with tracker:
            options = {"batch": 6, "halving": None, "on_segment": tracker} | changed
            return run(None, some or space(seeds=3), **options)

    return swept


NAMES = {0.01: "lr=0.01,gain=1,boom=-1", 0.1: "lr=0.1,gain=1,boom=-1"}


def curves(result):
    """The means over the seeds of each configuration: name of the run -> [(step, metrics)]."""
    found = {}
    for rate, name in NAMES.items():
        ids = {row["id"] for row in result.rows if row["lr"] == rate}
        lines = [line for line in result.history if line["id"] in ids]
        at = {n: [one["metrics"] for one in lines if one["step"] == n] for n in (10, 20, 30)}
        found[name] = [
            (n, {m: np.mean([one[m] for one in some]) for m in some[0]} | {"finite_seeds": 3})
            for n, some in at.items()
        ]
    return found


def check(points, result):
    """Check that the points of all runs are those of the sweep."""
    want = curves(result)
    assert points.keys() == want.keys()
    for name, some in points.items():
        assert [step for step, _ in some] == [10, 20, 30]
        for (_, got), (_, metrics) in zip(some, want[name], strict=True):
            assert got == pytest.approx(metrics)


def test_a_run_is_a_configuration_and_its_curves_are_means_over_seeds(swept):
    notes = Notes()
    check(notes.points, swept(notes))
    assert notes.fields == {n: {"lr": lr, "gain": 1.0, "boom": -1} for lr, n in NAMES.items()}
    assert notes.failed == dict.fromkeys(notes.points, False)


def test_what_is_not_finite_is_left_out_of_a_mean():
    notes = Notes()
    lost = {"loss": math.inf, "other": math.nan}
    kept = {"loss": 1.0, "other": math.nan}
    notes.tell(
        5, ("a", 0.1, 0, kept), ("b", 0.1, 1, {"loss": 3.0, "other": 2}), ("c", 0.1, 2, lost)
    )
    notes.tell(10, ("a", 0.1, 0, kept))
    assert notes.points["lr=0.1"] == [
        (5, {"loss": 2.0, "other": 2.0, "finite_seeds": 1}),
        (10, {"loss": 1.0, "finite_seeds": 0}),
    ]


def test_each_trial_may_be_a_run(swept):
    notes = Notes(each=True)
    result = swept(notes)
    assert len(notes.points) == len(result.rows) == 6
    name = "lr=0.01,gain=1,boom=-1,seed=2"
    (row,) = (row for row in result.rows if row["lr"] == 0.01 and row["seed"] == 2)
    assert notes.fields[name]["seed"] == 2
    assert notes.points[name][-1] == (30, {name: row[name] for name in ("loss", "largest")})


def test_seeds_in_another_batch_are_another_run(swept):
    notes = Notes()
    swept(notes, batch=2)  # the second batch has a seed of each
    assert list(notes.points) == [NAMES[0.01], f"{NAMES[0.01]}-2", NAMES[0.1], f"{NAMES[0.1]}-2"]
    assert {tuple(step for step, _ in points) for points in notes.points.values()} == {(10, 20, 30)}
    assert [points[0][1]["finite_seeds"] for points in notes.points.values()] == [2, 1, 1, 2]


def test_a_seed_that_is_seen_late_joins_the_run_of_its_batch():
    notes = Notes()
    notes.tell(5, ("b", 0.1, 1, {"loss": 3.0}))
    notes.tell(10, ("a", 0.1, 0, {"loss": 1.0}), ("b", 0.1, 1, {"loss": 3.0}))
    assert notes.points == {
        "lr=0.1": [
            (5, {"loss": 3.0, "finite_seeds": 1}),
            (10, {"loss": 2.0, "finite_seeds": 2}),
        ]
    }


def test_runs_have_names_of_their_own_which_folders_can_have():
    notes = Notes()
    loss = {"loss": 1.0}
    notes.tell(
        5, ("a", 0.10001, 0, loss), ("b", 0.10002, 0, loss), ("c", "a/b: " + 200 * "x", 0, loss)
    )
    first, second, third = notes.points
    assert (first, second) == ("lr=0.1", "lr=0.1-2")
    assert third == "lr=a_b__" + 92 * "x"


def test_a_sweep_over_seeds_alone_is_one_run():
    notes = Notes()
    row = {"id": "a", "seed": 0, "steps": 5, "loss": 1.0}
    notes(sweep.Progress({}, 5, 1, 0, 1, 0, 0.0, [row, row | {"id": "b", "seed": 1}]))
    assert notes.points == {"all": [(5, {"loss": 1.0, "finite_seeds": 2})]}


def test_what_a_population_changes_is_a_curve(swept):
    notes = Notes(each=True)
    some = space(seeds=1, lr=sweep.log_uniform(1e-3, 1e-1), samples=8)
    result = swept(notes, some, **POPULATION)
    assert result.copies()
    for id, name in notes.names.items():
        lines = [line["metrics"]["lr"] for line in result.history if line["id"] == id]
        first = notes.fields[name]["lr"]
        assert [metrics.get("lr", first) for _, metrics in notes.points[name]] == lines


def test_an_error_closes_the_runs_as_failed():
    notes = Notes()
    notes.tell(5, ("a", 0.1, 0, {"loss": 1.0}))
    with pytest.raises(KeyError), notes:
        raise KeyError
    assert notes.failed == {"lr=0.1": True}


def records(data):
    """The records of a TensorBoard file: a length, its CRC, the data and their CRC."""
    at = 0
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        yield data[at + 12 : at + 12 + size]
        at += size + 16


def test_tensorboard_has_a_folder_for_each_run(swept, tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    result = swept(trackers.tensorboard(str(tmp_path)))
    found, hparams = {}, {}
    for path in tmp_path.glob("*/events.*"):
        points = found[path.parent.name] = {}
        for data in records(path.read_bytes()):
            event = Event.FromString(data)
            for value in event.summary.value:
                if not value.tag.startswith("_hparams_"):
                    points.setdefault(event.step, {})[value.tag] = value.simple_value
                elif value.tag.endswith("start_info"):
                    content = HParamsPluginData.FromString(value.metadata.plugin_data.content)
                    of = content.session_start_info.hparams
                    hparams[path.parent.name] = {n: v.number_value for n, v in of.items()}
    check({name: list(points.items()) for name, points in found.items()}, result)
    assert hparams == {n: {"lr": lr, "gain": 1.0, "boom": -1.0} for lr, n in NAMES.items()}


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_runs_in_an_experiment(swept, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    library = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    result = swept(trackers.mlflow(uri))
    client = library.MlflowClient(uri)
    runs = client.search_runs([client.get_experiment_by_name("sweep").experiment_id])
    found = {}
    for one in runs:
        points = found[one.info.run_name] = {}
        for name in one.data.metrics:
            for point in client.get_metric_history(one.info.run_id, name):
                points.setdefault(point.step, {})[name] = point.value
    check({name: list(points.items()) for name, points in found.items()}, result)
    params = {one.info.run_name: one.data.params for one in runs}
    assert params == {n: {"lr": str(lr), "gain": "1.0", "boom": "-1"} for lr, n in NAMES.items()}
    assert {one.info.status for one in runs} == {"FINISHED"}
    swept(trackers.mlflow(uri))  # the experiment is there already
    assert len(client.search_runs([client.get_experiment_by_name("sweep").experiment_id])) == 4


def blocks(data):
    """The records of a file of W&B: parts with a CRC, a length and a kind, in blocks of 32 KiB."""
    at, record, block = 7, b"", 1 << 15
    while at < len(data):
        if block - at % block < 7:
            at += block - at % block
        size, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a whole one, or the last fragment
            yield record
            record = b""


@pytest.mark.filterwarnings("ignore")
def test_wandb_has_offline_runs(swept, tmp_path):
    library = pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    result = swept(trackers.wandb("project", str(tmp_path)))
    library.teardown()  # its process has written all
    found, configs, summaries, codes = {}, {}, {}, []

    def values(items):
        found = {
            (list(one.nested_key) or [one.key])[0]: json.loads(one.value_json) for one in items
        }
        return {name: value for name, value in found.items() if name[0] != "_" or name == "_step"}

    for path in tmp_path.glob("wandb/offline-run-*/*.wandb"):
        points, name = [], ""
        for record in map(Record.FromString, blocks(path.read_bytes())):
            if record.WhichOneof("record_type") == "run":
                name = record.run.display_name
                configs[name] = values(record.run.config.update)
                assert record.run.project == "project"
            elif record.WhichOneof("record_type") == "history":
                metrics = values(record.history.item)
                points.append((metrics.pop("_step"), metrics))
            elif record.WhichOneof("record_type") == "summary":
                summaries[name] = values(record.summary.update)
            elif record.WhichOneof("record_type") == "exit":
                codes.append(record.exit.exit_code)
        found[name] = points
    check(found, result)
    assert configs == {n: {"lr": lr, "gain": 1.0, "boom": -1} for lr, n in NAMES.items()}
    assert summaries == {n: {**points[-1][1], "_step": 30} for n, points in found.items()}
    assert codes == [0, 0]


@pytest.mark.slow
def test_the_sweep_of_the_example_is_tracked():
    notes = Notes()
    result = track_sweep.main([notes, Notes(each=True)], steps=20, seeds=2)
    assert len(notes.points) == 8
    assert len(result.rows) == 16
    assert notes.failed == dict.fromkeys(notes.points, False)
