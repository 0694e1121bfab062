"""Folders of images and masks written here, a fault each, and the real membranes, roads and COCO128."""

import numpy as np
import pytest
from PIL import Image
from small_sets import examples, findings, labels, noise, opened, picture, refused

from jaxcv.data import segmentation_data
from jaxcv.data.formats.mask_folders import CAMVID, number_labels
from jaxcv.data.io import workers
from jaxcv.errors import DataError, UserError

HALVES = np.repeat([0, 1], 20)[None].repeat(20, 0)
"""20x40: left 0, right 1."""


def open_set(root, **options):
    return opened(f"masks:{root}", by=segmentation_data, **{"image_size": 40, **options})


def found(root, **options):
    return findings(f"masks:{root}", by=segmentation_data, **{"image_size": 40, **options})


def refuses(message, root, **options):
    refused(message, f"masks:{root}", by=segmentation_data, **options)


def write(root, names=("train/a", "train/b", "val/c"), mask=HALVES, image="{}/image/{}.png", to="{}/label/{}.png"):
    for value, name in enumerate(names, 1):
        split, _, stem = name.rpartition("/")
        picture(root / image.format(split, stem), value=value)
        labels(root / to.format(split, stem), mask)
    return root


def test_images_and_masks_are_squashed(tmp_path):
    train, test = open_set(write(tmp_path, mask=HALVES * 5), image_size=10)
    assert (len(train), len(test), train.class_names) == (2, 1, ("0", "5"))
    batches = train.batches(3)
    batch = batches.batch(0)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {k: (v.shape, v.dtype) for k, v in batches.spec.items()}
    assert batch["mask"].shape == (3, 10, 10) and batch["mask"].dtype == np.uint8
    assert (batch["mask"][:2, :, :5] == 0).all() and (batch["mask"][:2, :, 5:] == 1).all()
    assert batch["image"][:, 0, 0, 0].tolist() == [1, 2, 0] and not batch["mask"][2].any()
    grey = open_set(tmp_path, channels=1)[0].batches(2).batch(0)
    assert grey["image"].shape == (2, 40, 40, 1) and (grey["image"][1] == 2).all()
    assert train.source.box_sizes().shape == (0, 2)
    pixels, factors = train.batches(1).read_image(tmp_path / "train/image/b.png")
    assert (pixels == 2).all() and factors[1:3] == (4.0, 2.0)


LAYOUTS = [
    ("{}/image/{}.png", "{}/label/{}.png"),
    ("{}/{}.png", "{}annot/{}.png"),
    ("images/{}2017/{}.png", "masks/{}2017/{}.png"),
    ("images/{}/{}.jpg", "annotations/{}/{}.png"),
    ("{}/images/{}.png", "{}/masks/{}_mask.png"),
    ("{}/{}.jpg", "{}/{}_mask.png"),
    ("leftImg/{}/{}.png", "gt/{}/{}_labelIds.png"),
    ("{}_images/{}.png", "{}_labels/{}_L.png"),
]


@pytest.mark.parametrize(("image", "mask"), LAYOUTS)
def test_where_files_may_lie(tmp_path, image, mask):
    train, test = open_set(write(tmp_path, image=image, to=mask))
    assert (len(train), len(test)) == (2, 1)
    assert abs(int(train.batches(1).batch(0)["image"][0, 0, 0, 0]) - 1) <= 1
    assert train.describe() == ["train: 2 images with masks, 2 classes (0, 1)"]


def test_without_splits_a_fifth_by_hash_in_the_order_of_the_numbers(tmp_path):
    names = [f"/{i}" for i in range(12)]
    train, test = open_set(write(tmp_path, names, image="JPEGImages/{}{}.jpg", to="SegmentationClass/{}{}.png"))
    assert (len(train), len(test)) == (11, 1)
    stems = [int(e.image.stem) for e in examples(train)]
    assert stems == sorted(stems) and 10 in stems
    assert "test: no split of its own: a fifth, by the SHA-256 of the name" in test.describe()


def test_what_has_no_partner_is_left_out_and_counted(tmp_path):
    write(tmp_path)
    picture(tmp_path / "train/image/lone.png")
    picture(tmp_path / "test/0.png")
    labels(tmp_path / "val/label/astray.png", HALVES)
    labels(tmp_path / "panoptic_train/a.png", HALVES)
    labels(tmp_path / "SegmentationObject/a.png", HALVES)
    lines = found(tmp_path)
    assert lines[0] == "train: 2 images with masks, 2 classes (0, 1)"
    assert "train: 2 images without a mask left out (test/0.png, train/image/lone.png)" in lines
    assert "test: 1 masks without an image left out (val/label/astray.png)" in lines


def test_palette_bilevel_grey_in_colours_and_transparency(tmp_path):
    write(tmp_path)
    labels(tmp_path / "train/label/a.png", HALVES, palette=True)
    Image.fromarray(HALVES.astype(bool)).save(tmp_path / "train/label/b.png")
    Image.fromarray(HALVES.astype(np.uint8)).convert("RGBA").save(tmp_path / "val/label/c.png")
    for split in open_set(tmp_path):
        mask = split.batches(len(split)).batch(0)["mask"][:, ::2]
        np.testing.assert_array_equal(mask, np.broadcast_to(HALVES, mask.shape))
    Image.fromarray(HALVES.astype(np.uint16)).save(tmp_path / "val/label/c.png")
    np.testing.assert_array_equal(open_set(tmp_path)[1].batches(1).batch(0)["mask"][0, ::2], HALVES)


@pytest.mark.parametrize(
    ("values", "options", "names", "expected"),
    [
        ([0, 255, 255, 0], {}, "0 255", [0, 1, 1, 0]),
        ([0, 1, 2, 255], {}, "0 1 2", [0, 1, 2, 255]),
        ([0, 1, 255, 255], {}, "0 1", [0, 1, 255, 255]),
        ([0, 128, 255, 0], {"values": (0, 128, 255)}, "0 128 255", [0, 1, 2, 0]),
        ([0, 128, 255, 0], {"values": (128, 0)}, "128 0", [1, 0, 255, 1]),
        ([0, 128, 255, 0], {"void": 255}, "0 128", [0, 1, 255, 0]),
        ([0, 128, 255, 0], {"values": (255, 0, 128), "classes": ("a", "b", "c")}, "a b c", [1, 2, 0, 1]),
        ([1, 2, 3, 3], {"void": 3}, "1 2", [0, 1, 255, 255]),
        ([0, 255, 0, 0], {"void": 0}, "", None),
        ([0, 1, 2, 11], {"void": 11}, "0 1 2", [0, 1, 2, 255]),
        ([0, 1, 2, 255], {"classes": ("a", "b", "c")}, "a b c", [0, 1, 2, 255]),
        ([0, 1, 2, 3], {"classes": ("b", "c", "d"), "void": 0}, "b c d", [255, 0, 1, 2]),
        ([0, 1, 2, 1], {"classes": ("a", "void", "c")}, "a c", [0, 255, 1, 255]),
    ],
)
def test_what_numbers_mean(tmp_path, values, options, names, expected):
    mask = np.array(values, np.uint8).repeat(10)[None].repeat(20, 0)
    write(tmp_path, mask=mask)
    if expected is None:
        refuses("no class in any mask, every pixel is void", tmp_path, **options)
        return
    train, _ = open_set(tmp_path, **options)
    assert train.class_names == tuple(names.split())
    assert train.batches(1).batch(0)["mask"][0, 0, ::10].tolist() == expected
    assert train.describe()[0].endswith(f"{len(train.class_names)} classes ({', '.join(train.class_names)})")


@pytest.mark.parametrize("values", [[0, 128, 255, 0], [0, 38, 75, 113], [0, 60, 120, 240]])
def test_greys_that_are_no_class_numbers_are_refused(tmp_path, values):
    write(tmp_path, mask=np.array(values, np.uint8).repeat(10)[None].repeat(20, 0))
    listed = ",".join(str(v) for v in sorted({*values}))
    refuses(f"masks hold the greys {listed}, which are no class numbers; say what they are with values=", tmp_path)


def test_void_is_not_taken_without_a_word(tmp_path):
    write(tmp_path, mask=np.array([0, 1, 255, 0], np.uint8).repeat(10)[None].repeat(20, 0))
    assert "train: 255 in 3 of 3 masks is void" in found(tmp_path)


def test_masks_saved_as_jpeg(tmp_path):
    """Two classes where they are black and white, as drawn; else refused."""
    disc = 255 * ((np.mgrid[:40, :40] - 20.5) ** 2).sum(0).__lt__(150)
    for i in range(3):
        split = "train" if i < 2 else "val"
        picture(tmp_path / f"{split}/image/{i}.png", (40, 40))
        labels(tmp_path / f"{split}/label/{i}.jpg", disc)
    train, _ = open_set(tmp_path)
    assert train.class_names == ("0", "255") and "train: masks are JPEGs: divided at 128" in train.describe()[1]
    assert (train.batches(1).batch(0)["mask"][0] == (disc > 0)).mean() > 0.99
    assert open_set(tmp_path, classes=("a", "b"))[0].class_names == ("a", "b")
    message = r"label/0\.jpg: a JPEG does not keep class numbers; expected black and white"
    refuses(message, tmp_path, classes=("a", "b", "c"))
    labels(tmp_path / "train/label/1.png", disc)
    (tmp_path / "train/label/1.jpg").unlink()
    refuses(message, tmp_path)
    for i, split in enumerate(("train", "train", "val")):
        labels(tmp_path / f"{split}/label/{i}.jpg", disc // 25)
        (tmp_path / "train/label/1.png").unlink(missing_ok=True)
    refuses(message, tmp_path)


def test_pictures_with_an_exif_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path)
    picture(tmp_path / "train/image/a.png", exif=exif)
    as_stored = open_set(tmp_path)[0].batches(1).batch(0)["mask"][0]
    assert (as_stored[:20] == 0).all() and (as_stored[20:] == 1).all(), "the mask is of the size as stored"
    labels(tmp_path / "train/label/a.png", HALVES.T)
    as_shown = open_set(tmp_path)[0].batches(1).batch(0)["mask"][0]
    np.testing.assert_array_equal(as_shown, as_stored)
    exif[0x0112] = 3
    picture(tmp_path / "train/image/a.png", exif=exif)
    refuses(r"label/a\.png: a\.png has EXIF orientation 3, and the size of its mask does not tell", tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "names", "expected"),
    [
        ("classes.txt", "sky\nroad\nVoid\n", "sky road", [0, 1, 255, 0]),
        ("train/classes.txt", "sky\nroad\nsea\n", "sky road sea", [0, 1, 2, 0]),
        ("data.yaml", "classes: {0: unlabeled, 1: sky, 2: road}", "sky road", [255, 0, 1, 255]),
        ("data.yml", "names: [sky, road, sea]", "sky road sea", [0, 1, 2, 0]),
    ],
)
def test_where_names_may_stand(tmp_path, file, text, names, expected):
    write(tmp_path, mask=np.array([0, 1, 2, 0], np.uint8).repeat(10)[None].repeat(20, 0))
    (tmp_path / file).write_text(text)
    train, _ = open_set(tmp_path)
    assert train.class_names == tuple(names.split())
    assert train.batches(1).batch(0)["mask"][0, 0, ::10].tolist() == expected


def test_masks_in_colours(tmp_path):
    colors = np.array([[0, 0, 255], [0, 0, 0], [9, 8, 7], [0, 0, 255]], np.uint8).repeat(10, 0)[None].repeat(20, 0)
    write(tmp_path, mask=colors)
    refuses(r"colour #0000ff at x=0 y=0 is no label; expected class numbers, or a label_colors\.txt", tmp_path)
    (tmp_path / "label_colors.txt").write_text("0 0 255\tsea\n0 0 0  void\n9 8 7 rock\n")
    train, _ = open_set(tmp_path)
    assert train.class_names == ("sea", "rock")
    assert train.batches(1).batch(0)["mask"][0, 0, ::10].tolist() == [0, 255, 1, 0]
    (tmp_path / "label_colors.txt").write_text("0 0 255\tsea\n0 0 0  void\n")
    refuses(r"colour #090807 at x=20 y=0 is no label", tmp_path)
    (tmp_path / "label_colors.txt").write_text("0 0 255 sea\n0 0 256 land\n")
    refuses(r"label_colors\.txt:2: '0 0 256 land', expected red, green, blue and a name", tmp_path)


def test_faults(tmp_path):
    write(tmp_path)
    labels(tmp_path / "train/label/b.png", HALVES[:, :39])
    refuses(r"label/b\.png: the annotation says 39x20, b\.png is 40x20", tmp_path)
    labels(tmp_path / "train/label/b.png", HALVES * 7)
    message = r"label/b\.png: label 7 at x=20 y=0, expected one of 255, 0, 1"
    refuses(message, tmp_path, classes=("a", "b"))
    lines = found(tmp_path, classes=("a", "b"), on_error="skip")
    assert lines[0].startswith("train: 1 images with masks") and "1 faulty examples skipped" in lines[1]
    noise(tmp_path / "train/label/b.png").write_bytes(noise(tmp_path / "x.png").read_bytes()[:4_000])
    refuses(r"label/b\.png: image is truncated", tmp_path)
    assert len(open_set(tmp_path, on_error="skip")[0]) == 1
    Image.fromarray(np.full((20, 40), 300, np.uint16)).save(tmp_path / "train/label/b.png")
    refuses(r"label/b\.png: label 300, expected 0 to 255", tmp_path)
    (tmp_path / "data.yaml").write_text("names: {999: a}")
    refuses("class 999: 'a', expected a number from 0 to 255 and a class name", tmp_path)


def test_folders(tmp_path):
    refuses("nowhere: no such folder; data=masks:PATH", tmp_path / "nowhere")
    refuses(r"no image with a mask of the same name \(0 images, 0 masks\); masks lie in a folder called", tmp_path)
    picture(tmp_path / "images/a.png")
    labels(tmp_path / "masks/b.png", HALVES)
    refuses(r"no image with a mask of the same name \(1 images, 1 masks\)", tmp_path)
    labels(tmp_path / "masks/a.png", HALVES)
    picture(tmp_path / "images/more/a.png")
    refuses(r"more/a\.png: .*images/a\.png has the same name", tmp_path)
    (tmp_path / "images/more/a.png").unlink()
    (tmp_path / "masks/c.png").symlink_to("/etc/passwd")
    refuses(r"c\.png: a symbolic link that leads out of", tmp_path)
    with pytest.raises(UserError, match="void=11: expected a number from 0 to 255, for masks:PATH alone"):
        segmentation_data("coco:x", void=11)
    with pytest.raises(UserError, match="void=256"):
        segmentation_data("masks:x", void=256)


def test_both_are_decoded_once(tmp_path, monkeypatch):
    calls = []
    read = workers.read_region
    monkeypatch.setattr(
        workers, "read_region", lambda path, *how, **options: calls.append(path) or read(path, *how, **options)
    )
    train, _ = open_set(write(tmp_path))
    first, second = (train.batches(2).batch(0) for _ in range(2))
    np.testing.assert_array_equal(first["mask"], second["mask"])
    assert len(calls) == 2


def test_labels_of_names():
    labels = number_labels(("a", "ignore", "b"), [3, 4, 9], void=7)
    assert labels.names == ("a", "b") and labels.table == {255: 255, 7: 255, 3: 0, 4: 255, 9: 1}


def test_voc(tmp_path):
    root = tmp_path / "VOC2012"
    for name, value in (("a", 15), ("b", 255), ("c", 20)):
        picture(root / f"JPEGImages/{name}.jpg")
        labels(root / f"SegmentationClass/{name}.png", HALVES * value, palette=True)
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nb\n")
    (root / "ImageSets/Segmentation/val.txt").write_text("c\n")
    data = f"voc:{tmp_path}"
    train, test = opened(data, by=segmentation_data, image_size=40)
    assert (len(train), len(test), train.num_classes) == (2, 1, 21) and train.class_names[15] == "person"
    assert train.batches(2).batch(0)["mask"][:, 0, -1].tolist() == [15, 255]
    (root / "ImageSets/Segmentation/train.txt").write_text("a\nd\n")
    refused(r"train\.txt:2: JPEGImages/d\.jpg is missing", data, by=segmentation_data)
    with pytest.raises(UserError, match=r"classes=\('a',\): voc.* has its own classes"):
        segmentation_data(data, classes=("a",))


def test_real_membranes(real_data):
    train, test = segmentation_data(f"masks:{real_data('seg_isbi_membrane')}", image_size=512, channels=1)
    assert (len(train), len(test), train.class_names) == (24, 6, ("0", "255"))
    assert train.describe()[1].startswith("train: 6 images without a mask left out (test/0.png, test/1.png")
    stems = [int(e.image.stem) for split in (train, test) for e in examples(split)]
    assert sorted(stems) == list(range(30)) and stems[:24] == sorted(stems[:24]), "sorted by number, not as text"
    masks = np.concatenate([split.source.read(np.arange(len(split)))["mask"] for split in (train, test)])
    assert set(np.unique(masks)) == {0, 1} and 0.21 < (masks == 0).mean() < 0.23, "membrane is 0, 22 %"


def test_real_roads(real_data):
    root = real_data("seg_camvid")
    train, test = segmentation_data(f"camvid:{root}", image_size=128)
    assert (len(train), len(test), train.class_names) == (40, 14, CAMVID)
    assert train.batches(8).check(thorough=True)[0].startswith("train: 40 images with masks, 11 classes (sky, bui")
    values = set(np.unique(train.source.read(np.arange(40))["mask"]))
    assert values == {*range(11), 255}
    by_number, _ = segmentation_data(f"masks:{root}", image_size=128, void=11)
    assert by_number.class_names == tuple(map(str, range(11)))
    np.testing.assert_array_equal(by_number.source.read(np.arange(9))["mask"], train.source.read(np.arange(9))["mask"])
    with pytest.raises(DataError, match="label 11 at"):
        segmentation_data(f"masks:{root}", classes=CAMVID)[0].describe()


def test_real_coco128(real_data):
    train, test = segmentation_data(f"masks:{real_data('det_yolo_coco128_train2017')}", image_size=64)
    assert (len(train), len(test), train.num_classes) == (77, 23, 129) and train.class_names[0] == "person"
    assert train.describe()[1].startswith("train: 28 images without a mask left out (images/train2017/")
    assert 255 in train.source.read(np.arange(77))["mask"], "unlabelled"


def test_the_last_by_number_can_be_held_out(tmp_path):
    names = [f"train/{i}" for i in (0, 1, 2, 9, 10, 11)]
    train, test = open_set(write(tmp_path, names), hold_last=2)
    assert [each.image.stem for each in train.source._examples] == ["0", "1", "2", "9"]
    assert [each.image.stem for each in test.source._examples] == ["10", "11"]
    assert "the last 2 by name" in found(tmp_path, hold_last=2)[2]
    refuses("hold_last=6: there are 6 examples", tmp_path, hold_last=6)
    with pytest.raises(UserError, match="hold_last=5: expected a number of examples, for masks:PATH alone"):
        segmentation_data("digits", hold_last=5)


def test_pictures_can_be_read_at_their_own_size(tmp_path):
    _, test = open_set(write(tmp_path), image_size=10, own_size=True, channels=1)
    pixels, factors = test.batches(1).read_image(tmp_path / "val/image/c.png")
    assert pixels.shape == (20, 40, 1) and factors[1:3] == (1.0, 1.0)
