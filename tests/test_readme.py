"""The README's programs run as they stand there."""

import re
from pathlib import Path

import pytest

from jaxcv.cli.main import main

BLOCKS = re.findall(r"```python\n(.*?)```", (Path(__file__).parent.parent / "README.md").read_text(), re.DOTALL)


def test_the_experiment_in_thirty_lines_learns(tmp_path, capsys):
    source = BLOCKS[0]
    assert len(source.splitlines()) <= 36
    file = tmp_path / "mine.py"
    file.write_text(source)
    assert main([str(file), "steps=200", "lr=1e-2", "--workdir", str(tmp_path / "runs")]) == 0
    table = capsys.readouterr().out
    accuracy = float(re.search(r"accuracy\D+([\d.]+) │\n", table).group(1))  # pyright: ignore[reportOptionalMemberAccess]
    assert accuracy > 0.9


def test_the_summary_is_the_course_table(capsys):
    exec(BLOCKS[1], {})
    assert capsys.readouterr().out.splitlines()[-1].split() == ["LeNet", "62,006", "651,720"]


@pytest.mark.parametrize("block", BLOCKS[2:4])
def test_it_prints_what_it_says(block, capsys):
    exec(block, {})
    wanted = re.search(r"print\(.*\)  # (.*)", block)
    assert wanted
    assert capsys.readouterr().out.strip() == wanted.group(1)
