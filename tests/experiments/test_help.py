"""The help of every command: each option has a text, and a page fits into a terminal."""

import dataclasses

import pytest

from experiments import __main__ as cli
from experiments.lab.settings import option
from tests.support.help_pages import flaws, texts
from tests.support.studies import ALL

PAGES = [*([name] for name in cli.COMMANDS), *(["run", name] for name in ALL)]


@pytest.mark.parametrize("line", PAGES, ids=" ".join)
def test_every_option_has_a_text_and_its_page_fits_into_80_columns(line, capfd, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit, match="0"):
        cli.main([*line, "-h"])
    page = capfd.readouterr().out
    assert page.startswith(f"usage: {cli.PROGRAM} {' '.join(line)} [-h]")
    assert not flaws(page)
    if line[0] == "run":
        fields = vars(ALL[line[1]].settings).items()
        plain = {option(name) for name, value in fields if not dataclasses.is_dataclass(value)}
        assert plain < set(texts(page))


def test_the_help_of_a_quick_form_shows_its_defaults(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["run", "horizon", "--quick", "-h"])
    printed = capsys.readouterr().out
    assert "(default: 10 50)" in printed
    assert "a third" not in printed


@pytest.mark.parametrize(
    ("line", "near"),
    [
        (["run", "adding", "--seed", "5"], "--seeds INT"),
        (["run", "chrono", "--lenghts", "5"], "--lengths [INT"),
        (["sweep", "copy", "--lr", "1"], "--sweep.lr"),
    ],
)
def test_an_unknown_option_names_the_near_one_and_the_help_of_its_command(line, near, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(line)
    shown = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert near in shown
    command = " ".join(line[: 2 if line[0] == "run" else 1])
    assert shown.count("--help") == shown.count(f"{cli.PROGRAM} {command} --help") == 1


def test_what_is_wrong_with_a_study_is_one_line(capsys):
    assert cli.main(["run", "addng"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.endswith("got 'addng'. Did you mean adding?\n")
