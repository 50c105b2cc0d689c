"""The studies of Optuna whose search is killed; their storages."""

from __future__ import annotations

from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock


def journal(folder: Path) -> BaseStorage:
    """A log of operations; the lock of a process that was killed is removed after 3 s."""
    path = str(
        folder.resolve() / "study.log"
    )  # Optuna waits forever for the lock of a relative one
    return JournalStorage(JournalFileBackend(path, JournalFileSymlinkLock(path, grace_period=3)))


def sqlite(folder: Path) -> BaseStorage:
    """A database."""
    return RDBStorage(f"sqlite:///{folder}/study.db")


def study_of(folder: Path, storage: str) -> optuna.Study:
    """Create or load the study of a folder."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(
        storage={"journal": journal, "sqlite": sqlite}[storage](folder),
        sampler=optuna.samplers.TPESampler(n_startup_trials=16, seed=0),
        study_name="chaos",
        load_if_exists=True,
    )
