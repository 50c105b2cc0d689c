"""Results of a sweep or a search, from its folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from seqcells import _check
from seqcells.sweep._search import proposed
from seqcells.sweep._space import Space
from seqcells.sweep._store import ABOUT, read
from seqcells.sweep._table import Result


def load(
    out: str | os.PathLike[str],
    space: Space,
    history: Literal["all", "unfinished"] = "all",
    *,
    study: Any = None,
    replicates: int = 1,
) -> Result:
    """Read the results in a folder, even while a run writes to it; writes nothing.

    Args:
        out: the folder of the sweep.
        space: its space, or a part of it.
        history: "unfinished" reads the history of unfinished trials alone, which is faster.
        study: for a search, its `optuna.Study`, which has the proposals so far.
        replicates: as in `search`.

    Returns:
        The table, in the order of `space.trials()` or of the proposals; `status` is "unfinished"
        for a trial without a row.

    Raises:
        FileNotFoundError: there is no sweep in the folder.
        ValueError: a file is damaged, or `history` is another word.
    """
    _check.choice("history", history, ("all", "unfinished"))
    trials = space.columns() if study is None else proposed(space, study, replicates)
    left_of = trials["id"] if history == "unfinished" else ()
    settings, rows, lines = read(Path(out), left_of)
    if not {"metric", "mode"} <= settings.keys():
        raise FileNotFoundError(f"out: expected a folder of a sweep, with {ABOUT}, got {out}")
    metric, mode = settings["metric"], settings["mode"]
    if history == "unfinished":
        finished = set(rows.texts["id"].values)
        lines = lines.where_id([id not in finished for id in lines.texts["id"].values])
    return Result.of(trials, rows, lines, metric=metric, mode=mode)
