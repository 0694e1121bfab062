"""The YAML file of a YOLO set, and where the images and labels lie that it speaks of; `yolo_txt` has the rules."""

from pathlib import Path
from typing import Any, NamedTuple

from jaxcv.data.example import TEST_NAMES
from jaxcv.data.io.text import (
    find_folder,
    holds,
    join,
    list_folder,
    list_names,
    list_pictures,
    one_line,
    read_lines,
    read_names,
    read_text,
    read_yaml,
    shown,
    wrong_name,
)
from jaxcv.types import DataError


class Description(NamedTuple):
    """What a YAML file says, looked up."""

    file: Path
    root: Path
    """All images lie in it."""
    names: dict[int, str]
    """Class names by their number in the labels."""
    images: dict[str, list[Path]]
    """By split; no `test` where there is none."""
    missing: str
    """What the file says of a test split that is not there; empty where it says nothing."""
    leave_out: bool
    """Whether images without a label file are left out."""

    def labels(self, image: Path) -> Path:
        """Where the label file of an image is, or would be."""
        parts = list(image.relative_to(self.root).parts)
        name = image.with_suffix(".txt").name
        if "images" in parts[:-1]:
            place = len(parts) - 2 - parts[-2::-1].index("images")
            inside = Path(*parts[place + 1 : -1])
            for base in (self.file.parent, self.root / Path(*parts[:place])):
                if (base / "labels" / inside).is_dir():
                    return base / "labels" / inside / name
        return image.with_name(name)


def describe(path: Path, *, polygons: bool) -> Description:
    """The YAML file to go by, read.

    Args:
      path: that file, or the folder where it is looked for.
      polygons: which of several is taken: whether its labels are polygons, or boxes.

    Raises:
      DataError: none or several, a key that is missing or wrong, no images where it says.
    """
    if path.is_file():
        return _read_description(path, read_yaml(path))
    find_folder(path, "data=yolo:PATH needs a YAML file, or a folder with one, or with images and labels")
    folders = [path, *(Path(e.path) for e in list_folder(path, path) if e.is_dir() and e.name[0] != ".")]
    for group in (folders[:1], folders[1:]):
        files = [Path(e.path) for f in group for e in list_folder(f, path) if e.name.endswith((".yaml", ".yml"))]
        contents = {file: read_yaml(file) for file in files}
        named = {file: content for file, content in contents.items() if "names" in content or "nc" in content}
        found = {file: content for file, content in named.items() if isinstance(content.get("train"), str | list)}
        if not found and len(named) == 1:  # no set of another kind either: what it lacks is said
            found = named
        if len(found) == 1:
            return _read_description(*next(iter(found.items())))
        if found:
            described = [_read_description(file, content) for file, content in found.items()]
            chosen = [each for each in described if _has_polygons(each) is polygons]
            if len(chosen) == 1:
                return chosen[0]
            names = list_names([str(file.relative_to(path)) for file in found])
            raise DataError(f"several descriptions, {names}: choose one with data=yolo:{path}/FILE", file=path)
    if not (path / "images").is_dir():
        raise DataError(f"neither a YAML file with names and train nor a folder images; {holds(path)}", file=path)
    return _without_yaml(path)


def _has_polygons(described: Description) -> bool | None:
    """Whether the first object is a polygon; None where there is no object."""
    for image in described.images["train"]:
        labels = described.labels(image)
        if labels.is_file() and (words := read_text(labels).split("\n", 1)[0].split()):
            return len(words) > 5
    return None


def _without_yaml(path: Path) -> Description:
    listed = next((path / name for name in ("classes.txt", "obj.names") if (path / name).exists()), None)
    parts = {e.name: Path(e.path) for e in list_folder(path / "images", path) if e.is_dir()}
    test = next((parts[name] for name in TEST_NAMES if name in parts), None)
    images = {"train": _pictures(parts["train"], path)} if "train" in parts and test else {}
    images = (
        {**images, "test": _pictures(test, path)} if images and test else {"train": _pictures(path / "images", path)}
    )
    if listed is None:
        message = "no class names: add a YAML file with names and train, or classes.txt with a name on each line"
        raise DataError(f"{message}; {holds(path)}", file=path)
    names = dict(enumerate(read_names(listed)))
    return Description(listed, path, names, images, "", False)


def _pictures(folder: Path, root: Path, depth: int = 6) -> list[Path]:
    """All in a folder and those below, no deeper than any true set: links inside may lead in a circle."""
    inside = [Path(e.path) for e in list_folder(folder, root) if e.is_dir() and e.name[0] != "."] if depth else []
    below = (path for part in inside for path in _pictures(part, root, depth - 1))
    return [*list_pictures(folder, root).values(), *below]


def _read_description(file: Path, content: dict[Any, Any]) -> Description:
    names = _names(file, content)
    test = next((key for key in TEST_NAMES if content.get(key)), None)
    start = str(content.get("path") or "")
    for root in (file.parent, file.parent.parent):  # images may also lie beside the folder of the YAML file
        if train := _find(content["train"] if "train" in content else None, file, root, start):
            break
    else:
        message = f"train is {shown(content.get('train'))}, and no images are there"
        raise DataError(f"{message}; name their folder, seen from this file's", file=file)
    images, missing = {"train": train}, ""
    if test is not None:
        if found := _find(content[test], file, root, start):
            images["test"] = found
        else:
            missing = f"{test}: {shown(content[test])} of {file.name} is not there"
    return Description(file, root, names, images, missing, content.get("skip_if_label_file_missing") is True)


def _find(entries: Any, file: Path, root: Path, start: str) -> list[Path]:
    """The images that an entry such as `train` names, as far as they lie in `root`."""
    images: list[Path] = []
    for entry in entries if isinstance(entries, list) else [entries]:
        if not isinstance(entry, str):
            raise DataError(f"train or val is {shown(entry)}, expected a folder of images; correct it", file=file)
        bare = entry.replace("\\", "/")
        while bare.startswith("../"):
            bare = bare[3:]
        for name in (f"{start}/{entry}", entry, bare):
            place = join(file.parent if root == file.parent else root, name, root)
            if place is not None and place.is_dir():
                images += _pictures(place, root)
                break
            if place is not None and place.is_file() and place.suffix == ".txt":
                images += _listed(place, root)
                break
    return images


def _listed(file: Path, root: Path) -> list[Path]:
    images, lines = [], {}
    for number, name in read_lines(file):
        image = next((p for base in (file.parent, root) if (p := join(base, name, root)) and p.is_file()), None)
        if image is None:
            raise DataError(f"{one_line(name)} is missing, or lies outside {root}; add it", file=file, line=number)
        if lines.setdefault(image, number) != number:
            message = f"{one_line(name)} stands also on line {lines[image]}; take one out"
            raise DataError(message, file=file, line=number)
        images.append(image)
    return images


def _names(file: Path, content: dict[Any, Any]) -> dict[int, str]:
    names, count = content.get("names"), content.get("nc")
    if names is None and isinstance(count, int) and 0 < count <= 10_000:
        names = [str(i) for i in range(count)]
    found = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(found, dict) or not found:
        raise DataError(f"names is {shown(names)}, expected a list of class names; add it", file=file)
    for key, name in found.items():
        if type(key) is not int or key < 0 or not isinstance(name, str | int) or isinstance(name, bool):
            message = f"names: {shown(key)}: {shown(name)}, expected a number and a class name; correct it"
            raise DataError(message, file=file)
        if fault := wrong_name(str(name)):
            raise DataError(f"names: {shown(key)}: {fault}", file=file)
    if count is not None and (type(count) is not int or count != len(found)):
        raise DataError(f"nc is {shown(count)}, but names has {len(found)}; correct one of them", file=file)
    return {key: str(name) for key, name in found.items()}
