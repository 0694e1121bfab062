"""Input pipeline against torchvision's: images per second, from JPEG files to augmented float32 batches on the device.

Random resized crop to 224 (8 to 100 % of the area), mirroring, and brightness, contrast and saturation by up to 40 %,
in batches of 64. Ours cuts the crop on the host and does the rest in a jitted function, whose time counts; theirs is
`torchvision.transforms.v2` under a DataLoader, from Pillow and from `decode_image`, with 0, 1 and 2 worker processes
(kept from pass to pass). All have huge pages, torchvision's from glibc, ours as `launch.py` has them. Every contender
is a process of its own; they take turns, round after round, all else idle.
Figures are medians over the rounds; x is over torchvision's best.

    pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu     # what it takes
    python benchmarks/data.py [--folder JPEGS] [--rounds 5] [--quick] [--json FILE]

Without --folder, the photographs of 300 to 640 pixels in `cls_folder_hymenoptera` and `det_yolo_coco128_train2017` of
the folder that JAXCV_DATA names.
"""

import argparse
import importlib
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BATCH, SIDE, BATCHES = 64, 224, 20
LEAD = 6
"""Batches at the start of each turn that do not count: as many as a contender reads ahead while others are measured."""
PAUSE = 1.5
"""Seconds between turns, in which the last contender finishes reading ahead."""
OURS = ("jaxcv", "jaxcv, kept in memory")
THEIRS = tuple(f"torchvision, {kind}, {n} workers" for kind in ("Pillow", "tensor") for n in (0, 1, 2))


def collect(folder: Path | None, to: Path) -> int:
    """Copy the JPEGs into two class folders, for training and for testing; returns how many train."""
    from PIL import Image

    names = ("cls_folder_hymenoptera", "det_yolo_coco128_train2017/images")
    sources = [folder] if folder else [Path(os.environ["JAXCV_DATA"], name) for name in names]
    files = [f for source in sources for f in sorted(source.rglob("*")) if f.suffix.lower() in (".jpg", ".jpeg")]
    sizes = {}
    for file in files:
        with Image.open(file) as image:
            sizes[file] = image.size
    files = [file for file in files if folder or 300 <= max(sizes[file]) <= 640]
    for i, file in enumerate(files):
        for part in ("train", "val")[: 2 if i < 4 else 1]:
            folder_of_class = to / part / f"class{i % 2}"
            folder_of_class.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder_of_class / f"{i:05}.jpg")
    return len(files)


def ours(name: str, folder: Path) -> Iterator[Any]:
    """Endless batches, each computed when it is requested."""
    from jaxcv import cpu

    cpu.tune()
    import jax
    import jax.numpy as jnp

    from jaxcv import augment
    from jaxcv.data import classification_data

    train, _ = classification_data(f"folder:{folder}", image_size=SIDE)
    kept = name == OURS[1]
    if kept:
        train.source.read(jnp.arange(len(train)).__array__())

    @jax.jit
    def step(key: jax.Array, image: jax.Array) -> jax.Array:
        batch = {"image": image.astype(jnp.float32) / 255}
        if not kept:
            return augment.images(key, batch, flip=0.5, color=0.4)["image"]
        first, second = jax.random.split(key)
        batch = augment.colors(second, batch, brightness=0.4, contrast=0.4, saturation=0.4)
        return augment.warp(first, batch, flip=0.5, min_area=0.08, max_ratio=4 / 3)["image"]

    for i, batch in enumerate(train.batches(BATCH, seed=0, min_area=None if kept else 0.08)):
        yield step(jax.random.key(i), batch["image"])


def theirs(name: str, folder: Path) -> Iterator[Any]:
    """The same by torchvision, by the method `name`."""
    torch: Any = importlib.import_module("torch")
    v2: Any = importlib.import_module("torchvision.transforms.v2")
    io: Any = importlib.import_module("torchvision.io")
    from PIL import Image

    _, kind, workers = name.split(", ")
    steps = [v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)]
    scaled = v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    files = sorted((folder / "train").rglob("*.jpg"))

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, i: int) -> Any:
            if kind == "tensor":
                return scaled(io.decode_image(str(files[i]), io.ImageReadMode.RGB))
            with Image.open(files[i]) as image:
                return scaled(image.convert("RGB"))

    pictures = Pictures()
    sampler = torch.utils.data.RandomSampler(pictures, num_samples=BATCH * BATCHES)
    count = int(workers[0])
    loader = torch.utils.data.DataLoader(
        pictures, BATCH, sampler=sampler, num_workers=count, persistent_workers=count > 0
    )
    while True:
        yield from loader


def work(name: str, folder: Path) -> None:
    """One contender: for each line of input, measures once and writes images per second."""
    wait: Callable[[Any], Any] = lambda batch: batch  # noqa: E731
    if name in OURS:
        import jax

        wait = jax.block_until_ready
    batches = (ours if name in OURS else theirs)(name, folder)
    for _ in range(BATCHES):
        wait(next(batches))
    for _ in sys.stdin:
        for _ in range(LEAD):
            wait(next(batches))
        start = time.perf_counter()
        for _ in range(BATCHES):
            wait(next(batches))
        print(BATCH * BATCHES / (time.perf_counter() - start), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="JPEGs to read instead, of any size, in any folder below it")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each contender")
    parser.add_argument("--quick", action="store_true", help="two rounds, torchvision with 2 workers alone")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.worker[0], Path(options.worker[1]))
    if importlib.util.find_spec("torchvision") is None:
        sys.exit("pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu")
    if options.folder is None and "JAXCV_DATA" not in os.environ:
        sys.exit("--folder JPEGS, or the environment variable JAXCV_DATA")

    from rich.console import Console
    from rich.table import Table

    names = [*OURS, *(name for name in THEIRS if not options.quick or "2" in name)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    huge = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    rates: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        count = collect(options.folder, Path(folder))
        processes = {}
        for name in names:
            command = [sys.executable, __file__, "--worker", name, folder]
            env = {**environment, **({} if name in OURS else huge)}
            processes[name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
            )
        for turn in range(1 + (2 if options.quick else options.rounds)):
            for name, process in processes.items():
                time.sleep(PAUSE)
                process.stdin.write("\n")
                process.stdin.flush()
                rate = float(process.stdout.readline())
                rates[name] += [rate] * (turn > 0)  # in the first turn others may still be starting
        for process in processes.values():
            process.stdin.close()
            process.wait()

    found = {name: statistics.median(each) for name, each in rates.items()}
    best = max(found[name] for name in names if name in THEIRS)
    table = Table("pipeline", "images/s", "least", "most", "x", title=f"{count} JPEGs, {os.cpu_count()} cores")
    for name in names:
        row = (found[name], min(rates[name]), max(rates[name]))
        table.add_row(name, *(f"{value:,.0f}" for value in row), f"{found[name] / best:.2f}")
    Console(width=100).print(table)
    if options.json:
        results = {name: {"rates": rates[name], "median": found[name], "ratio": found[name] / best} for name in names}
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
