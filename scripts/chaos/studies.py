"""The storages of Optuna's studies whose search is killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from seqcells import _check


def journal(folder: Path) -> Any:
    """A log of operations."""
    storages = _check.extra("optuna", "seqcells[search]").storages
    path = str(folder.resolve() / "study.log")
    lock = storages.journal.JournalFileSymlinkLock(path, grace_period=3)  # seconds, to save time
    return storages.JournalStorage(storages.journal.JournalFileBackend(path, lock))


def sqlite(folder: Path) -> str:
    """A database."""
    return f"sqlite:///{folder}/study.db"


STORAGES: dict[str, Callable[[Path], Any]] = {one.__name__: one for one in (journal, sqlite)}


def study_of(folder: Path, storage: str) -> Any:
    """Create or load the study of a folder."""
    optuna = _check.extra("optuna", "seqcells[search]")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage=STORAGES[storage](folder),
        sampler=optuna.samplers.TPESampler(n_startup_trials=16, seed=0),
        study_name="chaos",
        load_if_exists=True,
    )
