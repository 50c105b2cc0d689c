"""Experiments that test common claims about recurrent networks, and sweeps of hyperparameters."""

from __future__ import annotations

import dataclasses
import inspect
import shlex
import sys
from pathlib import Path
from typing import Annotated, Generic, Protocol, TypeVar

import jax
import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

import seqcells as sc
from experiments import studies
from experiments.lab import (
    HELP,
    BadInput,
    Study,
    cores,
    discover,
    exit_code,
    is_path,
    load,
    print_list,
    read_options,
    say,
    unknown,
)
from experiments.sweep import command as sweeps
from experiments.sweep import report as sweep_report
from experiments.sweep import settings as sweep_settings

PROGRAM = "python -m experiments"
USAGE = f"""\
{PROGRAM}                  list the studies
{PROGRAM} run NAME         run a study; finished groups are kept
{PROGRAM} run NAME --quick a form of less than 3 minutes
{PROGRAM} run my/study.py  run your own study
{PROGRAM} run NAME -h      options of NAME
{PROGRAM} report NAME      write its report again
{PROGRAM} sweep PROBE      try hyperparameters on a probe
{PROGRAM} sweep -h         options of a sweep
{PROGRAM} status OUT       progress of the sweep in OUT
{PROGRAM} resume OUT       continue the sweep in OUT
{PROGRAM} report OUT       write the sweep's report again
{PROGRAM} --version        version of seqcells"""
STOPPED = (
    "Stopped. Finished work is kept. The same command continues: a study repeats the interrupted "
    "group, a sweep continues from its last checkpoint."
)
PROBE = f"task to train on: {', '.join(sweep_settings.PROBES)}"
S = TypeVar("S")


class Command(Protocol):
    """A command line, parsed by tyro."""

    def do(self, console: Console, line: str) -> None:
        """Run the command; `line` is shown in the reports that it writes."""
        ...


@dataclasses.dataclass(frozen=True)
class List:
    """List the studies and the commands."""

    def do(self, console: Console, line: str) -> None:
        """Print them."""
        print_list(console, discover(studies))
        say(console, f"\n{USAGE}")


@dataclasses.dataclass(frozen=True)
class RunStudy(Generic[S]):
    """Run one study."""

    name: tyro.conf.Suppress[str]
    settings: Annotated[S, arg(name="")]
    out: Path
    """folder of the results; a second run continues there"""
    quick: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """run a short form of a few minutes; other options change it; --quick -h shows its defaults"""

    def do(self, console: Console, line: str) -> None:
        """Run the unfinished groups, then write the report."""
        use_all_cores()
        load(self.name, studies, Study)[1].run(self.settings, self.out, console, line, self.quick)


@dataclasses.dataclass(frozen=True)
class Report:
    """Write a report again, from the files of a run."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """a study, the path of a study, or the folder of a sweep"""
    out: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")] = None
    """folder of the study's results; runs/NAME if not given"""
    tensorboard: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """for a sweep: also write the curves for TensorBoard"""

    def do(self, console: Console, line: str) -> None:
        """Write it."""
        if _is_study(self.name):
            if self.tensorboard:
                raise BadInput(
                    f"tensorboard: expected the folder of a sweep, got the study {self.name}; "
                    "leave --tensorboard out"
                )
            _, study = load(self.name, studies, Study)
            study.report(self.out or Path("runs") / study.name, console)
            return
        folder = Path(self.name)
        if self.out is not None:
            raise BadInput(
                f"out: expected no other folder for a sweep, got {self.out}; the report is "
                f"written into {folder}"
            )
        sweep_report.report(folder, console)
        if self.tensorboard:
            count = sweep_report.to_tensorboard(folder)
            say(console, f"{count} runs: tensorboard --logdir {folder / 'tensorboard'}")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Sweep hyperparameters of a cell on a probe."""

    probe: Annotated[Positional[str], arg(metavar="PROBE", help=PROBE)]
    settings: Annotated[sweep_settings.Settings, arg(name="")] = dataclasses.field(
        default_factory=sweep_settings.Settings
    )
    out: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")] = None
    """folder of the sweep; a second run continues there; runs/sweep-PROBE if not given"""
    way: Annotated[sweeps.Way, arg(name="")] = dataclasses.field(default_factory=sweeps.Way)

    def do(self, console: Console, line: str) -> None:
        """Run what is not finished, then report."""
        use_all_cores(self.way.executor is not None)
        out = self.out or Path("runs") / f"sweep-{self.probe}"
        result = sweeps.run(self.probe, self.settings, out, console, line, self.way)
        sweep_report.report_finished(result, out, console)


@dataclasses.dataclass(frozen=True)
class Resume:
    """Continue the sweep in a folder."""

    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """folder of the sweep"""
    way: Annotated[sweeps.Way, arg(name="")] = dataclasses.field(default_factory=sweeps.Way)

    def do(self, console: Console, line: str) -> None:
        """Run what is not finished, then report."""
        use_all_cores(self.way.executor is not None)
        probe, settings, about = sweeps.read_sweep(self.out)
        remedy = "make it writable, or resume a copy of it"
        line = about["command"]
        result = sweeps.run(probe, settings, self.out, console, line, self.way, remedy)
        sweep_report.report_finished(result, self.out, console)


@dataclasses.dataclass(frozen=True)
class Status:
    """Show the progress of the sweep in a folder."""

    out: Annotated[Positional[Path], arg(metavar="OUT")]
    """folder of the sweep"""

    def do(self, console: Console, line: str) -> None:
        """Print it, without changing the sweep."""
        sweep_report.status(self.out, console)


COMMANDS: dict[str, type[Command]] = {
    "list": List,
    "report": Report,
    "sweep": Sweep,
    "status": Status,
    "resume": Resume,
}


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    console = Console()
    if arguments == ["--version"]:
        say(console, f"seqcells {sc.__version__}")
        return 0
    command, name = [*arguments, "", ""][:2]
    if command in ("", *HELP) or (command == "run" and name in HELP):
        arguments = ["list"]
    if wrong := _wrong(*arguments[:2]):
        say(Console(stderr=True), wrong)
        return 2
    line = f"{PROGRAM} {shlex.join(arguments)}"
    return exit_code(lambda: parse(*arguments).do(console, line), STOPPED)


def _is_study(name: str) -> bool:
    return is_path(name) or name in discover(studies)


def _wrong(command: str, name: str = "") -> str:
    """Return what is wrong with the first two words, or "" if they are right."""
    known = list(discover(studies))
    if command in known:
        return f"{command} is a study. Did you mean: {PROGRAM} run {command}"
    if command not in ("run", *COMMANDS):
        return f"{unknown('command', command, ('run', *COMMANDS))}\n\n{USAGE}"
    if name in HELP:
        return ""
    if command == "list":
        return f"list: expected no arguments, got {name!r}." if name else ""
    if command in ("status", "resume"):
        expected = f"{command}: expected the folder of a sweep, such as runs/sweep-copy"
        return "" if name else f"{expected}, got nothing."
    kind, known = ("probe", list(sweep_settings.PROBES)) if command == "sweep" else ("study", known)
    if not name or name.startswith("-"):
        return f"{command}: expected the name of a {kind}: {', '.join(known)}."
    other = kind == "study" and (is_path(name) or (command == "report" and Path(name).is_dir()))
    return "" if name in known or other else unknown(kind, name, known)


def parse(command: str, *rest: str) -> Command:
    """Parse a command line; print a message and raise SystemExit if an option is wrong."""
    if command != "run":
        return read_options(COMMANDS[command], rest, f"{PROGRAM} {command}")
    name, *options = rest
    module, study = load(name, studies, Study)
    settings = study.quick if "--quick" in options else study.settings
    return read_options(
        RunStudy[type(settings)],
        options,
        f"{PROGRAM} run {shlex.quote(name)}",
        inspect.getdoc(module) or study.title,
        default=RunStudy(name, settings, Path("runs") / study.name),
    )


def use_all_cores(by_workers: bool = False) -> None:
    """Make every core a CPU device, because two scans do not run in parallel on one device.

    If workers compute, leave the devices to them: this process needs none but a CPU.
    """
    if by_workers:
        jax.config.update("jax_platforms", "cpu")
    else:
        jax.config.update("jax_num_cpu_devices", cores())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
