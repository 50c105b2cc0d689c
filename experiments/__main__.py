"""The command line: studies (`list`, `run`, `report`) and sweeps (`sweep`, `status`, `resume`)."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import jax
import tyro
from rich.console import Console

import seqcells as sc
from experiments.lab import BadInput, say
from experiments.lab.machine import cores
from experiments.sweep import command as _sweep
from experiments.sweep import report as _sweep_report
from experiments.sweep.command import PROBES

STUDIES = (  # modules of this package: Settings, QUICK, run(...), report(...)
    *("guide", "horizon", "adding", "chrono", "pascanu", "mean_field", "selective_copy"),
    *("trainability", "initialisation", "remedies", "tcn"),
)
COMMANDS = ("list", "run", "report", "sweep", "status", "resume")
PROGRAM = "python -m experiments"
USAGE = f"""\
{PROGRAM}                 list the studies
{PROGRAM} run NAME        run one; what is finished is not repeated
{PROGRAM} run NAME --quick  in a form of less than 3 minutes
{PROGRAM} run NAME -h     what it can be told
{PROGRAM} report NAME     draw its report again
{PROGRAM} sweep PROBE     try hyperparameters on a probe
{PROGRAM} sweep PROBE -h  what it can be told
{PROGRAM} status OUT      how far a sweep in a folder is
{PROGRAM} resume OUT      go on with it
{PROGRAM} report OUT      draw its report again
{PROGRAM} --version       the version of seqcells"""


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    console, errors = Console(), Console(stderr=True)
    command, name, *rest = [*arguments, "", ""]
    rest = rest[: max(0, len(arguments) - 2)]
    if command in ("", "list", "-h", "--help", "--version") and not name:
        say(console, f"seqcells {sc.__version__}" if command == "--version" else _studies())
        return 0
    if command in COMMANDS and name in ("-h", "--help"):
        say(console, _studies())
        return 0
    wrong = _wrong(command, name)
    if wrong:
        say(errors, f"{wrong}\n\n{USAGE}")
        return 2
    try:
        _do(command, name, rest, console)
    except (BadInput, OSError) as error:
        if isinstance(error, OSError) and error.filename is None:
            raise  # it names nothing that a user could mend
        say(errors, str(error))
        return 1
    except KeyboardInterrupt:
        say(
            errors,
            "Stopped. What is finished is kept, and the same command goes on: a study from the "
            "start of the group that it was at, a sweep from its last checkpoint.",
        )
        return 130
    return 0


def _wrong(command: str, name: str) -> str:
    """Say what is wrong with the command or the name of the study; nothing if both are right."""
    if command in STUDIES:
        return f"{command} is a study. Did you mean: {PROGRAM} run {command}"
    if command not in COMMANDS:
        return f"command: expected {', '.join(COMMANDS)}, got {command!r}." + _near(
            command, COMMANDS
        )
    if command == "list":
        return f"list: expected nothing after it, got {name!r}."
    if command in ("status", "resume") or _is_sweep(command, name):
        return "" if name else f"{command}: expected the folder of a sweep, got nothing."
    kind, known = ("probe", tuple(PROBES)) if command == "sweep" else ("study", STUDIES)
    if not name:
        return f"{command}: expected the name of a {kind}: {', '.join(known)}."
    if name not in known:
        return f"{kind}: expected {', '.join(known)}, got {name!r}." + _near(name, known)
    return ""


def _is_sweep(command: str, name: str) -> bool:
    """Whether a report is asked for of a folder, not of a study."""
    return command == "report" and name not in STUDIES and Path(name).is_dir() and bool(name)


def _near(came: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(came, known, n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _do(command: str, name: str, rest: list[str], console: Console) -> None:
    """Do what was asked for, once the command and the name are known to be right."""
    line = f"{PROGRAM} {shlex.join([command, name, *rest])}"
    if command in ("run", "report") and not _is_sweep(command, name):
        _do_study(command, name, rest, console, line)
    else:
        _do_sweep(command, name, rest, console, line)


def _do_sweep(command: str, name: str, rest: list[str], console: Console, line: str) -> None:
    """Run, resume or tell of a sweep."""
    options = _options(command, name, rest)
    if command == "sweep":
        use_all_cores()
        _sweep.run(name, options.settings, options.out, console, line)
        _sweep_report.report(options.out, console)
    elif command == "resume":
        use_all_cores()
        probe, settings, about = _sweep.told(Path(name))
        _sweep.run(probe, settings, Path(name), console, about["command"])
        _sweep_report.report(Path(name), console)
    elif command == "status":
        _sweep_report.status(Path(name), console)
    else:
        _sweep_report.report(Path(name), console)
        if options.tensorboard:
            count = _sweep_report.to_tensorboard(Path(name))
            say(console, f"{count} runs: tensorboard --logdir {Path(name) / 'tensorboard'}")


def _do_study(command: str, name: str, rest: list[str], console: Console, line: str) -> None:
    """Run or report one study, with its own options, from its full or its quick settings."""
    study = _module(name)
    folder = Annotated[Path, tyro.conf.arg(help="folder of the results")]
    fields: list[Any] = [("out", folder, dataclasses.field(default=Path("runs") / name))]
    if command == "run":
        default = study.QUICK if "--quick" in rest else study.Settings()
        settings = Annotated[study.Settings, tyro.conf.arg(name="")]
        fields.append(("settings", settings, dataclasses.field(default_factory=lambda: default)))
    options: Any = tyro.cli(
        dataclasses.make_dataclass("Options", fields),
        args=[word for word in rest if word not in ("--quick", "--full")],
        prog=f"{PROGRAM} {command} {name}",
        description=study.__doc__,
    )
    if command == "report":
        study.report(options.out, console)
        return
    use_all_cores()
    study.run(options.settings, options.out, console, line)


def _options(command: str, name: str, rest: list[str]) -> Any:
    """Read what stands behind a sweep's command."""
    settings = Annotated[_sweep.Settings, tyro.conf.arg(name="")]
    folder = Annotated[Path, tyro.conf.arg(help="folder of the sweep: a second run goes on in it")]
    board = Annotated[bool, tyro.conf.arg(help="write the curves as TensorBoard reads them, too")]
    fields: dict[str, list[Any]] = {
        "sweep": [
            ("out", folder, dataclasses.field(default=Path("runs") / name)),
            ("settings", settings, dataclasses.field(default_factory=_sweep.Settings)),
        ],
        "report": [("tensorboard", board, dataclasses.field(default=False))],
    }
    return tyro.cli(
        dataclasses.make_dataclass("Options", fields.get(command, [])),
        args=rest,
        prog=f"{PROGRAM} {command} {name}",
        description=_sweep.__doc__,
    )


def _module(name: str) -> ModuleType:
    return importlib.import_module(
        "experiments.horizon" if name == "horizon" else f"experiments.studies.{name}"
    )


def _studies() -> str:
    """The studies, and how they are run."""
    lines = [f"{name}: {(_module(name).__doc__ or '').splitlines()[0]}" for name in STUDIES]
    return "\n".join(["Studies", *lines, "", USAGE])


def use_all_cores() -> None:
    """Make a CPU device of every core: two scans do not overlap on one device."""
    jax.config.update("jax_num_cpu_devices", cores())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
