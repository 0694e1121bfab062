"""Faces and characters written here, pairs of them, and the real ones."""

import numpy as np
import pytest
from PIL import Image
from small_sets import findings, forget, noise, opened, picture, refused

from jaxcv.data import classification_data, embedding_data, verification_data
from jaxcv.data.sets.pairs import MAX_SAME, draw_pairs


def people(root, count=10, each=10):
    """s1 ... with 1.pgm ..., of a grey that tells the person."""
    for person in range(1, count + 1):
        for i in range(1, each + 1):
            picture(root / f"s{person}/{i}.pgm", (10, 12), value=10 * person + i % 10, mode="L")
    return f"faces:{root}"


def characters(root, alphabets=("Greek", "Latin"), each=3, part="images_background_small1"):
    """Black ink in the left half, more of it the higher the character's number."""
    for alphabet in alphabets:
        for character in range(1, each + 1):
            for drawer in range(1, 21):
                path = root / part / alphabet / f"character{character:02d}/{character:04d}_{drawer:02d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.ones((20, 20), bool)
                pixels[: 4 * character, :10] = False
                Image.fromarray(pixels).save(path)
    return f"omniglot:{root}"


def classes_of(split):
    return {int(label) for label in split.source.scan().splits[split.source.split].labels}


def test_known_people(tmp_path):
    data = people(tmp_path, 11)
    train, test = opened(data, by=classification_data, image_size=10, channels=1)
    assert train.class_names == tuple(f"s{i}" for i in range(1, 12)), "s2 before s10"
    assert (len(train), len(test), train.mirrors) == (88, 22, True)
    assert classes_of(train) == classes_of(test) == set(range(11))
    batch = train.batches(88).batch(0)
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0] // 10 - batch["label"], 1)
    files = [file.rpartition("/")[2] for file in train.source.scan().splits["train"].files[:8]]
    assert files == sorted(files, key=lambda name: int(name.removesuffix(".pgm"))) and "10.pgm" in files
    assert findings(data, by=classification_data)[-1] == "test: a fifth of each person's pictures, by SHA-256"


def test_people_of_one_split_alone(tmp_path):
    data = people(tmp_path)
    train, test = opened(data, by=embedding_data, image_size=10)
    assert (len(train), len(test)) == (80, 20) and not classes_of(train) & classes_of(test)
    lines = test.describe()
    assert lines[0].startswith("test: 20 images, 2 classes (s") and lines[1] == "test: a fifth of people, by SHA-256"
    assert train.source.read(np.arange(3))["image"].shape == (3, 10, 10, 3)


def test_the_middle_of_both_splits_is_cut_alike(tmp_path):
    data = people(tmp_path)
    ramp = np.repeat(np.arange(12, dtype=np.uint8)[:, None] * 20, 10, 1)
    for path in tmp_path.glob("*/*.pgm"):
        Image.fromarray(ramp).save(path)
    for split in opened(data, by=embedding_data, image_size=10, channels=1):
        np.testing.assert_array_equal(split.source.read(np.arange(1))["image"][0, ..., 0], ramp[1:11])


def test_where_people_may_lie(tmp_path):
    people(tmp_path / "lfw/lfw_funneled")
    assert len(opened(f"faces:{tmp_path}/lfw", by=embedding_data)[0]) == 80
    refused("no folder of pictures in it; data=faces:PATH needs", f"faces:{tmp_path}", by=embedding_data)
    refused("nowhere: no such folder; data=faces:PATH needs", f"faces:{tmp_path}/nowhere", by=embedding_data)
    (tmp_path / "lfw/lfw_funneled/s1/x.pgm").symlink_to("/etc/hosts")
    refused(r"x\.pgm: a symbolic link that leads out of", f"faces:{tmp_path}/lfw", by=embedding_data)


def test_faulty_faces_are_refused_or_skipped(tmp_path):
    data = people(tmp_path, 5)
    noise(tmp_path / "s1/3.png").write_bytes(noise(tmp_path / "s1/3.png").read_bytes()[:900])
    refused(r"s1/3\.png: image is truncated", data, by=embedding_data)
    train, test = opened(data, by=embedding_data, on_error="skip")
    assert len(train) + len(test) == 50
    assert sum("1 faulty examples skipped" in line for line in [*train.describe(), *test.describe()]) == 1


@pytest.mark.parametrize("apart", [False, True])
def test_characters(tmp_path, apart):
    data = characters(tmp_path, ("Greek", "Latin", "Korean"))
    train, test = opened(data, by=embedding_data if apart else classification_data, image_size=20)
    assert train.class_names[:4] == (
        "Greek/character01",
        "Greek/character02",
        "Greek/character03",
        "Korean/character01",
    )
    assert (len(train), len(test), train.mirrors) == ((120, 60, False) if apart else (144, 36, False))
    assert bool(classes_of(train) & classes_of(test)) is not apart
    batch = train.batches(20).batch(0)
    assert batch["image"].shape == (20, 20, 20, 1)
    assert batch["image"][0, 0, 0] == 255 and batch["image"][0, 0, 19] == 0, "ink is light"
    share = batch["image"][0].mean() / 255
    assert share == pytest.approx(0.1 * (batch["label"][0] % 3 + 1))
    assert (
        (train.source.read_image(tmp_path / "images_background_small1/Greek/character01/0001_01.png")[0][0, 0]) == 255
    )
    if not apart:
        drawers = {int(file[-6:-4]) for file in test.source.scan().splits["test"].files}
        assert drawers == {5, 10, 15, 20} and test.describe()[-1] == "test: what every fifth person drew"


def test_the_published_parts_of_the_characters(tmp_path):
    characters(tmp_path, ("Greek",), part="images_background")
    characters(tmp_path, ("Greek",), part="images_background_small1")
    data = characters(tmp_path, ("Atlantean",), part="images_evaluation")
    train, test = opened(data, by=embedding_data)
    assert (len(train), len(test)) == (60, 60)
    assert {train.class_names[c].split("/")[0] for c in classes_of(test)} == {"Atlantean"}
    assert test.describe()[-1] == "test: the characters of images_evaluation"
    root = f"omniglot:{tmp_path}/images_background"
    assert len(opened(root, by=embedding_data)[0]) == 20
    (tmp_path / "images_evaluation").rename(tmp_path / "images_background_small2")
    (tmp_path / "images_background").rename(tmp_path / "other")
    assert len(opened(data, by=embedding_data)[0]) == 80
    characters(tmp_path, ("Greek",), part="images_background_small2")
    refused("Greek/character01 lies in several folders", data, by=embedding_data)


def test_faulty_characters(tmp_path):
    data = characters(tmp_path)
    (tmp_path / "images_background_small1/Greek/character01/0001_01.png").rename(
        tmp_path / "images_background_small1/Greek/character01/one.png"
    )
    refused(r"one\.png: the name of a drawing is NNNN_MM\.png", data, by=classification_data)
    refused(
        r"no alphabet/character/\*\.png in it", f"omniglot:{tmp_path}/images_background_small1/Greek", by=embedding_data
    )


def test_pairs_by_rule():
    labels = np.array([0, 0, 0, 1, 1, 2])
    pairs = draw_pairs(labels)
    assert pairs.same.tolist() == [True, False] * 4
    assert list(zip(pairs.first[::2].tolist(), pairs.second[::2].tolist(), strict=True)) == [
        (0, 1),
        (0, 2),
        (1, 2),
        (3, 4),
    ]
    assert (labels[pairs.first] == labels[pairs.second]).tolist() == pairs.same.tolist()
    among = np.array([True, True, True, False, True, True])
    some = draw_pairs(labels, among=among)
    assert len(some.same) == 6 and 3 not in {*some.first.tolist(), *some.second.tolist()}
    assert len(draw_pairs(np.zeros(4, np.int32)).same) == 0, "nobody else"
    labels = np.repeat(np.arange(300), 10)
    many = draw_pairs(labels)
    assert len(many.same) == 2 * MAX_SAME
    for chosen in (many.first[many.same], many.second[~many.same]):
        assert set(labels[chosen].tolist()) == set(range(300)), "everybody has a turn"


def test_pairs_of_faces(tmp_path):
    data = people(tmp_path)
    train, test = opened(data, by=verification_data, image_size=10, channels=1)
    assert (len(train), len(test), train.class_names) == (8 * 45 * 2, 2 * 45 * 2, ("different", "same"))
    batches = test.batches(7)
    batch = batches.batch(0)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {k: (v.shape, v.dtype) for k, v in batches.spec.items()}
    for split in (train, test):
        batch = split.source.read(np.arange(len(split)))
        whose = [batch[name][:, 0, 0, 0].astype(int) // 10 for name in ("image", "other")]
        np.testing.assert_array_equal(whose[0] == whose[1], batch["same"])
        assert batch["same"].mean() == 0.5
    assert test.describe()[0] == "test: 180 pairs, 90 of them of one class"
    assert test.source.read_image(tmp_path / "s1/1.pgm")[0].shape == (10, 10, 1)


def test_listed_pairs(tmp_path):
    data = people(tmp_path)
    (tmp_path / "pairs.txt").write_text("1\t2\ns1\t1\t10\ns2\t3\ts3\t4\n")
    train, test = opened(data, by=verification_data, image_size=10, channels=1)
    batch = test.batches(2).batch(0)
    assert batch["image"][:, 0, 0, 0].tolist() == [11, 23] and batch["other"][:, 0, 0, 0].tolist() == [10, 34]
    assert batch["same"].tolist() == [True, False]
    assert len(train) == 7 * 45 * 2, "of the seven people who are not in the list"
    whose = {int(v) // 10 for v in train.source.read(np.arange(len(train)))["image"][:, 0, 0, 0]}
    assert not whose & {1, 2, 3}
    assert "test: pairs of pairs.txt" in test.describe()
    assert "train: pairs by rule, of people who are not in pairs.txt" in train.describe()
    (tmp_path / "pairsDevTrain.txt").write_text("1\ns4 1 2\ns4 1 s5 1\n")
    (tmp_path / "pairsDevTest.txt").write_text("1\ns6 1 2\ns6 1 s7 1\n")
    assert [len(split) for split in opened(data, by=verification_data)] == [2, 2]
    assert [len(split) for split in opened(f"{data}/pairs.txt", by=verification_data)] == [7 * 45 * 2, 2]


LISTS = {
    "words": ("s1 x y", r"pairs\.txt:2: 's1 x y', expected `name i j`, or `name i other j`"),
    "five": ("s1 1 s2 2 3", r"pairs\.txt:2: 's1 1 s2 2 3', expected"),
    "nobody": ("s99 1 2", r"pairs\.txt:2: there is no picture 1 of 's99'"),
    "no picture": ("s1 1 999999999999999999999", r"pairs\.txt:2: there is no picture 999999999999999999 of 's1'"),
    "everybody": (
        "\n".join(f"s{i} 1 2" for i in range(1, 11)),
        "no pair is left for train",
    ),
}


@pytest.mark.parametrize("fault", LISTS)
def test_faulty_lists(tmp_path, fault):
    text, message = LISTS[fault]
    data = people(tmp_path)
    (tmp_path / "pairs.txt").write_text(f"1 1\n{text}\ns2 1 2\n")
    refused(message, data, by=verification_data)
    if fault.startswith("no"):
        _, test = opened(data, by=verification_data, on_error="skip")
        assert len(test) == 1 and "; 1 faulty skipped, the first: " in test.describe()[-1]


def test_pairs_of_characters(tmp_path):
    data = characters(tmp_path, each=6)
    train, test = opened(data, by=verification_data, image_size=20)
    assert (len(train), len(test), train.mirrors) == (9 * 190 * 2, 3 * 190 * 2, False)
    assert train.batches(1).batch(0)["other"].shape == (1, 20, 20, 1)


def test_real_faces(real_data):
    data = f"faces:{real_data('faces_orl')}"
    forget()
    for by, counts in ((classification_data, (234, 66)), (embedding_data, (250, 50)), (verification_data, (2250, 450))):
        train, test = by(data, image_size=64, channels=1)
        assert (len(train), len(test)) == counts
    assert classification_data(data)[0].class_names == tuple(f"s{i}" for i in range(1, 31))
    assert embedding_data(data)[0].batches(8).check(thorough=True)[0].startswith("train: 250 images, 25 classes")


def test_real_characters(real_data):
    data = f"omniglot:{real_data('oneshot_omniglot')}"
    train, test = classification_data(data)
    assert (len(train), len(test), train.num_classes) == (2176, 544, 136)
    apart, unseen = embedding_data(data)
    assert (len(apart), len(unseen)) == (2120, 600) and not classes_of(apart) & classes_of(unseen)
    assert unseen.describe()[0].startswith("test: 600 images, 30 classes (20 each)")
    pixels = apart.source.read(np.arange(100))["image"]
    assert 3 < pixels.mean() < 40, "light ink on a dark page"


def test_who_is_not_seen_in_training(tmp_path):
    data = people(tmp_path / "faces")
    train, test = opened(data, by=embedding_data, unseen="3")
    assert (classes_of(train), classes_of(test)) == (set(range(7)), {7, 8, 9}), "s8, s9, s10"
    assert test.describe()[-1] == "test: unseen=3"
    assert classes_of(opened(data, by=embedding_data, unseen="s2")[1]) == {1}
    letters = characters(tmp_path / "letters")
    _, test = opened(letters, by=embedding_data, unseen="Latin")
    assert classes_of(test) == {3, 4, 5}
    for unseen, message in {
        "10": "unseen='10' leaves 0 of 6 .*; expected a number from 1 to 5, or one of Greek, Latin",
        "Cyrillic": "unseen='Cyrillic' leaves 0 of 6",
    }.items():
        refused(message.replace("leaves 0", "leaves (0|6)"), letters, by=embedding_data, unseen=unseen)
    people(tmp_path / "one", 1)
    refused("one: s1 is the only person in it, expected two or more", f"faces:{tmp_path}/one", by=embedding_data)


def test_single_pictures_of_a_list(tmp_path):
    data = people(tmp_path)
    (tmp_path / "list.txt").write_text("1\ns1 1 10\ns2 3 s3 4\n")
    train, test = opened(f"{data}/list.txt", by=embedding_data, image_size=10, channels=1)
    assert test.batches(4).batch(0)["image"][:, 0, 0, 0].tolist() == [11, 10, 23, 34]
    assert len(train) == 70 and classes_of(train) == set(range(3, 10))
    (tmp_path / "list.txt").write_text("1\ns1 1 11\n")
    refused(r"list\.txt:2: there is no picture 11 of 's1'", f"{data}/list.txt", by=embedding_data)
    (tmp_path / "list.txt").write_text("5\n" + "\n".join(f"s{i} 1 s{i + 1} 2" for i in range(1, 10)) + "\ns1 1 2\n")
    refused("no pair is left for train|nobody is left", f"{data}/list.txt", by=embedding_data)


def runs(root):
    """Two runs of three characters; the darker the ink, the higher its number, of the test drawing too."""
    for run in ("run01", "run02"):
        for i, answer in enumerate((3, 1, 2), start=1):
            picture(root / run / f"training/class{i:02d}.png", (20, 20), value=10 * i, mode="L")
            picture(root / run / f"test/item{i:02d}.png", (20, 20), value=10 * answer, mode="L")
        lines = [f"{run}/test/item{i:02d}.png {run}/training/class{a:02d}.png" for i, a in ((1, 3), (2, 1), (3, 2))]
        (root / run / "class_labels.txt").write_text("\n".join(lines) + "\n")
    return f"omniglot_runs:{root}"


def test_the_published_runs(tmp_path):
    data = runs(tmp_path)
    _, test = opened(data, by=embedding_data, image_size=20)
    batches = test.batches(6)
    assert len(batches) == 2 and test.class_names[3] == "run02/class01"
    batch = batches.batch(1)
    assert batch["label"].tolist() == [3, 4, 5, 5, 3, 4]
    np.testing.assert_array_equal(255 - batch["image"][:, 0, 0, 0], [10, 20, 30, 30, 10, 20])
    labels = tmp_path / "run02/class_labels.txt"
    good = labels.read_text()
    for text, message in {
        good.replace("class03", "class09"): r"class_labels\.txt:1: there is no picture 'run02/training/class09\.png'",
        good.replace("item01", "item09"): r"class_labels\.txt:1: there is no picture 'run02/test/item09\.png'",
        good.replace(" ", ","): r"class_labels\.txt:1: 'run02/test.*expected `run02/test/itemNN\.png",
        good.partition("\n")[2]: r"item01\.png: is not in class_labels\.txt",
    }.items():
        labels.write_text(text)
        refused(message, data, by=embedding_data)
    labels.write_text(good)
    picture(tmp_path / "run02/training/class04.png", (20, 20), mode="L")
    refused("runs of several sizes", data, by=embedding_data)
    refused("no folder with class_labels.txt in it", f"omniglot_runs:{tmp_path}/run01", by=embedding_data)
