"""No run passes for another: what a folder stands for, and what is refused when it is taken up as something else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import problems
import pytest
from PIL import Image

from jaxcv.data import classification_data
from jaxcv.data.sources.digest import digest
from jaxcv.errors import UserError
from jaxcv.train import fit, resolve
from jaxcv.train.identity import Identity, differences, identify
from jaxcv.train.run import read_run

ROOT = Path(__file__).parents[2]
EXPERIMENT = """
import sys
sys.path.insert(0, {tests!r})
import dataclasses
import optax
import problems
from helper import rate
from jaxcv.data import classification_data

def experiment(*, data: str = "folder:set", table: str = "", steps: int = 2, seed: int = 0):
    train, test = classification_data(data, image_size=8, channels=1)
    base = problems.experiment(seed=seed, steps=steps)

    def loss(outputs, batch):
        import late
        return {{"x": late.FACTOR * problems.cross_entropy(outputs, batch)["cross_entropy"]}}

    return dataclasses.replace(
        base, loss=loss, optimizer=optax.sgd(rate()), augment=None, evaluate_every=steps, checkpoint_every=1,
        train_data=train.batches(4, seed=seed), test_data=test.batches(4))
"""


def write_set(folder, names=("ants", "bees"), brightness=0):
    random = np.random.default_rng(0)
    for name in names:
        (folder / name).mkdir(parents=True)
        for i in range(10):
            pixels = random.integers(0, 200, (9, 9), np.uint8) + np.uint8(brightness)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")


def write_project(folder):
    folder.mkdir()
    (folder / "mine.py").write_text(EXPERIMENT.format(tests=str(ROOT / "tests")))
    (folder / "helper.py").write_text("def rate():\n    return 0.1\n")
    (folder / "late.py").write_text("FACTOR = 1.0\n")
    (folder / "table.txt").write_text("1 2 3")
    write_set(folder / "set")
    return folder


def launch(project, *words):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(ROOT / "launch.py"), "mine.py", *words, "--workdir", str(project.parent / "runs")]
    done = subprocess.run([*command, "--no-tune"], cwd=project, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A project with a finished run and a finished sweep in its folder `runs`."""
    project = write_project(tmp_path_factory.mktemp("identity") / "project")
    for words in (["table=table.txt"], ["seed=0,1"]):
        code, said = launch(project, *words)
        assert code == 0, said
    return project.parent


@pytest.fixture
def project(ended, tmp_path):
    """A copy of it at the very same place, whose edits end with the test."""
    kept = tmp_path / "kept"
    shutil.copytree(ended, kept)
    yield ended / "project"
    shutil.rmtree(ended)
    shutil.copytree(kept, ended)


def rename_class(project):
    (project / "set" / "bees").rename(project / "set" / "wasps")


def other_picture(project):
    Image.new("L", (30, 30), 7).save(project / "set" / "ants" / "3.png")


def fewer_pictures(project):
    (project / "set" / "ants" / "3.png").unlink()


def edit(name, old, new):
    def change(project):
        text = (project / name).read_text()
        assert old in text
        (project / name).write_text(text.replace(old, new))

    return change


CHANGES = {
    "a class": (rename_class, "data than"),
    "a picture": (other_picture, "data than"),
    "a picture less": (fewer_pictures, "data than"),
    "the experiment": (edit("mine.py", "batches(4)", "batches(8)"), "mine.py (first change: '- "),
    "a helper": (edit("helper.py", "0.1", "0.2"), "helper.py (first change: '- return 0.1')"),
    "a helper of the loss": (edit("late.py", "1.0", "2.0"), "late.py (first change: '-FACTOR = 1.0')"),
    "a file that a value names": (edit("table.txt", "1 2 3", "1 2 4"), "table.txt (table)"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_finished_run_is_refused_by_name(project, change):
    how, said = CHANGES[change]
    how(project)
    code, text = launch(project, "table=table.txt")
    assert code == 2 and said in " ".join(text.split()) and "--accept" in text and "Traceback" not in text


@pytest.mark.parametrize("change", ["a picture less", "a helper of the loss"])
def test_a_finished_run_and_sweep_are_accepted_when_asked_for(project, change):
    how, said = CHANGES[change]
    how(project)
    code, text = launch(project, "table=table.txt", "--accept")
    assert code == 0 and "finished before" in text
    facts = json.loads((project.parent / "runs/mine/table=table.txt/run.json").read_text())
    (accepted,) = facts["accepted"]
    assert accepted["step"] == 2 and accepted["when"] > facts["time"]["begun"]
    assert any(said in " ".join(line.split()) for line in accepted["begun"])
    code, _ = launch(project, "table=table.txt")
    assert code == 0, "from then on it stands for what was accepted"
    code, text = launch(project, "seed=0,1")
    assert code == 2 and said in " ".join(text.split())
    code, _ = launch(project, "seed=0,1", "--accept")
    assert code == 0


def test_the_same_words_in_another_folder_are_another_run(project):
    """A relative path names another set there, whatever it holds."""
    other = project.parent / "other"
    shutil.copytree(project, other)
    code, text = launch(other, "table=table.txt")
    assert code == 2 and f"on the data in {project / 'set'}, not in {other / 'set'}" in " ".join(text.split())
    shutil.rmtree(other / "set")
    code, text = launch(other, "table=table.txt")
    assert code == 2 and "on the data in" in " ".join(text.split())


def test_a_finished_run_outlives_its_data(project):
    shutil.rmtree(project / "set")
    code, text = launch(project, "table=table.txt")
    assert code == 0 and "finished before" in text


def small(folder, **how):
    return fit(problems.experiment, {"steps": 2, "log_every": 1, "evaluate_every": 2}, folder, **how)


def test_a_folder_of_an_earlier_version_is_refused_by_name_or_accepted(tmp_path):
    small(tmp_path / "run")
    facts = json.loads((tmp_path / "run/run.json").read_text())
    for name in ("format", "data", "files"):
        del facts[name]
    (tmp_path / "run/run.json").write_text(json.dumps(facts))
    (tmp_path / "run/sources.json").unlink()
    with pytest.raises(UserError, match=r"begun by an earlier jaxcv .*--accept"):
        small(tmp_path / "run")
    assert small(tmp_path / "run", accept=True).skipped
    assert small(tmp_path / "run").skipped


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "not the run.json of a run"),
        ("{}", "not the run.json of a run"),
        ('{"status": "finished"}', "values is missing"),
        ('{"status": "finished", "values": 3, "file": "", "source": "", "time": {}}', "values is missing or wrong"),
        ("{", "run.json:1: not JSON"),
        ("\x00\xff", "run.json"),
    ],
)
def test_what_is_no_run_is_not_misread(tmp_path, text, said):
    (tmp_path / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=said):
        small(tmp_path)
    assert (tmp_path / "run.json").read_text(encoding="latin-1") == text


def test_a_folder_of_a_later_version_is_refused_even_if_accepted(tmp_path):
    small(tmp_path)
    facts = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(UserError, match="later version"):
        small(tmp_path, accept=True)


def test_lost_sources_are_refused(tmp_path):
    small(tmp_path)
    (tmp_path / "sources.json").write_text("{")
    with pytest.raises(UserError, match=r"sources\.json is missing or damaged"):
        small(tmp_path)


def test_jaxcv_itself_is_a_part_where_it_is_no_installed_package(tmp_path):
    small(tmp_path)
    sources = json.loads((tmp_path / "sources.json").read_text())
    assert "text" not in sources["jaxcv.train.loop"]
    sources["jaxcv.train.loop"]["digest"] = "0" * 16
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    with pytest.raises(UserError, match=r"begun with another .*loop\.py"):
        small(tmp_path)
    assert not [name for name in sources if name.partition(".")[0] in ("jax", "numpy", "json", "flax")]


def test_a_digest_is_that_of_what_the_scan_found(tmp_path):
    """The same files elsewhere have the same; so a run may be told apart by path and by content."""
    for name in ("a", "b"):
        write_set(tmp_path / name)
    write_set(tmp_path / "c", ("ants", "wasps"))
    digests = {}
    for name in "abc":
        train, test = classification_data(f"folder:{tmp_path / name}", image_size=8, channels=1)
        assert train.path == str(tmp_path / name) == test.batches(4).path
        digests[name] = digest(train.source), digest(test.source)
    assert digests["a"] == digests["b"] != digests["c"]
    assert digests["a"][0] != digests["a"][1]


def test_every_embedded_set_has_a_digest():
    first, again = (read_digests() for _ in range(2))
    assert first == again
    assert all(train != test for train, test in zip(first[::2], first[1::2], strict=True))


def read_digests():
    from jaxcv.data import detection_data, landmark_data, localization_data, window_data

    sets = [classification_data("digits"), detection_data("digits"), localization_data("digits")]
    sets += [landmark_data("drawn"), window_data("digits")]
    return [split.batches(2).digest() for pair in sets for split in pair]


def test_read_run_says_nothing_of_an_empty_folder(tmp_path):
    assert read_run(tmp_path) is None


def test_pictures_that_were_stretched_are_not_letterboxed_from_the_middle_on(tmp_path):
    """A set with boxes that a version without `resize` opened."""
    old = {"opened": json.dumps(["detection", "voc:x", 256, 3, "raise", [["scale", None]]])}
    new = {"opened": json.dumps(["detection", "voc:x", 256, 3, "raise", [["resize", None], ["scale", None]]])}
    data = {split: {"path": "", "digest": ""} for split in ("train", "test")}
    facts = {"format": 2, "values": {}, "source": "", "file": "mine.py", "data": data, "files": {}}
    (tmp_path / "sources.json").write_text("{}")

    def found(sets):
        now = Identity({**facts, "sets": dict.fromkeys(data, new)}, {})
        return [
            one for one in differences(tmp_path, {**facts, "sets": dict.fromkeys(data, sets)}, now) if "pictures" in one
        ]

    assert len(found(old)) == 2 and "letterboxed now unless resize='squash'" in found(old)[0]
    assert found(new) == found(None) == []


def test_the_number_of_parts_of_a_batch_is_part_of_a_run(tmp_path):
    def identity(steps, accumulate):
        values = resolve(problems.experiment, {"steps": steps})
        return identify(problems.experiment, values, problems.experiment(**values), accumulate=accumulate)

    begun = identity(4, 1).facts
    refused = ["with --accumulate 1, not 2"]
    assert list(differences(tmp_path, begun, identity(4, 2)))[:1] == refused
    finished = {**begun, "status": "finished"}
    assert "--accumulate" not in " ".join(differences(tmp_path, finished, identity(4, 2)))  # nothing is left to do
    assert list(differences(tmp_path, finished, identity(8, 2)))[:1] == refused
    former = {name: fact for name, fact in begun.items() if name != "accumulate"}
    assert "--accumulate" not in " ".join(differences(tmp_path, former, identity(8, 1)))
