"""A small task for the tests of sweeps, and a sweep whose programs are compiled once for all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seqcells import sweep
from seqcells._checkpoint import _orbax
from seqcells.sweep import _bucket


def make(size=2, traced=lambda f: f):
    """A noisy descent to zero; `boom` is the step at which a trial's loss becomes NaN."""

    def init(hparams, key):
        w = hparams["gain"] * jax.random.normal(key, (size,))
        return {"w": w, "key": key, "t": jnp.int32(0)}

    @traced
    def segment(state, hparams, n):
        def step(state, _):
            key, t = state["key"], state["t"]
            w = state["w"] - hparams["lr"] * jnp.sin(state["w"])
            w = w + 0.01 * jax.random.normal(jax.random.fold_in(key, t), w.shape)
            loss = jnp.where(t == hparams["boom"], jnp.nan, jnp.mean(jnp.square(w)))
            state = state | {"w": jnp.where(jnp.isnan(loss), jnp.nan, w), "t": t + 1}
            return state, {"loss": loss, "largest": jnp.max(jnp.abs(w))}

        return jax.lax.scan(step, state, length=n)

    return sweep.Task(init, segment)


def space(boom=(-1,), seeds=4, **further):
    grid = {"lr": [0.01, 0.1], "gain": [1.0], "boom": boom, "seed": range(seeds)}
    return sweep.Space(**(grid | further))


SWEEP = {"steps": 30, "segment": 10, "batch": 4, "halving": sweep.Halving(10), "save_seconds": 0}
SPACE = space(boom=(-1, 15), lr=[0.1], seeds=3)  # two batches, and trials that end in NaN

PBT = sweep.PBT(10, perturb={"lr": (0.5, 2.0)})
POPULATION = {"batch": "auto", "halving": None, "pbt": PBT}  # instead of halving


def run(out, some=None, **changed):
    """Run a small sweep that is saved after every segment in the folder `out`."""
    return sweep.run(make, some or SPACE, out=out, **(SWEEP | changed))


class Killed(BaseException):
    """The end of a process."""


_programs = {}


def compile_once(monkeypatch):
    """Compile a program of `make()` once for all tests of a process."""
    build = _bucket.build

    @functools.wraps(build)
    def cached(task, hparams, width, segment, metric, key, evolution):
        data = tuple(np.asarray(jax.random.key_data(key)).tolist())
        at = (*hparams, width, segment, metric, data, str(evolution), jax.config.jax_enable_x64)
        if at not in _programs:
            _programs[at] = build(task, hparams, width, segment, metric, key, evolution)
        return _programs[at]

    monkeypatch.setattr(_bucket, "build", cached)


def write_plainly(monkeypatch):
    """Write and read arrays without Orbax, which takes most of the time of a small checkpoint."""

    def write(folder, arrays):
        for name, array in arrays.items():
            (folder / name).mkdir(parents=True)
            (folder / _orbax.data_file(name, array.shape)).write_bytes(array.tobytes())

    def read(folder, shapes):
        files = {name: folder / _orbax.data_file(name, one.shape) for name, one in shapes.items()}
        flat = {name: np.fromfile(files[name], one.dtype) for name, one in shapes.items()}
        return {name: flat[name].reshape(one.shape) for name, one in shapes.items()}

    monkeypatch.setattr(_orbax, "write", write)
    monkeypatch.setattr(_orbax, "read", read)


def plain(rows):
    """Rows without the time they took, NaN as text, so that they can be compared."""
    return [{n: str(v) for n, v in row.items() if n != "seconds"} for row in rows]


def history(result):
    return sorted(map(str, result.history))


def same(result, whole):
    assert plain(result.rows) == plain(whole.rows)
    assert history(result) == history(whole)
