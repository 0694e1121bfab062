"""Class folders whose splits or whose test classes stand in lists: ImageNet's, Tiny ImageNet's, Food-101's."""

import pytest
from small_sets import opened, picture, refused

from jaxcv.data import classification_data

FLAT = {
    "val.txt": "{0} n1\n{1} n0\n{2} n1\n",
    "val/val_annotations.txt": "{0}\tn1\t0\t0\t9\t9\n{1}\tn0\t0\t0\t9\t9\n{2}\tn1\t0\t0\t9\t9\n",
    "LOC_val_solution.csv": "ImageId,PredictionString\nv0,n1 0 0 9 9\nv1,n0 0 0 9 9\nv2,n1 0 0 9 9\n",
    "labels.txt": "val/{0} 1\nval/{1} 0\nval/{2} 1\n",
}


@pytest.mark.parametrize("inside", ["", "images/"])
@pytest.mark.parametrize("name", FLAT)
def test_a_flat_val_with_a_list_of_classes(tmp_path, name, inside):
    for i in range(4):
        picture(tmp_path / f"train/n{i % 2}/{inside}{i}.jpg")
    for i in range(3):
        picture(tmp_path / f"val/{inside}v{i}.JPEG", value=10 * i)
    (tmp_path / name).write_text(FLAT[name].format(*(f"v{i}.JPEG" for i in range(3))))
    train, test = opened(f"folder:{tmp_path}", by=classification_data)
    assert (len(train), len(test), train.class_names) == (4, 3, ("n0", "n1"))
    batch = test.batches(3).batch(0)
    assert batch["label"].tolist() == [1, 0, 1] and batch["image"][:, 0, 0, 0].tolist() == [0, 10, 20]
    assert f"test: the classes of val are those of {name.split('/')[-1]}" in test.describe()
    (tmp_path / name).write_text(FLAT[name].format(*(f"v{i}.JPEG" for i in range(3))).replace("n0", "n7"))
    if "n0" in FLAT[name]:
        refused("class 'n7' is not in the list", f"folder:{tmp_path}", by=classification_data)
    (tmp_path / name).unlink()
    refused(
        "expected in train and in one of .*, or there a list of the pictures' classes",
        f"folder:{tmp_path}",
        by=classification_data,
    )


@pytest.mark.parametrize(("where", "lists"), [("images/", "meta/"), ("", ""), ("", "splits/")])
@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_lists_of_splits(tmp_path, where, lists, ending):
    for i in range(6):
        picture(tmp_path / f"{where}c{i % 2}/{i}.jpg")
    (tmp_path / lists).mkdir(exist_ok=True)
    (tmp_path / f"{lists}train.txt").write_text("".join(f"c{i % 2}/{i}{ending}\n" for i in range(3)))
    (tmp_path / f"{lists}test.txt").write_text("".join(f"c{i % 2}/{i}{ending}\n" for i in (3, 4)))
    train, test = opened(f"folder:{tmp_path}", by=classification_data)
    assert (len(train), len(test)) == (3, 2) and sorted(test.batches(2).batch(0)["label"].tolist()) == [0, 1]
    (tmp_path / f"{lists}test.txt").write_text(f"c1/9{ending}\n")
    refused(r"test\.txt:1: c1/9.* is no picture in a class folder", f"folder:{tmp_path}", by=classification_data)
    (tmp_path / f"{lists}test.txt").write_text(f"c0/0{ending}\n")
    refused(r"test\.txt:1: c0/0.* is listed in both splits", f"folder:{tmp_path}", by=classification_data)
