"""The arrows between the rooms of the house, read off the import statements."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jaxcv"

# Who may import what of jaxcv besides itself. A room that is not listed may not exist.
ARROWS = {
    "types": set(),
    "errors": set(),
    "cpu": set(),
    "ops": {"types", "errors", "cpu"},
    "losses": {"types", "errors", "ops"},
    "show": {"types", "errors"},
    "metrics": {"types", "errors", "ops", "show"},  # a metric knows what it reports
    "models": {"types", "errors", "ops"},
    "augment": {"types", "errors", "ops"},
    "predict": {"types", "errors", "ops"},
    "data": {"types", "errors", "ops"},  # ops for the k-means of anchor boxes; its own rooms are in DATA_ARROWS
    "weights": {"types", "errors", "data", "models", "ops", "train"},  # train for a run's checkpoints
    "train": {"types", "errors", "cpu", "ops", "show"},  # ops for the first values of parameters
    # data answers without its files; show knows what a prediction's pixels are, predict combines views of a picture
    "runs": {"types", "errors", "data", "predict", "show", "train", "weights"},
    "sweep": {"types", "errors", "train"},
    # models for the summary that --dry-run prints, weights for --export, predict and metrics for --enroll
    "cli": {"types", "errors", "weights", "train", "runs", "sweep", "models", "show", "predict", "metrics"},
}
# Inside data/, the same for its rooms and the files that stand beside them.
DATA_ARROWS = {
    "io": set(),
    "source": {"io"},
    "raw": {"io"},
    "example": {"io", "raw"},
    "collector": {"io", "raw", "example"},
    "formats": {"io", "raw", "example", "collector", "sources"},
    "sources": {"io", "raw", "example", "source"},
    "sets": {"io", "raw", "example", "collector", "source", "sources", "formats"},
    "toy": {"io", "source", "sources"},
    "batches": {"io", "source", "sources"},
    "dataset": {"batches", "io", "source", "sources"},
    "openers": {"io", "dataset", "example", "formats", "sets", "source", "sources", "toy"},
    "opening": {"io", "dataset", "openers", "sets", "sources"},
}


def modules():
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" else parts


def label(path):
    return str(path.relative_to(ROOT))


def room_of(path):
    """`ops` for jaxcv/ops/boxes.py; None for jaxcv/__init__.py."""
    parts = name_of(path)
    return parts[1] if len(parts) > 1 else None


def imports(path):
    """Every module a file imports, at the top or inside a function, as a dotted name; relative ones resolved."""
    package = name_of(path) if path.name == "__init__.py" else name_of(path)[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            # `from jaxcv import ops` imports jaxcv.ops; `from jaxcv.ops import nms` may import no more than jaxcv.ops.
            yield from (".".join([*base, alias.name]) for alias in node.names)


def within(name, package):
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("path", modules(), ids=label)
def test_arrows(path):
    room = room_of(path)
    ours = [name.split(".") for name in imports(path) if within(name, "jaxcv")]
    for parts in ours:
        assert len(parts) > 1, f"{path}: imports jaxcv as a whole"
        if room is None:
            continue
        assert parts[1] in {room, *ARROWS[room]}, f"{path}: {room} may not import {'.'.join(parts)}"
    assert not [name for name in imports(path) if within(name, "experiments")], f"{path}: imports an experiment"


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "data").glob("*/**/*.py")) + sorted((PACKAGE / "data").glob("[!_]*.py")), ids=label
)
def test_arrows_inside_data(path):
    room = name_of(path)[2]
    for name in imports(path):
        if within(name, "jaxcv.data"):
            target = name.split(".")[2] if name != "jaxcv.data" else ""
            assert target == room or target in DATA_ARROWS[room], f"{path}: {room} may not import {name}"
        elif room != "dataset":
            words = within(name, "jaxcv.types") or within(name, "jaxcv.errors")
            assert words or not within(name, "jaxcv"), f"{path}: {room} may not import {name}"


def test_few_files_stand_directly_in_data():
    data = PACKAGE / "data"
    assert len([path for path in data.iterdir() if path.is_file()]) <= 8
    rooms = {path.stem for path in data.iterdir() if path.name[:2] != "__"}
    assert rooms == set(DATA_ARROWS)


def test_every_room_has_its_arrows():
    """And no file stands loose beside them, but for the two that hold words for all."""
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert rooms <= set(ARROWS)
    assert {path.stem for path in PACKAGE.glob("*.py")} == {"__init__", "types", "errors"}


def test_there_is_no_circle():
    done: set[str] = set()
    while left := set(ARROWS) - done:
        free = {room for room in left if ARROWS[room] <= done}
        assert free, f"a circle among {sorted(left)}"
        done |= free


@pytest.mark.parametrize(
    ("library", "allowed"),
    [
        ("flax", ["models", "train/state.py", "train/parts.py"]),
        ("orbax", ["train/checkpoint.py"]),
        ("grain", ["data", "train"]),
        ("pycocotools", ["metrics", "data"]),
        ("matplotlib", ["show", "sweep"]),
        ("optuna", ["sweep"]),
        ("rich", ["train", "sweep", "cli"]),
    ],
)
def test_seams_for_churning_libraries(library, allowed):
    for path in modules():
        if any(path.relative_to(PACKAGE).is_relative_to(place) for place in allowed):
            continue
        assert not [name for name in imports(path) if within(name, library)], f"{path} imports {library}"


def test_the_seam_to_the_cpu_is_two_lines():
    """Of ops one function, of train what it does to a process; nothing else would miss the folder."""
    found = {}
    for path in modules():
        names = {name for name in imports(path) if within(name, "jaxcv.cpu")}
        if names and room_of(path) != "cpu":
            found[str(path.relative_to(PACKAGE))] = names
    process = {f"jaxcv.cpu.{name}" for name in ("compiler_options", "machine_name", "tune")}
    assert found == {"ops/platform.py": {"jaxcv.cpu.on_cpu"}, "train/runtime.py": process}


@pytest.mark.parametrize("path", [*modules(), *(ROOT / "experiments").glob("*.py"), ROOT / "launch.py"], ids=label)
def test_never_imported(path):
    never = "tensorflow tensorflow_datasets clu absl ml_collections albumentations albumentationsx ultralytics torch"
    assert not [name for name in imports(path) if name.split(".")[0] in never.split()]


def test_ops_import_jax_alone():
    allowed = {"jax", "jaxtyping", "jaxcv", "collections", "functools", "math", "typing", "enum", "dataclasses"}
    first_values = {"contextlib", "contextvars", "numpy", "zlib"}  # of parameters, by the names of their paths
    for path in (PACKAGE / "ops").rglob("*.py"):
        for name in imports(path):
            more = first_values if path.name == "initializers.py" else set()
            assert name.split(".")[0] in allowed | more, f"{path} imports {name}"


def test_the_reader_sees_every_kind_of_import(tmp_path):
    """A test that cannot fail is a defect: imports in functions, relative ones and aliases are found."""
    path = PACKAGE / "ops" / "imaginary.py"
    inside, top = "def f():\n    import jaxcv.models as m\n", "from ..losses import yolo\nfrom . import boxes\n"
    code = inside + top + "from jaxcv import train\n"

    class Source(type(path)):
        def read_text(self, *args, **kwargs):
            return code

    found = set(imports(Source(path)))
    assert found == {"jaxcv.models", "jaxcv.losses.yolo", "jaxcv.ops.boxes", "jaxcv.train"}
