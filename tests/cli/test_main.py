"""The command line as a person types it: in this process where that is enough, in one of its own where it is not."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcv import models
from jaxcv.cli.main import main
from jaxcv.train.run import read_records
from jaxcv.weights import load as load_weights
from jaxcv.weights import save

ROOT = Path(__file__).parents[2]
LENET, YOLO = str(ROOT / "experiments" / "lenet.py"), str(ROOT / "experiments" / "yolo.py")
TINY = ["steps=4", "batch_size=8"]


def refused(arguments, capsys):
    """The one line that a refusal prints."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.count("\n") == 1, "one line"
    assert "Traceback" not in out + err
    return err


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The work folder of a short LeNet run."""
    folder = tmp_path_factory.mktemp("runs")
    assert main([LENET, *TINY, "--workdir", str(folder), "--quiet"]) == 0
    return folder


def test_a_run_prints_the_table_and_a_second_one_is_skipped(trained, capsys):
    assert main([LENET, *TINY, "--workdir", str(trained)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tuned: "), "one line says what was done to the process"
    assert "finished before" in out
    assert "accuracy" in out
    assert (trained / "lenet" / "batch_size=8+steps=4" / "run.json").exists()


def test_help_shows_docstring_hyperparameters_and_flags(capsys):
    assert main([YOLO, "--help"]) == 0
    out = capsys.readouterr().out
    for part in ("YOLOv2", "no_object_weight", "float = 0.5", "of the loss on cells", "--dry-run", "--predict"):
        assert part in out


def test_help_alone_shows_usage(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
    assert "name=value" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--quiet"], ["which experiment"]),
        (["experiments/yola.py"], ["experiments/yola.py", "no such file"]),
        ([LENET, "batch_sze=32"], ["did you mean batch_size"]),
        ([LENET, "batch_size=1.5"], ["batch_size=1.5", "expected int"]),
        ([LENET, "lr=fast"], ["lr=fast", "expected float"]),
        ([LENET, "--dryrun"], ["--dryrun", "did you mean --dry-run"]),
        ([LENET, "data=minst:x"], ["minst", "mnist"]),
        ([LENET, "data=mnist:/no/such/folder"], ["/no/such/folder"]),
        ([YOLO, "data=voc:/no/such/folder"], ["/no/such/folder"]),
        ([LENET, "batch_size=0"], ["batch_size=0"]),
        ([LENET, "--evaluate"], ["no trained run"]),
        ([LENET, "lr=1,2", "--evaluate"], ["one run"]),
    ],
)
def test_what_is_wrong_is_named_in_one_line(arguments, parts, capsys, tmp_path):
    error = refused([*arguments, "--workdir", str(tmp_path)], capsys)
    for part in parts:
        assert part in error
    assert list(tmp_path.iterdir()) == [], "a refused run leaves nothing"


def test_a_comma_that_may_belong_to_a_path_is_said_to_be_quoted(capsys, tmp_path):
    for value in (f"mnist:{tmp_path}/no,where", f"{tmp_path}/lr=1,seed=0"):
        for flags in (["--dry-run"], []):
            error = refused([LENET, f"data={value}", "--workdir", str(tmp_path / "runs"), *flags], capsys)
            assert f"quote the value: \"data='{value}'\"" in error
    assert "quote" not in refused([LENET, "data=minst:x", "--workdir", str(tmp_path)], capsys)
    assert "quote" not in refused([LENET, "lr=1,fast", "--workdir", str(tmp_path)], capsys)


def test_names_with_commas_and_equals_signs(capsys, tmp_path):
    """An experiment file, a work folder, a data folder, a picture and a pattern of pictures."""
    folder = tmp_path / "a=b, c"
    folder.mkdir()
    file = folder / "my=exp.py"
    shutil.copy(LENET, file)
    train = folder / "x,y=1"
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (train / split / label).mkdir(parents=True)
            for i in range(4):
                pixels = np.random.default_rng(i).integers(0, 255, (8, 8, 3), np.uint8)
                Image.fromarray(pixels).save(train / split / label / f"p={i},{i}.png")
    words = [str(file), f"data=folder:{train}", "steps=2", "batch_size=4", "--workdir", str(folder / "r=1,2")]
    assert main([*words, "--quiet"]) == 0
    (run,) = (folder / "r=1,2" / "my=exp").iterdir()
    picture = train / "test/cat/p=1,1.png"
    assert main([*words, "--predict", str(picture), str(train / "test/dog/p=*.png")]) == 0
    assert {f"p={i},{i}.png" for i in range(4)} <= {path.name for path in (run / "predictions").iterdir()}
    error = refused([*words, "--predict", f"{train}/none=1.png"], capsys)
    assert "no such picture" in error and "none=1.png" in error
    assert "my=exq.py: no such file" in refused([str(folder / "my=exq.py"), *words[1:]], capsys)


def test_debug_shows_the_traceback():
    from jaxcv.errors import UserError

    with pytest.raises(UserError):
        main([LENET, "lr=fast", "--debug"])


def test_an_experiment_file_with_a_slip_is_refused_by_line(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text("x = 1\ndef experiment(:\n")
    assert f"{file}:2:" in refused([str(file)], capsys)
    file.write_text("x = 1\n")
    assert "defines no function" in refused([str(file)], capsys)


def voc_set(folder, source):
    """A copy of a few real pictures with their annotations."""
    for split, names in (
        ("trainval", ["00000", "00001", "00002", "00003", "00004", "00005"]),
        ("test", ["00007", "00011", "00015"]),
    ):
        (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("".join(f"BloodImage_{n}\n" for n in names))
        for name in names:
            for part, suffix in (("Annotations", ".xml"), ("JPEGImages", ".jpg")):
                (folder / part).mkdir(exist_ok=True)
                shutil.copy(source / part / f"BloodImage_{name}{suffix}", folder / part)
                (folder / part / f"BloodImage_{name}{suffix}").chmod(0o644)
    (folder / "classes.txt").write_text("RBC\nWBC\nPlatelets\n")
    return folder


def spoil(folder, fault):
    xml = folder / "Annotations" / "BloodImage_00002.xml"
    image = folder / "JPEGImages" / "BloodImage_00002.jpg"
    if fault == "broken tag":
        xml.write_text(xml.read_text().replace("</bndbox>", "</bndbx>", 1))
        return xml, "mismatched tag"
    if fault == "unknown class":
        xml.write_text(xml.read_text().replace("<name>RBC</name>", "<name>RCB</name>", 1))
        return xml, "RCB"
    if fault == "truncated image":
        image.write_bytes(image.read_bytes()[:5000])
        return image, "truncated"
    image.unlink()
    return image, "00002"


@pytest.mark.parametrize("flag", [[], ["--dry-run"]])
@pytest.mark.parametrize("fault", ["broken tag", "unknown class", "truncated image", "missing image"])
def test_faults_in_data_are_found_before_the_first_step(fault, flag, tmp_path, real_data, capsys):
    folder = voc_set(tmp_path / "set", real_data("det_voc_bccd"))
    path, part = spoil(folder, fault)
    error = refused([YOLO, f"data=voc:{folder}", "image_size=64", "--workdir", str(tmp_path / "runs"), *flag], capsys)
    assert path.name in error
    assert part in error
    assert not (tmp_path / "runs").exists()


def test_dry_run_prints_shapes_cost_and_plan(tmp_path, capsys):
    assert main([LENET, "lr=1e-3,1e-4", "seed=0,1", "--dry-run", "--workdir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    for part in (
        "64x32x32x1",
        "multiply-adds",
        "all 61,706 parameters",
        "GFLOP",
        "memory of a step",
        "plan: 4 trials, 1 program",
        "tuned: ",
    ):
        assert part in out
    assert main([LENET, "--dry-run", "--no-tune", "--workdir", str(tmp_path)]) == 0
    assert "tuned: nothing: --no-tune" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_grid_of_twelve_compiles_one_step(tmp_path, capsys):
    grid = ["lr=1e-3,3e-4,1e-4", "weight_decay=0.0,1e-4", "seed=0,1"]
    assert main([LENET, *grid, "steps=2", "batch_size=4", "--workdir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "plan: 12 trials, 1 program to compile" in out
    assert "12 trials, best accuracy first" in out
    runs = [
        json.loads((folder / "run.json").read_text()) for folder in (tmp_path / "lenet").iterdir() if folder.is_dir()
    ]
    assert [run["status"] for run in runs] == ["finished"] * 12
    assert sum(run["traces"] for run in runs) == 1


def test_evaluate_and_predict_use_the_checkpoint(trained, tmp_path, capsys):
    records = read_records(trained / "lenet/batch_size=8+steps=4/metrics.jsonl")
    tested = [r for r in records if r["split"] == "test"]
    for flags, record in ([], tested[-1]), (["--best"], max(tested, key=lambda r: r["accuracy"])):
        assert main([LENET, *TINY, "--workdir", str(trained), "--evaluate", *flags]) == 0
        assert f"{record['accuracy']:.4f}" in capsys.readouterr().out
    picture = tmp_path / "seven.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 40, 3), np.uint8)).save(picture)
    assert main([LENET, "--workdir", str(trained), "--predict", str(picture), *TINY]) == 0
    assert "probability" in capsys.readouterr().out
    with Image.open(trained / "lenet/batch_size=8+steps=4/predictions/seven.png") as drawn:
        assert drawn.size[0] / drawn.size[1] == pytest.approx(40 / 50)
    assert "no such picture" in refused([LENET, *TINY, "--workdir", str(trained), "--predict", "nothing.png"], capsys)
    picture.write_text("not a picture")
    assert "seven.png" in refused([LENET, *TINY, "--workdir", str(trained), "--predict", str(picture)], capsys)


def test_a_second_start_compiles_nothing_also_with_another_rate(tmp_path):
    """Counted, not timed: programs written to an empty cache by the first start, and none by the next two."""
    environment = {**os.environ, "JAXCV_CACHE": str(tmp_path / "cache"), "XLA_FLAGS": ""}

    def run(lr):
        command = [sys.executable, "launch.py", "experiments/lenet.py", "steps=2", "batch_size=4", f"lr={lr}"]
        subprocess.run(
            [*command, "--workdir", str(tmp_path / "runs"), "--fresh", "--quiet"], cwd=ROOT, env=environment, check=True
        )
        folder = tmp_path / f"runs/lenet/lr={float(lr)}+batch_size=4+steps=2"
        losses = [record["loss"] for record in read_records(folder / "metrics.jsonl")]
        kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "cache").rglob("*-cache")}
        return kept, losses, json.loads((folder / "run.json").read_text())["traces"]

    first, losses, traces = run("1e-3")
    assert all(any(p.name.startswith(f"jit_{name}-") for p in first) for name in ("init", "chunk", "evaluate_all"))
    assert losses and traces == 1
    assert run("1e-3") == (first, losses, 1), "a program out of the cache computes what the compiled one did"
    second, others, _ = run("3e-4")
    assert second == first
    assert others != losses
    sweep = [sys.executable, "launch.py", "experiments/lenet.py", "lr=1e-4,2e-4", "steps=2", "batch_size=4", "--quiet"]
    for jobs in ([], ["--jobs", "2", "--fresh"]):
        command = [*sweep, *jobs, "--workdir", str(tmp_path / "sweep")]
        subprocess.run(command, cwd=ROOT, env=environment, check=True)
        traces = [json.loads(f.read_text())["traces"] for f in (tmp_path / "sweep/lenet").glob("*[0-9]/run.json")]
        assert jobs or sorted(traces) == [0, 1], "once for all trials of a process"
    assert run("1e-3")[0].keys() == first.keys(), "nor does a sweep compile"
    largest = max(first, key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-100])  # damaged: compiled again, not trusted
    assert run("1e-3")[1] == losses


@pytest.mark.usefixtures("quick_to_compile")
def test_real_weights_predict_without_training_and_name_what_they_see(real_data, tmp_path, capsys):
    folder = real_data("weights")
    file = folder / "mobilenet_v1_0.25_224_keras.npz"
    mobilenet = str(ROOT / "experiments" / "mobilenet.py")
    photo = folder / "photos" / "hot_dog.jpg"
    assert main([mobilenet, f"weights={file}", "--predict", str(photo), "--workdir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "hotdog" in out and "0.897" in out
    assert len(list(tmp_path.rglob("predictions/hot_dog.png"))) == 1
    # The names of the classes are no data to train on.
    assert "imagenet" in refused([mobilenet, f"weights={file}", "--workdir", str(tmp_path)], capsys)


def test_freezing_finetuning_and_from_scratch_in_one_table(tmp_path, capsys):
    """With little steps of a small network: what is compared is that all three run and are told apart."""
    transfer, file = str(ROOT / "experiments" / "transfer.py"), tmp_path / "lenet.npz"
    images = jnp.zeros((1, 32, 32, 1))
    save(file, jax.jit(models.lenet5(num_classes=7).init)(jax.random.key(0), images))
    words = [f"weights={file}", "network=lenet5", "image_size=32", "cache_features=False", "batch_size=4", "steps=2"]
    assert main([transfer, *words, "mode=frozen,finetune,scratch", "--workdir", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "3 trials, best accuracy first" in out
    for mode in ("frozen", "finetune", "scratch"):
        assert mode in out.split("best accuracy first")[1]
    assert "2 new, zero (head)" in out


@pytest.mark.usefixtures("quick_to_compile")
def test_a_hostile_or_wrong_weight_file_is_one_line(tmp_path, capsys):
    mobilenet = str(ROOT / "experiments" / "mobilenet.py")
    page = tmp_path / "weights.pth"
    page.write_text("<!DOCTYPE html><html>not found</html>")
    assert "web page" in refused([mobilenet, f"weights={page}", "--predict", str(page)], capsys)
    save(tmp_path / "half.npz", {"conv1": {"kernel": np.zeros((3, 3, 3, 8), np.float32)}})
    line = refused([mobilenet, f"weights={tmp_path / 'half.npz'}", "--predict", str(page)], capsys)
    assert "half.npz: does not fit MobileNetV1" in line


def test_a_run_goes_on_and_gives_its_weights_by_name(trained, tmp_path, capsys):
    short = trained / "lenet" / "batch_size=8+steps=4"
    longer = [LENET, "batch_size=8", "steps=6", "--workdir", str(tmp_path)]
    assert main([*longer, "--resume", str(short)]) == 0
    assert "going on from step 4 of 6" in capsys.readouterr().out
    for name in ("w.safetensors", "w.npz"):
        assert main([*longer, "--export", str(tmp_path / name), "--best"]) == 0
    assert "params/conv1/kernel" in load_weights(tmp_path / "w.npz")
    assert "expected an ending of" in refused([*longer, "--export", str(tmp_path / "w.bin")], capsys)
    assert "no trained run" in refused([LENET, "steps=9", "--workdir", str(tmp_path), "--export", "w.npz"], capsys)
    assert "--fresh" in refused([*longer, "--resume", str(short), "--fresh"], capsys)


ACTS = {
    "a file in the way": lambda folder: (folder / "runs").write_text(""),
    "a folder in the way of run.json": lambda folder: (folder / "runs/lenet/batch_size=8+steps=4/run.json").mkdir(
        parents=True
    ),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_the_disk_refuses_is_one_line(act, tmp_path, capsys):
    ACTS[act](tmp_path)
    assert str(tmp_path / "runs") in refused([LENET, *TINY, "--workdir", str(tmp_path / "runs")], capsys)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    environment = {**os.environ, "JAXCV_CACHE": str(tmp_path / "file" / "cache"), "XLA_FLAGS": ""}
    command = [sys.executable, "launch.py", LENET, *TINY, "--workdir", str(tmp_path / "runs")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "file/cache" in done.stderr and "Not a directory" in done.stderr and "JAXCV_CACHE" in done.stderr


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv.pop(1)),) * 2)
from jaxcv.cli.main import main
sys.exit(main())
"""


def run_small(*command):
    environment = {**os.environ, "XLA_FLAGS": ""}
    command = [sys.executable, *command[:-1], LENET, "steps=8", "batch_size=8", "--workdir", command[-1]]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def records_of(workdir):
    found = read_records(workdir / "lenet/batch_size=8+steps=8/metrics.jsonl")
    return [{k: v for k, v in record.items() if k != "time"} for record in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The records of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    done = run_small("launch.py", str(folder))
    assert done.returncode == 0, done.stderr
    return records_of(folder)


@pytest.mark.parametrize("limit", [1_000, 40_000, 150_000])
def test_a_disk_that_is_full_loses_nothing(limit, whole, tmp_path):
    """Files may not grow beyond a limit: as on a full disk, wherever it strikes."""
    full = run_small("-c", LIMITED, str(limit), str(tmp_path))
    errors = [line for line in full.stderr.splitlines() if "persistent compilation" not in line and "warn(" not in line]
    assert full.returncode == 2 and len(errors) == 1 and errors[0].startswith("error: "), full.stderr
    assert "File too large" in errors[0] and "goes on from there" in errors[0]
    again = run_small("launch.py", str(tmp_path))
    assert again.returncode == 0, again.stderr
    assert records_of(tmp_path) == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("delay", [0.3, 1.0, 2.0, 4.0])
def test_an_interrupt_before_the_first_step_is_one_line(number, delay, tmp_path):
    """While importing and compiling (a batch size of its own, and no cache), at whatever it is then."""
    command = [sys.executable, "launch.py", "experiments/lenet.py", "batch_size=7", "steps=1000000"]
    environment = {**os.environ, "JAXCV_CACHE": str(tmp_path / "cache"), "JAXCV_NATIVE": "0"}
    with subprocess.Popen(
        [*command, "--workdir", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        time.sleep(delay)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 75, err
    assert "Traceback" not in out + err
    assert (out + err).count("the same command goes on") == 1
