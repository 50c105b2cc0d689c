"""The overhead of segments in a sweep, against one long scan: `python scripts/sweep_overhead.py`.

Trains GRUs on a sequence of sines with `sweep.from_loss`, as one program: all steps in one segment,
and in many segments, with the log in a folder between them. The two are timed alternately.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import seqcells as sc
from seqcells import sweep
from seqcells.sweep._batch import Batch, columns
from seqcells.sweep._job import Job
from seqcells.sweep._part import PartFolder
from seqcells.sweep._program import build


def task(hidden_size: int) -> sweep.Task:
    """Predict the next value of a sine from those before it."""
    cell = sc.GRU(hidden_size)

    def loss(params: sc.GRUParams, key: jax.Array, _: object) -> tuple[jax.Array, dict]:
        phase = jax.random.uniform(key, (8,)) * 6
        xs = jnp.sin(jnp.arange(33)[:, None, None] / 3 + phase[:, None])
        _, ys = sc.unroll(cell, params, xs[:-1])
        return jnp.mean(jnp.square(ys[..., :1] - xs[1:])), {}

    return sweep.from_loss(loss, lambda key, _: cell.init(key, 1))


def measure(steps: int, segment: int, trials: int, repeats: int) -> tuple[float, float]:
    """Return the median seconds of one long scan and of the segments."""
    space = sweep.Space(learning_rate=sweep.log(1e-4, 1e-2, trials)).trials()

    def timed(length: int) -> Callable[[], float]:
        program = build(task(16), columns(space), trials, length, "loss", jax.random.key(0))

        def once() -> float:
            with tempfile.TemporaryDirectory() as folder:
                job = Job(space, trials)
                part = PartFolder(Path(folder), {}, job.about)
                batch = Batch.begin(program, space)
                jax.block_until_ready(batch.state)
                start = time.perf_counter()
                while batch.step < steps:
                    part.log(batch.advance(length))
                return time.perf_counter() - start

        return once

    pair = timed(steps), timed(segment)
    seconds = np.asarray([[one() for one in pair] for _ in range(repeats + 1)][1:])
    return statistics.median(seconds[:, 0]), statistics.median(seconds[:, 1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("steps", 2000), ("segment", 100), ("trials", 32), ("repeats", 7)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    whole, parts = measure(**vars(args))
    print(
        f"{args.trials} trials, {args.steps} steps: one scan {whole:.3f} s, segments of "
        f"{args.segment} {parts:.3f} s, {100 * (parts / whole - 1):+.1f} %"
    )


if __name__ == "__main__":
    main()
