"""Experiments that test common claims about recurrent networks, and sweeps of hyperparameters."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import operator
import shlex
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any, Generic, Protocol, TypeVar

import jax
import tyro
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg, subcommand

import seqcells as sc
from experiments import studies
from experiments.lab import BadInput, Study, cores, discover, exit_code, is_path, load, say
from experiments.sweep import command as sweeps
from experiments.sweep import report as sweep_report
from experiments.sweep import settings as sweep_settings

PROGRAM = "python -m experiments"
USAGE = f"""\
{PROGRAM}                  list the studies
{PROGRAM} run NAME         run a study; finished groups are kept
{PROGRAM} run NAME --quick a form of less than 3 minutes
{PROGRAM} run my/study.py  run a study of your own
{PROGRAM} run NAME -h      options of NAME
{PROGRAM} report NAME      draw its report again
{PROGRAM} sweep PROBE      try hyperparameters on a probe
{PROGRAM} sweep -h         options of a sweep
{PROGRAM} status OUT       progress of the sweep in OUT
{PROGRAM} resume OUT       continue it
{PROGRAM} report OUT       draw its report again
{PROGRAM} --version        version of seqcells"""
STOPPED = (
    "Stopped. Finished work is kept, and the same command continues: a study from the start of the "
    "group that it was at, a sweep from its last checkpoint."
)
S = TypeVar("S")


class Command(Protocol):
    """One line that a user typed, as tyro parsed it."""

    def do(self, console: Console, line: str) -> None:
        """Do it; `line` is shown on the pages that it writes."""
        ...


@dataclasses.dataclass(frozen=True)
class List:
    """List the studies and the commands."""

    def do(self, console: Console, line: str) -> None:
        """Print them."""
        named = [f"{name}: {text}" for name, text in discover(studies).items()]
        say(console, "\n".join(["Studies", *named, "", USAGE]))


@dataclasses.dataclass(frozen=True)
class RunStudy(Generic[S]):
    """Run one study."""

    name: tyro.conf.Suppress[str]
    settings: Annotated[S, arg(name="")]
    out: Path
    """folder of the results"""
    quick: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """a form of a few minutes, which the other options change"""

    def do(self, console: Console, line: str) -> None:
        """Measure what is not finished, then report."""
        use_all_cores()
        load(self.name, studies, Study)[1].run(self.settings, self.out, console, line, self.quick)


@dataclasses.dataclass(frozen=True)
class Nothing:
    """What stands for a study that was not named, so that it is not imported."""


@dataclasses.dataclass(frozen=True)
class Report:
    """Draw a report again, from the files of a run."""

    name: Annotated[Positional[str], arg(metavar="NAME")]
    """a study, the path of a study, or the folder of a sweep"""
    out: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")] = None
    """folder of the study's results; runs/NAME if not given"""
    tensorboard: Annotated[FlagCreatePairsOff[bool], arg(help_behavior_hint="")] = False
    """of a sweep: write the curves for TensorBoard, too"""

    def do(self, console: Console, line: str) -> None:
        """Draw it."""
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
                f"out: expected nothing beside the folder of a sweep, got {self.out}; the report "
                f"is written into {folder}"
            )
        sweep_report.report(folder, console)
        if self.tensorboard:
            count = sweep_report.to_tensorboard(folder)
            say(console, f"{count} runs: tensorboard --logdir {folder / 'tensorboard'}")


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Sweep hyperparameters of a cell on a probe."""

    probe: Annotated[Positional[str], arg(metavar="PROBE", help=", ".join(sweep_settings.PROBES))]
    settings: Annotated[sweep_settings.Settings, arg(name="")] = dataclasses.field(
        default_factory=sweep_settings.Settings
    )
    out: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")] = None
    """folder of the sweep, which a second run continues; runs/sweep-PROBE if not given"""

    def do(self, console: Console, line: str) -> None:
        """Run what is not finished, then report."""
        use_all_cores()
        out = self.out or Path("runs") / f"sweep-{self.probe}"
        sweeps.run(self.probe, self.settings, out, console, line)
        if jax.process_index() == 0:
            sweep_report.report(out, console)


@dataclasses.dataclass(frozen=True)
class Resume:
    """Continue the sweep in a folder."""

    out: Positional[Path]
    """folder of the sweep"""

    def do(self, console: Console, line: str) -> None:
        """Run what is not finished, then report."""
        use_all_cores()
        probe, settings, about = sweeps.read_sweep(self.out)
        remedy = "make it writable, or resume a copy of it"
        sweeps.run(probe, settings, self.out, console, about["command"], remedy)
        if jax.process_index() == 0:
            sweep_report.report(self.out, console)


@dataclasses.dataclass(frozen=True)
class Status:
    """Show the progress of the sweep in a folder."""

    out: Positional[Path]
    """folder of the sweep"""

    def do(self, console: Console, line: str) -> None:
        """Print it, without touching the sweep."""
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
    arguments = arguments or ["list"]
    if wrong := _wrong(*arguments[:2]):
        say(Console(stderr=True), f"{wrong}\n\n{USAGE}")
        return 2
    line = f"{PROGRAM} {shlex.join(arguments)}"
    return exit_code(lambda: parse(arguments).do(console, line), STOPPED)


def _is_study(name: str) -> bool:
    return is_path(name) or name in discover(studies)


def _wrong(command: str, name: str = "") -> str:
    """Say what is wrong with the first two words; nothing if they are right."""
    known = list(discover(studies))
    if command in ("-h", "--help") or name in ("-h", "--help"):
        return ""
    if command in known:
        return f"{command} is a study. Did you mean: {PROGRAM} run {command}"
    if command not in ("run", *COMMANDS):
        return _expected("command", command, ("run", *COMMANDS))
    if command == "list":
        return f"list: expected nothing after it, got {name!r}." if name else ""
    if command in ("status", "resume"):
        return "" if name else f"{command}: expected the folder of a sweep, got nothing."
    kind, known = ("probe", list(sweep_settings.PROBES)) if command == "sweep" else ("study", known)
    if not name or name.startswith("-"):
        return f"{command}: expected the name of a {kind}: {', '.join(known)}."
    other = kind == "study" and (is_path(name) or (command == "report" and Path(name).is_dir()))
    return "" if name in known or other else _expected(kind, name, known)


def _expected(what: str, got: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(got, known, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{what}: expected {', '.join(known)}, got {got!r}.{hint}"


def parse(arguments: list[str]) -> Command:
    """Read a line; raise SystemExit, after a message, where an option is wrong."""
    run = Annotated[_run_kind(arguments), subcommand("run", description="Run a study.")]
    others = [Annotated[kind, subcommand(name)] for name, kind in COMMANDS.items()]
    return tyro.cli(
        _union([run, *others]),
        args=arguments,
        prog=PROGRAM,
        description=__doc__,
        config=(tyro.conf.OmitSubcommandPrefixes,),
    )


def _run_kind(arguments: list[str]) -> Any:
    """Return the union of the studies; only the one that is named is imported, for its options."""
    named = arguments[1] if arguments[0] == "run" and len(arguments) > 1 else ""
    kinds = [
        Annotated[Nothing, subcommand(name, description=text)]
        for name, text in discover(studies).items()
        if name != named
    ]
    if _is_study(named):
        module, study = load(named, studies, Study)
        settings = study.quick if "--quick" in arguments else study.settings
        default = RunStudy(named, settings, Path("runs") / study.name)
        text = inspect.getdoc(module)
        kind = RunStudy[type(settings)]
        kinds.append(Annotated[kind, subcommand(named, default=default, description=text)])
    return _union(kinds)


def _union(kinds: Iterable[Any]) -> Any:
    return functools.reduce(operator.or_, kinds)


def use_all_cores() -> None:
    """Make a CPU device of every core: two scans do not overlap on one device."""
    jax.config.update("jax_num_cpu_devices", cores())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
