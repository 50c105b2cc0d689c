"""Tools for studies: models and training, judging of claims, and the files of a run.

Import from here in your own study; `docs/studies.md` shows a complete one.
"""

# ruff: noqa: F401 - the names below are for studies to import

from experiments.lab import folders
from experiments.lab.arms import CHRONO, GRU, IRNN, TANH, Arm, Make, as_large, parameters, rnn
from experiments.lab.cache import Part, Rows, made_with
from experiments.lab.claims import (
    NOT_RUN,
    Claim,
    Count,
    Frame,
    Verdict,
    against,
    ahead,
    all_hold,
    at_best,
    best,
    count,
    loss_between,
    losses_by_rate,
    losses_text,
    more_often,
    not_behind,
    pick,
    share_at_least,
    share_at_most,
)
from experiments.lab.commands import HELP, read_options, unknown
from experiments.lab.console import exit_code, print_list, print_table, progress_bar, say
from experiments.lab.files import (
    ABOUT,
    Json,
    read_about,
    read_table,
    writable,
    write_about,
    write_whole,
)
from experiments.lab.finding import discover, is_path, load
from experiments.lab.intervals import Interval, Z, difference, of_losses, wilson
from experiments.lab.machine import commit, cores, processor, today
from experiments.lab.measures import AT_END, AT_START, GradientByLag
from experiments.lab.models import (
    Cosine,
    Flossing,
    Member,
    Omega,
    Penalty,
    Reader,
    ReaderParams,
    Task,
    optimizer,
)
from experiments.lab.pages import REPORT, Page, Table, markdown, provenance
from experiments.lab.pictures import (
    BY_LENGTH,
    BY_TASK,
    COLOURS,
    MARKERS,
    OVERLAP,
    STYLE,
    add_legend,
    add_note,
    diverged,
    draw_accuracy,
    draw_counts,
    draw_grid,
    draw_success,
    grid_of_panels,
    look,
    room,
    save,
    set_title,
    shown,
    styled,
)
from experiments.lab.runs import CODE, COLUMNS, Run, RunGroup, list_runs
from experiments.lab.settings import (
    BadInput,
    BadValue,
    CheckedSettings,
    known,
    refusals,
    restore,
)
from experiments.lab.study import Study, read_results, read_tables, settings_table
from experiments.lab.text import brief, decimal, interval, short, words
