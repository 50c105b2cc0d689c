"""The command line: `python -m benchmarks COMMAND`, of which `-h` names all."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

import benchmarks
from benchmarks import pages
from benchmarks.harness import machine, tables
from benchmarks.harness.contestants import PEERS
from benchmarks.harness.problem import SHAPES, Shape, parse_shape
from benchmarks.harness.programs import What
from benchmarks.suites import configurations, flags, gpu, scaling, sweep
from benchmarks.suites.peers import compare
from experiments import lab
from experiments.lab import BadInput, positive, several, whole, writable, write_whole

Row = dict[str, Any]
Say = Callable[[str], None]
ShapeName = Literal["S1", "S2", "S3", "S4", "S5", "S6"]
CellName = Literal["RNN", "GRU", "LSTM"]
PeerName = Literal["naive", "linen", "nnx", "haiku", "equinox", "keras", "torch"]
Axis = Literal["T", "B", "H"]

PROGRAM = "python -m benchmarks"
RESULTS = Path("benchmarks") / "results"
TESTS = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/engines/test_device.py"]
Measured = list[tuple[str, Callable[[Say], list[Row]]]]  # groups by name, and what measures them


@dataclasses.dataclass(frozen=True)
class Table:
    """A command's table: its name, the columns that tell groups apart, all columns, the page."""

    command: str
    keys: list[str]
    columns: list[str]
    page: Callable[[list[Row]], str]


TABLES = {
    "peers": Table("peers", compare.KEYS, compare.COLUMNS, pages.peers),
    "sweep": Table("sweep", sweep.KEYS, sweep.COLUMNS, pages.sweep),
    "configurations": Table(
        "configurations", configurations.KEYS, configurations.COLUMNS, pages.configurations
    ),
    "scaling": Table("scaling", scaling.KEYS, scaling.COLUMNS, pages.scaling),
    "flags": Table("flags", flags.KEYS, flags.COLUMNS, pages.flags),
    "gpu": Table("gpu", gpu.KEYS, gpu.COLUMNS, pages.gpu),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Common:
    """What every measurement can be told."""

    seconds: float = 10.0
    """how long each group is timed; there are five rounds in any case"""
    cores: int = 1
    """pin the process to so many cores"""
    out: Path = RESULTS
    """folder of the tables; a group that is there already is replaced"""

    def prepare(self, cores: int, devices: int = 1) -> None:
        """Check what all have, and set up the process."""
        positive("seconds", self.seconds, 10)
        machine.prepare(cores, devices)

    def check_sizes(self, *names: str, least: int) -> None:
        """Check settings that are several sizes each."""
        for name in names:
            several(name, getattr(self, name), "32")
            for value in getattr(self, name):
                whole(name, value, least=least)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peers(Common):
    """Measure seqcells beside a hand-written scan and six frameworks."""

    shapes: tuple[ShapeName, ...] = ()
    """default: all, or none where --shape is given"""
    shape: tuple[str, ...] = ()
    """other shapes, as B,T,I,H"""
    cells: tuple[CellName, ...] = get_args(CellName)
    what: tuple[What, ...] = get_args(What)
    peers: tuple[PeerName, ...] = get_args(PeerName)

    def run(self, console: Console) -> None:
        """Measure every cell at every shape."""
        several("cells", self.cells, "GRU")
        several("what", self.what, "training")
        sizes = [SHAPES[name] for name in self.shapes] + [parse_shape(s) for s in self.shape]
        self.prepare(self.cores)
        peers = installed(self.peers, console)
        groups: Measured = [
            (f"{kind} {shape.name}", functools.partial(self._measure, kind, shape, peers))
            for kind in self.cells
            for shape in sizes or SHAPES.values()
        ]
        run(TABLES["peers"], groups, self.out, console)

    def _measure(self, kind: str, shape: Shape, peers: list[str], say: Say) -> list[Row]:
        return compare.measure(kind, shape, self.what, peers, self.seconds, say)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(Common):
    """Measure the gradients of many members: vmapped, looped, and spread over devices."""

    members: tuple[int, ...] = (32, 256)
    hidden: tuple[int, ...] = (32, 64, 128)
    devices: int = 1
    """CPU devices; with more than one, each has a core and seqcells is spread over them too"""

    def run(self, console: Console) -> None:
        """Measure every number of members at every hidden size."""
        self.check_sizes("members", "hidden", least=1)
        for members in self.members:
            if members % self.devices:
                raise BadInput(
                    f"members: expected multiples of the {self.devices} devices, got {members}; "
                    f"give --members {members + -members % self.devices}"
                )
        self.prepare(max(self.cores, self.devices), self.devices)
        groups: Measured = [
            (f"{members} members, H {hidden}", functools.partial(self._measure, members, hidden))
            for members in self.members
            for hidden in self.hidden
        ]
        run(TABLES["sweep"], groups, self.out, console)

    def _measure(self, members: int, hidden: int, say: Say) -> list[Row]:
        return sweep.measure(members, hidden, self.seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Configurations(Common):
    """Measure whole trainings a second: a sweep, a loop over a jitted run, a program for each."""

    configurations: tuple[int, ...] = (16, 64)
    hidden: tuple[int, ...] = (32,)
    steps: int = 100
    """of each training"""

    def run(self, console: Console) -> None:
        """Measure every number of configurations at every hidden size."""
        self.check_sizes("configurations", "hidden", least=2)
        whole("steps", self.steps, least=1)
        self.prepare(self.cores)
        groups: Measured = [
            (f"{count} configurations, H {hidden}", functools.partial(self._measure, count, hidden))
            for count in self.configurations
            for hidden in self.hidden
        ]
        run(TABLES["configurations"], groups, self.out, console)

    def _measure(self, count: int, hidden: int, say: Say) -> list[Row]:
        return configurations.measure(count, hidden, self.steps, self.seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scaling(Common):
    """Measure a training step against T, B and H, one at a time around a centre."""

    axes: tuple[Axis, ...] = get_args(Axis)
    most: int = 4096
    """leave out values above this"""

    def run(self, console: Console) -> None:
        """Measure every value of every size."""
        several("axes", self.axes, "T")
        whole("most", self.most, least=16)
        self.prepare(self.cores)
        groups: Measured = [
            (f"{axis} {value}", functools.partial(self._measure, axis, value))
            for axis in self.axes
            for value in scaling.VALUES[axis]
            if value <= self.most
        ]
        run(TABLES["scaling"], groups, self.out, console)

    def _measure(self, axis: str, value: int, say: Say) -> list[Row]:
        return scaling.measure(axis, value, self.seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags(Common):
    """Measure seqcells with lengths, masks and resets beside seqcells without."""

    shapes: tuple[ShapeName, ...] = ("S1", "S3", "S6")
    cells: tuple[CellName, ...] = get_args(CellName)
    what: tuple[What, ...] = get_args(What)

    def run(self, console: Console) -> None:
        """Measure every cell at every shape."""
        for name, example in (("shapes", "S1"), ("cells", "GRU"), ("what", "training")):
            several(name, getattr(self, name), example)
        self.prepare(self.cores)
        groups: Measured = [
            (f"{kind} {shape} {what}", functools.partial(self._measure, kind, shape, what))
            for kind in self.cells
            for shape in self.shapes
            for what in self.what
        ]
        run(TABLES["flags"], groups, self.out, console)

    def _measure(self, kind: str, shape: ShapeName, what: What, say: Say) -> list[Row]:
        return flags.measure(kind, SHAPES[shape], what, self.seconds)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gpu:
    """Measure a GRU on a GPU, beside cuDNN and Flax, after the tests that need a device.

    Cases that the table has are not measured again; so a second run goes on where time was up.
    """

    minutes: float = 8.0
    """when to begin no other case"""
    seconds: float = 0.4
    """how long each case is timed; there are five rounds in any case"""
    again: bool = False
    """measure what the table has once more"""
    tests: bool = True
    """run the tests that are for a device before"""
    out: Path = RESULTS
    """folder of the tables"""

    def run(self, console: Console) -> None:
        """Measure every case that is missing, until time is up."""
        positive("minutes", self.minutes, 8)
        positive("seconds", self.seconds, 0.4)
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # others need memory too
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")  # of several, arrays may be cut over all
        device, driver = gpu.prepare()
        said = os.environ.get("XLA_FLAGS", "")  # or tests would be compiled without optimising
        env = os.environ | {"XLA_FLAGS": said}
        failed = self.tests and subprocess.run(TESTS, env=env, check=False).returncode
        end = time.monotonic() + 60 * self.minutes
        about = {"device": device, "driver": driver} | machine.about()
        stem = f"gpu-{'-'.join(device.lower().split())}"
        known = [] if self.again else tables.read(self.out / f"{stem}.csv", gpu.COLUMNS)
        seen = gpu.seen(known)
        groups: Measured = [
            (
                f"{case.dtype} {case.what} B,T,H {case.shape.name}",
                functools.partial(gpu.measure, case, self.seconds, about),
            )
            for case in gpu.cases()
            if tuple(case.group.values()) not in seen
        ]
        run(TABLES["gpu"], groups, self.out, console, stem=stem, end=end)
        if failed:
            raise BadInput("tests: expected those that need a device to pass; see above")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw the pictures again from the tables."""

    cores: int = 1
    """of the tables"""
    results: Path = RESULTS
    """folder of the tables"""
    out: Path = Path("docs")
    """folder of the pictures"""

    def run(self, console: Console) -> None:
        """Draw a picture of each table that is there."""
        from benchmarks.suites.peers import picture  # matplotlib is slow to import

        out, drawn = writable(self.out), 0
        pictures = {"peers": ("peers-speed.png", picture.draw_peers)}
        pictures["scaling"] = ("scaling.png", picture.draw_scaling)
        for name, (file, draw) in pictures.items():
            path = self.results / f"{machine.stem(name, self.cores)}.csv"
            rows = tables.read(path, TABLES[name].columns)
            if rows:
                draw(rows, out / file)
                say(console, f"{out / file}, of {path}")
                drawn += 1
        if not drawn:
            raise BadInput(
                f"results: expected {machine.stem('peers', self.cores)}.csv in {self.results}, "
                f"found none; make it with {PROGRAM} peers --cores {self.cores}"
            )


def installed(names: tuple[str, ...], console: Console) -> list[str]:
    """Return the peers that can be imported; tell how to install the others."""
    found = []
    for name in names:
        try:
            PEERS[name].load()
        except ImportError as error:
            told = f"{name} is left out ({error}); pip install {PEERS[name].package}"
            say(console, told)
        else:
            found.append(name)
    return found


def run(
    table: Table,
    groups: Measured,
    out: Path,
    console: Console,
    *,
    stem: str | None = None,
    end: float = math.inf,
) -> None:
    """Measure groups with a bar; after each, write the table and its page.

    Args:
        table: which table the rows go to.
        groups: what to measure.
        out: where the table is kept.
        console: where the bar and, at the end, the page of what was measured are printed.
        stem: the file's name; that of the cores in use where None.
        end: when no other group is begun, as `time.monotonic` tells time.
    """
    stem = machine.stem(table.command, lab.cores()) if stem is None else stem
    path = writable(out) / f"{stem}.csv"
    rows, fresh = tables.read(path, table.columns), []
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(groups))
        for i, (name, measure) in enumerate(groups, 1):
            if time.monotonic() > end:
                say(console, f"Time is up: {len(groups) - i + 1} of {len(groups)} are left.")
                break
            title = f"group {i} of {len(groups)}, {name}"
            bar.update(task, description=title, completed=i - 1)
            start = time.perf_counter()
            new = measure(lambda what, t=title: bar.update(task, description=f"{t}: {what}"))
            rows, fresh = tables.replace_groups(rows, new, table.keys), [*fresh, *new]
            tables.write(path, rows, table.columns)
            write_whole(path.with_suffix(".md"), table.page(rows))
            say(console, f"{name:24} {time.perf_counter() - start:.0f} s")
    say(console, f"\n{table.page(fresh)}\nTables: {path}, {path.with_suffix('.md')}")


def say(console: Console, text: str) -> None:
    """Print text as it is: no markup, no line broken."""
    console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)


Command = (
    Annotated[Peers, tyro.conf.subcommand("peers")]
    | Annotated[Sweep, tyro.conf.subcommand("sweep")]
    | Annotated[Configurations, tyro.conf.subcommand("configurations")]
    | Annotated[Scaling, tyro.conf.subcommand("scaling")]
    | Annotated[Flags, tyro.conf.subcommand("flags")]
    | Annotated[Gpu, tyro.conf.subcommand("gpu")]
    | Annotated[Plot, tyro.conf.subcommand("plot")]
)


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    errors, form = Console(stderr=True), cast(Any, Command)  # to tyro, a union is a form
    try:
        command = tyro.cli(form, args=arguments, prog=PROGRAM, description=benchmarks.__doc__)
        command.run(Console())
    except (BadInput, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:
            raise  # it names nothing that a user could mend
        say(errors, str(error))
        return 1
    except KeyboardInterrupt:
        say(errors, "Stopped. The groups that are finished are in the tables.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
