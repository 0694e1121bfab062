"""Small sets of every format, to be spoilt: written once, read whole, and what comes out looked at."""

import struct
import time

import numpy as np
from small_sets import CocoSet, PointSet, YoloSet, cifar_pickle, forget, labels, noise, picture, pts

from jaxcv.data import (
    classification_data,
    detection_data,
    embedding_data,
    landmark_data,
    segmentation_data,
    verification_data,
)
from jaxcv.errors import DataError

SECONDS = 5.0
"""More than any attack takes, by far."""


def voc(root):
    xml = "<annotation><size><width>64</width><height>64</height></size>{}</annotation>"
    box = (
        "<object><name>dog</name><bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>60</xmax><ymax>60</ymax></bndbox></object>"
    )
    for part in ("Annotations", "ImageSets/Main"):
        (root / part).mkdir(parents=True)
    for i in range(4):
        noise(root / f"JPEGImages/{i}.jpg")
        (root / f"Annotations/{i}.xml").write_text(xml.format(box.format(i + 1) * (i + 1)))
    (root / "ImageSets/Main/trainval.txt").write_text("0\n1\n2\n")
    (root / "ImageSets/Main/test.txt").write_text("3\n")
    return "voc", "Annotations/0.xml", "Annotations/2.xml", "ImageSets/Main/trainval.txt", "JPEGImages/1.jpg"


def coco(root):
    folder = CocoSet(root)
    folder.change("annotations.1.segmentation", {"size": [20, 40], "counts": [100, 200, 500]})
    folder.add(2, 3, [1, 1, 5, 5], iscrowd=1)
    return "coco", "annotations/instances_train2017.json", "annotations/instances_val2017.json", "train2017/a0.png"


def coco_points(root):
    folder = CocoSet(root, "person_keypoints")
    for split in folder.json:
        for entry in folder.json[split]["annotations"]:
            entry["keypoints"] = [3, 3, 2, 9, 9, 1, 0, 0, 0]
    folder.write()
    return "coco", "annotations/person_keypoints_train2017.json"


def yolo(root):
    YoloSet(root)
    return "yolo", "data.yaml", "labels/train/a0.txt", "labels/train/a1.txt", "labels/val/b0.txt", "images/train/a1.png"


def yolo_masks(root):
    folder = YoloSet(root)
    folder.put("a0", "1 0 0 .5 0 .5 .5 0 .5\n")
    folder.put("b0", "0 .1 .1 .9 .1 .5 .9\n", split="val")
    return "yolo", "data.yaml", "labels/train/a0.txt"


def masks(root):
    for split, count in (("train", 3), ("val", 1)):
        for i in range(count):
            picture(root / f"{split}/{i}.png")
            labels(root / f"{split}annot/{i}.png", np.full((20, 40), i), palette=i == 1)
    (root / "label_colors.txt").write_text("0 0 0 sky\n1 1 1 sea\n2 2 2 land\n37 38 39 sun\n")
    return "masks", "label_colors.txt", "trainannot/0.png", "trainannot/1.png", "valannot/0.png"


def points(root):
    PointSet(root)
    return "points", "training_points.csv", "training/ann_1.png"


def pts_files(root):
    for i in range(6):
        picture(root / f"{i}.png")
        pts(root / f"{i}.pts", [(4, 4), (14, 14), (20, 9)])
    return "pts", "0.pts", "5.pts", "3.png"


def folder(root):
    for name in ("train/ant/a.jpg", "train/bee/b.png", "val/ant/c.gif", "val/bee/d.webp"):
        noise(root / name, (24, 20))
    return "folder", "train/ant/a.jpg", "train/bee/b.png", "val/ant/c.gif", "val/bee/d.webp"


def faces(root):
    for person in range(4):
        for i in range(2):
            picture(root / f"s{person}/{i}.pgm", (8, 8), value=9, mode="L")
    return "faces", "s0/1.pgm"


def pairs(root):
    faces(root)
    (root / "pairs.txt").write_text("1 1\ns0 0 1\ns0 1 s1 0\n")
    return "faces", "s0/1.pgm", "pairs.txt"


def omniglot(root):
    for character in range(2):
        for drawer in (1, 2, 5):
            picture(root / f"Greek/character{character}/{character:04d}_{drawer:02d}.png", (8, 8), 255, "L")
    return "omniglot", "Greek/character1/0001_01.png"


def mnist(root):
    root.mkdir()
    for part in ("train", "t10k"):
        (root / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 5, 28, 28) + bytes(5 * 784))
        (root / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 5) + bytes(range(5)))
    return "mnist", "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def cifar(root):
    root.mkdir()
    for file in ("train", "test"):
        (root / file).write_bytes(cifar_pickle(np.arange(6144).reshape(2, 3072) % 256, [1, 99], key=b"fine_labels"))
    return "cifar100", "train", "test"


def npy(root):
    root.mkdir()
    np.save(root / "images.npy", np.zeros((10, 8, 8), np.uint8))
    np.save(root / "labels.npy", np.arange(10) % 3)
    return "npy", "images.npy", "labels.npy"


SETS = {
    "voc": (voc, detection_data),
    "coco": (coco, detection_data),
    "coco masks": (coco, segmentation_data),
    "coco points": (coco_points, landmark_data),
    "yolo": (yolo, detection_data),
    "yolo masks": (yolo_masks, segmentation_data),
    "masks": (masks, segmentation_data),
    "points": (points, landmark_data),
    "pts": (pts_files, landmark_data),
    "folder": (folder, classification_data),
    "faces": (faces, embedding_data),
    "pairs": (pairs, verification_data),
    "omniglot": (omniglot, classification_data),
    "mnist": (mnist, classification_data),
    "cifar": (cifar, classification_data),
    "npy": (npy, classification_data),
}


class Target:
    """A set on disk, and the way to open it."""

    def __init__(self, root, write, by):
        kind, *files = write(root)
        self.root, self.data, self.by = root, f"{kind}:{root}", by
        self.files = [root / file for file in files]

    def read(self, **options):
        """Everything of both splits; a line where it is refused."""
        forget()
        start, line = time.monotonic(), ""
        try:
            for split in self.by(self.data, image_size=16, **options):
                split.batches(2).check(thorough=True)
                sound(split, split.source.read(np.arange(len(split))))
        except DataError as error:
            line = str(error)
            assert "\n" not in line and str(self.root) in line and len(line) < 1_500, line
        assert time.monotonic() - start < SECONDS
        return line


def sound(split, batch):
    """Whether a batch is what its spec promises, finite and in range."""
    spec = {name: ((len(split), *field.shape), field.dtype) for name, field in split.source.spec().items()}
    assert {name: (field.shape, field.dtype) for name, field in batch.items()} == spec
    for name in ("boxes", "points"):
        if name in batch:
            assert np.isfinite(batch[name]).all()
    if "boxes" in batch:
        boxes = batch["boxes"][batch["valid"] | batch["ignored"]]
        assert (boxes >= 0).all() and (boxes <= 16).all() and (boxes[:, 2:] > boxes[:, :2]).all()
    for name in ("label", "classes"):
        if name in batch:
            assert (batch[name] >= 0).all() and (batch[name] < split.num_classes).all()
    if "mask" in batch:
        assert ((batch["mask"] < split.num_classes) | (batch["mask"] == 255)).all()
    if "points" in batch:
        assert np.abs(batch["points"][batch["visible"]]).max(initial=0) < 64
