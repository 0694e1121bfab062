"""Class folders made here, with pictures of one colour that tell which file was read."""

import dataclasses
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import problems
import pytest
from PIL import Image
from small_sets import examples

from jaxcv.data import classification_data
from jaxcv.data.formats import image_folder
from jaxcv.data.io import memory, workers
from jaxcv.errors import DataError, UserError
from jaxcv.train import fit


def picture(path, value=0, size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path, **options)
    return path


def make(root, *names):
    """Pictures of 8x8, the n-th of grey value 10 n."""
    for value, name in enumerate(names):
        picture(root / name, 10 * value)
    return root


def opened(root, **options):
    return classification_data(f"folder:{root}", **{"image_size": 8, **options})


def files(data):
    return [example.image.name for example in examples(data)]


def refused(root, message, **options):
    train, _ = opened(root, **options)
    with pytest.raises(DataError, match=message) as error:
        train.describe()
    assert "\n" not in str(error.value)


SPLIT = ("train/ant/a.png", "train/ant/b.jpg", "train/bee/c.png", "val/ant/d.png", "val/bee/e.png")


def test_splits_classes_and_labels(tmp_path):
    train, test = opened(make(tmp_path, *SPLIT))
    assert train.class_names == test.class_names == ("ant", "bee")
    assert (len(train), len(test), train.num_classes) == (3, 2, 2)
    assert train.describe() == ["train: 3 images, 2 classes (ant 2, bee 1)"]
    assert test.describe() == ["test: 2 images, 2 classes (ant 1, bee 1)"]
    batch = test.batches(4).batch(0)
    assert batch["image"].shape == (4, 8, 8, 3) and batch["image"].dtype == np.uint8
    assert batch["image"][:, 0, 0, 0].tolist() == [30, 40, 0, 0]
    assert batch["label"].tolist() == [0, 1, 0, 0] and batch["label"].dtype == np.int32
    assert batch["example_valid"].tolist() == [True, True, False, False]
    assert train.batches(4).batch(0)["label"].tolist() == [0, 0, 1, 0]
    for name, spec in train.batches(4, seed=0).spec.items():
        field = train.batches(4, seed=0).batch(0)[name]
        assert (field.shape, field.dtype) == (spec.shape, spec.dtype)


def test_opening_reads_nothing(tmp_path):
    train, _ = opened(tmp_path / "nowhere")
    assert train.batches(2, seed=0).spec["image"].shape == (2, 8, 8, 3)
    refused(tmp_path / "nowhere", r"nowhere: no such folder; data=folder:PATH")


def test_grey_and_colour(tmp_path):
    make(tmp_path, *SPLIT)
    Image.new("L", (8, 8), 77).save(tmp_path / "train/ant/a.png")
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "train/bee/c.png")
    colour = opened(tmp_path)[0].batches(3).batch(0)["image"]
    grey = opened(tmp_path, channels=1)[0].batches(3).batch(0)["image"]
    assert colour[0, 0, 0].tolist() == [77, 77, 77] and colour[2, 0, 0].tolist() == [255, 0, 0]
    assert grey.shape == (3, 8, 8, 1) and grey[[0, 2], 0, 0, 0].tolist() == [77, 76]


@pytest.mark.parametrize(
    ("folders", "chosen"),
    [
        (("test", "validation", "valid", "val"), "val"),
        (("test", "validation", "valid"), "valid"),
        (("test", "validation"), "validation"),
        (("Test",), "Test"),
    ],
)
def test_val_comes_before_test(tmp_path, folders, chosen):
    make(tmp_path, "Train/ant/a.png", *(f"{name}/ant/{name}.png" for name in folders))
    train, test = opened(tmp_path)
    assert files(test) == [f"{chosen}.png"]
    rest = sorted(name for name in folders if name != chosen)
    assert train.describe()[1:] == ([f"train: folders not used: {', '.join(rest)}"] if rest else [])


def test_a_test_folder_without_classes_is_passed_over(tmp_path):
    make(tmp_path, "train/ant/a.png", "test/ant/b.png", "val/unlabelled.png")
    assert files(opened(tmp_path)[1]) == ["b.png"]


def test_without_splits_a_fifth_of_each_class_is_for_testing(tmp_path):
    names = [f"{kind}/{i}.png" for kind in ("ant", "bee") for i in range(20)]
    train, test = opened(make(tmp_path / "a", *names, "lone/0.png"))
    assert test.describe() == [
        "test: 4 images, 3 classes (ant 2, bee 2, lone 0)",
        "test: no image of lone",
        "test: no folders of splits: a fifth of each class, by the SHA-256 of class and file name",
    ]
    assert train.describe() == ["train: 37 images, 3 classes (ant 18, bee 18, lone 1)"]
    marks = {name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8 for name in names}
    chosen = [example.image.relative_to(tmp_path / "a").as_posix() for example in examples(test)]
    assert sorted(chosen) == sorted(name for name in names if marks[name] < 0.2)
    assert not {*examples(test).files} & {*examples(train).files}  # pyright: ignore
    again = opened(shutil.copytree(tmp_path / "a", tmp_path / "b"))
    assert [files(data) for data in again] == [files(train), files(test)]


def test_a_class_of_two_has_one_of_each(tmp_path):
    train, test = opened(make(tmp_path, "ant/a.png", "ant/b.png", "bee/a.png", "bee/b.png"))
    assert (len(train), len(test)) == (2, 2)


def test_the_test_split_may_lack_a_class(tmp_path):
    train, test = opened(make(tmp_path, *SPLIT[:4]))
    assert test.class_names == train.class_names
    assert test.describe()[1] == "test: no image of bee"


def test_a_picture_is_known_by_name_or_by_contents(tmp_path):
    make(tmp_path, *SPLIT)
    for name, kind in (("g.GIF", "GIF"), ("h", "PNG"), ("i.bmp", "BMP"), ("j.webp", "WEBP"), ("k.txt", "JPEG")):
        Image.new("RGB", (8, 8), (50, 50, 50)).save(tmp_path / "train/bee" / name, kind)
    Image.new("L", (8, 8), 50).save(tmp_path / "train/bee/l.pgm")
    Image.new("L", (8, 8), 50).save(tmp_path / "train/bee/m.tiff")
    for name in ("Thumbs.db", ".DS_Store", "._c.png", "README", "notes.txt"):
        (tmp_path / "train/bee" / name).write_text("P5 is how a grey picture may begin")
    picture(tmp_path / "train/.ipynb_checkpoints/ant.png")
    picture(tmp_path / "__MACOSX/bee/ant.png")
    picture(tmp_path / "train/loose.png")
    train, _ = opened(tmp_path)
    assert train.describe() == [
        "train: 10 images, 2 classes (ant 2, bee 8)",
        "train: 8 other files left out (.DS_Store, ._c.png, .ipynb_checkpoints, README, Thumbs.db, __MACOSX, "
        "loose.png, notes.txt)",
    ]
    assert files(train)[3:] == ["g.GIF", "h", "i.bmp", "j.webp", "k.txt", "l.pgm", "m.tiff"]
    shown = train.batches(16).batch(0)["image"][3:10, 0, 0]
    assert np.abs(shown.astype(int) - 50).max() <= 2


def test_a_palette_and_the_first_picture_of_an_animation(tmp_path):
    make(tmp_path, *SPLIT)
    frames = [Image.new("P", (8, 8)) for _ in range(2)]
    for frame, color in zip(frames, ([10, 20, 30], [200, 0, 0]), strict=True):
        frame.putpalette(color)
    frames[0].save(tmp_path / "train/ant/a.gif", save_all=True, append_images=frames[1:])
    assert opened(tmp_path)[0].batches(1).batch(0)["image"][0, 0, 0].tolist() == [10, 20, 30]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r": no class folders in it, one for each class; it holds nothing$"),
        (("a.png", "b.png"), r": no class folders in it, one for each class; it holds a.png, b.png$"),
        (("train/ant/a.png",), r": class folders in train, expected in train and .*data=folder:PATH$"),
        (("val/ant/a.png", "test/ant/a.png"), r": class folders in test, val, expected in train and in"),
        (("train/a.png", "val/ant/b.png"), r": class folders in val, expected in train and"),
        (("train/a.png", "test/b.png"), r": class folders in nothing, expected in train and"),
        (("train/ant/a.png", "val/b.png"), r": class folders in train, expected in train and in one of val"),
        (("train/ant/a.png", "train/bee/", "val/ant/b.png"), r"train/bee: no picture in this class folder"),
        (("ant/", "bee/a.png"), r"/ant: no picture in this class folder"),
        (
            ("set/train/ant/a.png",),
            r"/set: taken for a class, but holds folders \(train\) .*; is it data=folder:.*/set",
        ),
        (("ant/a.png", "ant/more/b.png"), r"/ant: taken for a class, but holds folders \(more\)"),
        (
            ("train/ant/a.png", "val/aunt/b.png"),
            r"val/aunt: class 'aunt' is not in the list \(ant\); did you mean 'a",
        ),
        (
            ("train/ant/a.png", "val/bee/b.png"),
            r"val/bee: class 'bee' is not in the list \(ant\)$",
        ),
        (("ant/a.png", "bee/a.png"), r": no example is left for test \(none faulty\)$"),
    ],
)
def test_what_cannot_be_read_as_class_folders_is_named(tmp_path, names, message):
    for name in names:
        if name.endswith("/"):
            (tmp_path / name).mkdir(parents=True)
        else:
            picture(tmp_path / name)
    refused(tmp_path, message)


def test_a_class_may_be_called_train(tmp_path):
    make(tmp_path, "bus/a.png", "bus/b.png", "train/c.png", "train/d.png")
    assert opened(tmp_path)[0].class_names == ("bus", "train")


@pytest.mark.parametrize("link", ["train/ant/x.png", "train/cat", "val"])
def test_links_that_lead_out_are_refused_by_name(tmp_path, link):
    root = make(tmp_path / "set", *SPLIT)
    make(tmp_path / "else", "ant/a.png")
    shutil.rmtree(root / link, ignore_errors=True)
    target = tmp_path / "else" / ("ant/a.png" if link.endswith("png") else "ant" if link.endswith("cat") else "")
    (root / link).symlink_to(target)
    refused(root, rf"{re.escape(str(root / link))}: a symbolic link that leads out of", on_error="skip")


def test_links_inside_and_to_the_set_are_followed(tmp_path):
    root = make(tmp_path / "set", *SPLIT)
    (root / "train/bee/x.png").symlink_to("../ant/a.png")
    (tmp_path / "link").symlink_to(root)
    assert len(opened(tmp_path / "link")[0]) == 4
    (root / "train/bee/y.png").symlink_to("gone.png")
    train, _ = opened(root)
    with pytest.raises(DataError, match=r"y\.png: image is missing"):
        train.describe()
    (root / "train/bee/z.png").symlink_to("z.png")
    image_folder.scan_folder.cache_clear()
    refused(root, r"z\.png: a symbolic link that leads out")


def spoil(root):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(root / "train/bee/cut.jpg")
    data = (root / "train/bee/cut.jpg").read_bytes()
    (root / "train/bee/cut.jpg").write_bytes(data[: len(data) // 2])
    Image.fromarray(noise).save(root / "train/bee/bent.png")
    data = bytearray((root / "train/bee/bent.png").read_bytes())
    data[2000:2100] = bytes(100)
    (root / "train/bee/bent.png").write_bytes(data)
    (root / "train/bee/empty.jpg").touch()


def test_faulty_pictures_are_found_before_the_first_step(tmp_path):
    spoil(make(tmp_path, *SPLIT))
    train, test = opened(tmp_path)
    with pytest.raises(DataError, match=r"cut\.jpg: image is truncated"):
        train.source.check()
    with pytest.raises(DataError, match=r"bent\.png: image"):
        train.source.check(thorough=True)
    (tmp_path / "train/bee/cut.jpg").unlink()
    image_folder.scan_folder.cache_clear()
    with pytest.raises(DataError, match=r"empty\.jpg: not an image"):
        train.source.check()
    with pytest.raises(DataError, match=r"bent\.png: image"):
        train.batches(8).batch(0)
    assert test.source.check(thorough=True) == ["test: 2 images, 2 classes (ant 1, bee 1)"]


def test_faulty_pictures_are_skipped_and_counted_when_asked(tmp_path):
    spoil(make(tmp_path, *SPLIT))
    train, _ = opened(tmp_path, on_error="skip")
    lines = train.source.check(thorough=True)
    assert lines[0] == "train: 3 images, 2 classes (ant 2, bee 1)"
    assert re.match(r"train: 3 faulty examples skipped, the first: .*bent\.png: image", lines[1])
    (tmp_path / "train/bee/c.png").unlink()
    image_folder.scan_folder.cache_clear()
    refused(tmp_path, "no image of class 'bee' is left for train", on_error="skip")


def test_progress_is_told_and_a_second_check_looks_at_nothing(tmp_path):
    train, _ = opened(make(tmp_path, *SPLIT))
    told = []
    first = train.source.check(progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert train.source.check(progress=lambda done, total: told.append((done, total))) == first
    assert len(told) == 3
    train.source.check(thorough=True, progress=lambda done, total: told.append((done, total)))
    assert len(told) == 6


def test_training_takes_the_whole_square_and_testing_its_middle(tmp_path):
    """A picture of 80x64 whose pixel in column x has value 3 x."""
    ramp = np.repeat(np.arange(80, dtype=np.uint8)[None] * 3, 64, axis=0)
    for name in ("train/ant/a.png", "val/ant/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        Image.fromarray(ramp).save(tmp_path / name)
    train, test = opened(tmp_path, image_size=56)
    row = test.batches(1).batch(0)["image"][0, 0, :, 0]
    np.testing.assert_array_equal(row, ramp[0, 12:68])  # 0.875 of 64 is 56: cut, not resized
    row = train.batches(1).batch(0)["image"][0, 0, :, 0].astype(int)
    assert abs(row[0] - 3 * 8) <= 2 and abs(row[-1] - 3 * 71) <= 2
    whole = opened(tmp_path, image_size=57)[1].batches(1).batch(0)["image"][0, 0, :, 0].astype(int)
    assert abs(whole[0] - 3 * 8) <= 2 and abs(whole[-1] - 3 * 71) <= 2, "cutting would leave 56 pixels for 57"
    pixels, factors = test.source.read_image(tmp_path / "val/ant/a.png")
    np.testing.assert_array_equal(pixels, test.batches(1).batch(0)["image"][0])
    assert factors[1:3] == (1.0, 1.0)
    assert opened(tmp_path, image_size=32)[0].source.read_image(tmp_path / "val/ant/a.png")[1][1:3] == (2.0, 2.0)


def test_pictures_are_decoded_once_and_the_rest_again(tmp_path, monkeypatch):
    decoded = []
    read = workers.read_region
    monkeypatch.setattr(
        workers, "read_region", lambda path, *how, **options: decoded.append(path) or read(path, *how, **options)
    )
    monkeypatch.setattr(memory, "_taken", 0)
    monkeypatch.setenv("JAXCV_MEMORY", str(2 * 8 * 8 * 3))  # two pictures
    train, _ = opened(make(tmp_path, *SPLIT))
    first, second = (train.batches(3, num_threads=0).batch(0) for _ in range(2))
    assert [Path(path).name for path in decoded] == ["a.png", "b.jpg", "c.png", "c.png"]
    np.testing.assert_array_equal(first["image"], second["image"])


def test_imagenet_has_names_and_no_pictures(tmp_path):
    train, test = classification_data("imagenet", image_size=224)
    names = test.class_names
    assert len(names) == len(set(names)) == train.num_classes == 1000
    assert [names[i] for i in (0, 19, 285, 934, 999)] == [
        "tench", "chickadee", "Egyptian cat", "hotdog", "toilet tissue",
    ]  # fmt: skip
    assert (names[134], names[517], names[639]) == ("crane (bird)", "crane (machine)", "maillot (tank suit)")
    assert test.batches(2).spec["image"].shape == (2, 224, 224, 3)
    picture(tmp_path / "a.png", 9, (512, 400))
    pixels, factors = test.batches(1).read_image(tmp_path / "a.png")
    assert pixels.shape == (224, 224, 3) and (pixels == 9).all() and factors[1:3] == (350 / 224, 350 / 224)
    batches = train.batches(2, seed=0)
    for ask in (lambda: len(batches), lambda: next(iter(test.batches(2))), batches.check, lambda: batches.batch(0)):
        with pytest.raises(UserError, match=r"^data=imagenet .* no pictures.*data=folder:PATH .*$"):
            ask()


def test_digits_in_three_channels():
    grey, colour = (classification_data("digits", channels=c)[1].batches(4).batch(0)["image"] for c in (None, 3))
    assert grey.shape == (4, 32, 32, 1)
    np.testing.assert_array_equal(colour, np.repeat(grey, 3, -1))
    assert classification_data("digits", channels=3)[0].batches(4).spec["image"].shape == (4, 32, 32, 3)


def test_options_are_checked():
    with pytest.raises(UserError, match="channels=4: expected 1 or 3"):
        classification_data("digits", channels=4)
    with pytest.raises(UserError, match="on_error='ignore'"):
        classification_data("folder:x", on_error="ignore")


def test_real_ants_and_bees(real_data):
    train, test = classification_data(f"folder:{real_data('cls_folder_hymenoptera')}", image_size=64)
    assert (len(train), len(test)) == (100, 50) and train.class_names == ("ants", "bees")
    assert train.describe() == ["train: 100 images, 2 classes (ants 50, bees 50)"]
    placeholder = next(i for i, file in enumerate(files(train)) if file == "imageNotFound.gif")
    assert train.source.read(np.array([placeholder]))["image"].std() > 0
    assert sum(int(b["example_valid"].sum()) for b in test.batches(16)) == 50


def test_real_small_pictures_are_used_whole(real_data):
    root = real_data("cls_folder_cifar10")
    train, test = classification_data(f"folder:{root}", image_size=32)
    assert (len(train), len(test), train.num_classes) == (3500, 800, 10)
    batch = test.batches(2).batch(0)
    file = sorted((root / "test/airplane").iterdir())[0]
    np.testing.assert_array_equal(batch["image"][0], np.asarray(Image.open(file)))


def test_training_refuses_faults_before_it_begins(tmp_path):
    def experiment(*, seed: int = 0):
        train, test = opened(tmp_path / "set", channels=1, image_size=8)
        base = problems.experiment(seed=seed)
        return dataclasses.replace(base, train_data=train.batches(2, seed=seed), test_data=test.batches(2))

    make(tmp_path / "set", *SPLIT)
    spoil(tmp_path / "set")
    with pytest.raises(DataError, match=r"cut\.jpg"):
        fit(experiment, {}, tmp_path / "run")
    assert not (tmp_path / "run").exists()
