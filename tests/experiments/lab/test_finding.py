"""Studies are discovered by their files."""

from experiments.__main__ import main
from tests.support.studies import ALL


def test_a_study_is_called_as_its_file_is():
    assert len(ALL) > 9
    assert {name: one.name for name, one in ALL.items()} == {name: name for name in ALL}


def test_a_file_that_is_no_study_is_named(tmp_path, capsys):
    path = tmp_path / "empty.py"
    assert main(["run", str(path)]) == 2
    assert f"study: expected a Python file, got {path}" in capsys.readouterr().err
    path.write_text("x = 1", encoding="utf-8")
    assert main(["run", str(path)]) == 2
    assert f"study: expected one Study in {path}, got 0" in capsys.readouterr().err
