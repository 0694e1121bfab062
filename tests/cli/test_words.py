"""Words that people type: each is answered with what to type here, in the line that is shown."""

import subprocess
import sys
from pathlib import Path

import pytest

from jaxcv.cli import targets
from jaxcv.cli.main import main

ROOT = Path(__file__).parents[2]
EPOCHS = "training is counted in steps, which are batches: steps=N"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("yolo --epochs 3", f"unknown flag --epochs: {EPOCHS}"),
        ("yolo epochs=3", f"unknown hyperparameter 'epochs': {EPOCHS}"),
        (
            "yolo --resume",
            "--resume RUN goes on from the end of another run, with more steps=N; an interrupted run goes on when its "
            "command is given again",
        ),
        ("yolo --lr 0.1", "unknown flag --lr: a hyperparameter is written lr=0.1; --help lists the flags"),
        ("yolo --lr=0.1", "unknown flag --lr: a hyperparameter is written lr=0.1; --help lists the flags"),
        (
            "yolo --batch-size",
            "unknown flag --batch-size: a hyperparameter is written batch_size=...; --help lists the flags",
        ),
        ("yolo --evalute", "unknown flag --evalute: did you mean --evaluate?"),
        ("yolo learning_rate=1", "unknown hyperparameter 'learning_rate': did you mean lr?"),
        ("yolo workers=2", "unknown hyperparameter 'workers': it changes no result, and is a flag: --workers N"),
        ("yolo imgsz=64", "unknown hyperparameter 'imgsz': did you mean image_size?"),
        (
            "yolo network=v5",
            "unknown hyperparameter 'network': another network is another experiment: yolo_v1, yolo_v2, yolo_v3",
        ),
        (
            "yolo classes=a,b",
            "classes=a,b: classes is a tuple, and a comma sweeps; write \"classes=('a','b')\"",
        ),
        ("yolo classes=a", "classes=a: classes is a tuple, and a comma sweeps; write \"classes=('a',)\""),
        ("yolo sizes=256,320", 'sizes=256,320: sizes is a tuple, and a comma sweeps; write "sizes=(256,320)"'),
        ("yolo_v4", "yolo_v4: no such file, experiment or folder of a run; there are yolo_v3, yolo_v2, yolo_v1"),
        ("yolo lr=-1", "lr=-1: expected at least 0 (peak learning rate of AdamW after a linear warm-up)"),
        ("yolo lr=uniform(-1,1)", "lr=-1: expected at least 0 (peak learning rate of AdamW after a linear warm-up)"),
        ("yolo flip=2", "flip=2: expected a number in [0, 1] (probability of mirroring while training)"),
        ("yolo steps=0", "steps=0: expected at least 1 (batches trained on)"),
        (
            "sliding_window elastic=1",
            "elastic=1: expected a number in [0, 1) (how near to folding a window is bent while training, in [0, 1))",
        ),
        ("yolo --predict a.png --min-score 90", "--min-score 90: expected a score, from 0 to 1"),
    ],
)
def test_the_line_that_is_shown(words, line, capsys, tmp_path):
    assert main([*words.split(), "--workdir", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {line}\n"
    assert list(tmp_path.iterdir()) == []


def test_without_words_the_experiments_are_listed(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert "\n  lenet           LeNet-5 on handwritten digits.\n" in out
    for path in (ROOT / "experiments").glob("*.py"):
        assert f"\n  {path.stem} " in out
    assert max(map(len, out.splitlines())) <= 100


def test_nobody_reads_to_the_end():
    """`launch.py --help | head`."""
    command = [sys.executable, str(ROOT / "launch.py"), "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_experiment_is_found_by_its_name(capsys):
    assert main(["lenet", "--help"]) == 0
    assert "handwritten digits" in capsys.readouterr().out
    assert targets.find("lenet") == ROOT / "experiments/lenet.py"


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert "jax " in capsys.readouterr().out


def test_a_hyperparameter_that_is_never_used_is_named(capsys, tmp_path):
    text = (ROOT / "experiments/lenet.py").read_text()
    file = tmp_path / "mine.py"
    file.write_text(text.replace("    lr: float = 2e-3,\n", "    lr: float = 2e-3,\n    sharpness: float = 1.0,\n"))
    assert main([str(file), "steps=1", "batch_size=2", "--workdir", str(tmp_path), "--preview-data"]) == 0
    out = capsys.readouterr().out.replace("\n", " ")
    assert "warning: sharpness is not used by the experiment: it changes nothing" in out
