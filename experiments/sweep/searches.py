"""Searches of the command line: a study of Optuna in the folder of a sweep."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

from experiments.lab import BadInput
from experiments.sweep.settings import SAMPLERS, Settings
from seqcells import _check, sweep

STUDY = "study.db"  # Optuna's storage, in SQLite


def study(settings: Settings, out: Path) -> Any:
    """Return the study of a search, a new one if there is none in its folder."""
    assert settings.search is not None
    optuna = _optuna()
    name, package = SAMPLERS[settings.search]
    if importlib.util.find_spec(package) is None:
        raise BadInput(
            f"search: expected the package {package}, which Optuna needs for {settings.search}, "
            f"got an environment without it; pip install {package}"
        )
    if (out / "sweep.json").exists() and not (out / STUDY).exists():
        raise BadInput(
            f"out: expected a new folder, or one of a search, got {out}, which holds a sweep "
            "without one; give another with --out"
        )
    out.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        sampler=getattr(optuna.samplers, name)(),
        storage=f"sqlite:///{out / STUDY}",
        study_name="sweep",
        load_if_exists=True,
    )


def kept(out: Path) -> Any:
    """Return the study in a folder, to be read.

    Raises:
        FileNotFoundError: there is none.
    """
    if not (out / STUDY).exists():
        raise FileNotFoundError(out / STUDY)
    return _optuna().load_study(study_name="sweep", storage=f"sqlite:///{out / STUDY}")


def load(
    settings: Settings, out: Path, history: Literal["all", "unfinished"] = "all"
) -> sweep.Result:
    """Read the table of a sweep or a search.

    Raises:
        FileNotFoundError: nothing is trained yet.
    """
    one = None if settings.search is None else kept(out)
    result = sweep.load(out, settings.space, history, study=one, replicates=settings.seeds)
    if not result.rows:
        raise FileNotFoundError(out)
    return result


def _optuna() -> Any:
    optuna = _check.extra("optuna", "seqcells[search]")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
