"""Input pipeline against torchvision's: images per second, from JPEG files to augmented float32 batches on the device.

Random resized crop to 224 (8 to 100 % of the area), mirroring, and brightness, contrast and saturation by up to 40 %,
in batches of 64. Ours cuts the crop on the host, by one and by two threads and by two processes (`--workers 2`), out of
class folders and, by two threads, of the same pictures as `hf:` (Parquet), `wds:` (tars) and `arrayrecord:`; and does
the rest in a jitted function, whose time counts but where it says "reading alone". Theirs is
`torchvision.transforms.v2` under a DataLoader, from Pillow and from `decode_image`, with 0, 1 and 2 worker processes
(kept from pass to pass). All have huge pages, torchvision's from glibc, ours as `launch.py` has them. Every contender
is a process of its own; they take turns, all else idle.

Rates are medians over the rounds; "x" is the median over the rounds of the rate by that of torchvision's best with 2
workers, "of folders" of that by ours from folders. CPU ms are what all threads and workers take for a picture, medians
too: they say the same beside other work. GB is the peak of what is resident, pages of files too, of a process and its
workers. Starts are seconds from the end of the imports to the first batch, everything checked as before
a training: with an empty cache, into which scans and what Parquet holds are written, and once more.

    pip install torch torchvision --index-url https://download.pytorch.org/whl/cpu     # what it takes; or without,
    pip install 'jaxcv-research[data]'                                                 # and without those formats
    python benchmarks/data.py [--folder JPEGS] [--count 20000] [--rounds 5] [--quick] [--json FILE]

Two sets: the JPEGs of `cls_folder_hymenoptera` in the folder that JAXCV_DATA names, or those of --folder; and --count
JPEGs of 500 x 375, made under TMPDIR, where five copies of 20,000 take about 5 GB.
"""

import argparse
import importlib
import importlib.util
import io
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BATCH, SIDE = 64, 224
LEAD = 6
"""Batches at the start of each turn that do not count: as many as a contender reads ahead while others are measured."""
PAUSE = 1.5
"""Seconds between turns, in which the last contender finishes reading ahead."""
KINDS = {"folder": "PIL", "hf": "pyarrow", "wds": "PIL", "arrayrecord": "array_record"}
"""How our pictures are stored, and what it takes."""
FOLDER = "folder, 2 readers"
OURS = ("folder, 1 reader", FOLDER, "folder, 2 workers", *(f"{kind}, 2 readers" for kind in list(KINDS)[1:]))
ALONE = tuple(f"{name}, reading alone" for name in OURS[:3])
THEIRS = tuple(f"torchvision, {kind}, {n} workers" for kind in ("Pillow", "tensor") for n in (0, 1, 2))
DISTINCT = 200
"""Pictures made; the files of a larger set repeat their bytes."""
CLASSES = ("class0", "class1")
Encoded = Iterable[bytes]


def photographs(folder: Path) -> list[bytes]:
    """The JPEGs in any folder below one."""
    return [f.read_bytes() for f in sorted(folder.rglob("*")) if f.suffix.lower() in (".jpg", ".jpeg")]


def made(count: int) -> list[bytes]:
    """JPEGs of 500 x 375, smooth colours under fine noise, some 50 kB each."""
    import numpy as np
    from PIL import Image

    found, random = [], np.random.default_rng(0)
    for _ in range(min(count, DISTINCT)):
        smooth = Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).resize((500, 375), 3)
        noisy = np.asarray(smooth) + random.normal(0, 6, (375, 500, 3))
        stream = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=85)
        found.append(stream.getvalue())
    return list(itertools.islice(itertools.cycle(found), count))


def write(kind: str, to: Path, pictures: list[bytes]) -> None:
    """The same pictures, by turns of two classes, the first four for testing too."""
    for split, chosen in (("train", pictures), ("val", pictures[:4])):
        to.mkdir(parents=True, exist_ok=True)
        {"folder": write_folders, "hf": write_parquet, "wds": write_tar, "arrayrecord": write_records}[kind](
            to, split, chosen
        )
    if kind in ("wds", "arrayrecord"):
        (to / "classes.txt").write_text("\n".join(CLASSES) + "\n")


def write_folders(to: Path, split: str, pictures: Encoded) -> None:
    for name in CLASSES:
        (to / split / name).mkdir(parents=True)
    for i, data in enumerate(pictures):
        (to / split / CLASSES[i % 2] / f"{i:06}.jpg").write_bytes(data)


def write_parquet(to: Path, split: str, pictures: Encoded) -> None:
    pa: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    rows = [{"image": {"bytes": data, "path": None}, "label": i % 2} for i, data in enumerate(pictures)]
    features = {"image": {"_type": "Image"}, "label": {"names": CLASSES, "_type": "ClassLabel"}}
    table = pa.Table.from_pylist(rows).replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )
    parquet.write_table(table, to / f"{split}-00000-of-00001.parquet", row_group_size=1000)


def write_tar(to: Path, split: str, pictures: Encoded) -> None:
    with tarfile.open(to / f"{split}-000000.tar", "w") as tar:
        for i, data in enumerate(pictures):
            for ending, content in (("jpg", data), ("cls", str(i % 2).encode())):
                member = tarfile.TarInfo(f"{i:06}.{ending}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def write_records(to: Path, split: str, pictures: Encoded) -> None:
    """Each a serialised tf.train.Example: fields of protocol buffers, of which all here are of bytes."""

    def nested(*path: int, content: bytes) -> bytes:
        for number in reversed(path):
            length, size = len(content), b""
            while length > 127:
                length, size = length >> 7, size + bytes([length & 127 | 128])
            content = bytes([number << 3 | 2]) + size + bytes([length]) + content
        return content

    module: Any = importlib.import_module("array_record.python.array_record_module")
    writer = module.ArrayRecordWriter(str(to / f"set-{split}.array_record-00000-of-00001"), "group_size:1")
    for i, data in enumerate(pictures):
        image = nested(1, content=b"image") + nested(2, 1, 1, content=data)
        label = nested(1, content=b"label") + nested(2, 3, 1, content=bytes([i % 2]))
        writer.write(nested(1, content=nested(1, content=image) + nested(1, content=label)))
    writer.close()


def opened(name: str, folder: Path) -> Any:
    """Our batches for training."""
    from jaxcv.data import classification_data

    kind, readers, *_ = name.split(", ")
    train, _ = classification_data(f"{kind}:{folder / kind}", image_size=SIDE)
    count, what = readers.split()
    how: Any = {"workers": int(count)} if what == "workers" else {"num_threads": int(count)}
    return train.batches(BATCH, seed=0, min_area=0.08, **how)


def ours(name: str, folder: Path) -> Iterator[Any]:
    """Endless batches, each computed when it is requested."""
    from jaxcv import cpu

    cpu.tune()
    import jax
    import jax.numpy as jnp

    from jaxcv import augment

    @jax.jit
    def step(key: jax.Array, image: jax.Array) -> jax.Array:
        return augment.images(key, {"image": image.astype(jnp.float32) / 255}, flip=0.5, color=0.4)["image"]

    for i, batch in enumerate(opened(name, folder)):
        yield batch if name in ALONE else jax.block_until_ready(step(jax.random.key(i), batch["image"]))


def theirs(name: str, folder: Path, batches: int) -> Iterator[Any]:
    """The same by torchvision, by the method `name`."""
    torch: Any = importlib.import_module("torch")
    v2: Any = importlib.import_module("torchvision.transforms.v2")
    image_io: Any = importlib.import_module("torchvision.io")
    from PIL import Image

    _, kind, workers = name.split(", ")
    steps = [v2.RandomResizedCrop(SIDE), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4)]
    scaled = v2.Compose([*steps, v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    files = sorted((folder / "folder/train").rglob("*.jpg"))

    class Pictures(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(files)

        def __getitem__(self, i: int) -> Any:
            if kind == "tensor":
                return scaled(image_io.decode_image(str(files[i]), image_io.ImageReadMode.RGB))
            with Image.open(files[i]) as image:
                return scaled(image.convert("RGB"))

    pictures = Pictures()
    sampler = torch.utils.data.RandomSampler(pictures, num_samples=BATCH * batches)
    count = int(workers[0])
    loader = torch.utils.data.DataLoader(
        pictures, BATCH, sampler=sampler, num_workers=count, persistent_workers=count > 0
    )
    while True:
        yield from loader


def used() -> tuple[float, float]:
    """Of this process and those that it started: seconds of CPU time, and the most GB that were resident in each."""
    ticks, peak, processes = 0, 0, [str(os.getpid())]
    for number in processes:
        process = Path("/proc", number)
        processes += (process / "task" / number / "children").read_text().split()
        ticks += sum(map(int, (process / "stat").read_text().rpartition(")")[2].split()[11:13]))
        lines = (process / "status").read_text().splitlines()
        peak += next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return ticks / os.sysconf("SC_CLK_TCK"), peak / 2**20


def work(name: str, folder: Path, batches: int) -> None:
    """One contender: for each line of input, measures once and writes images per second, CPU ms of each, and GB."""
    feed = theirs(name, folder, batches) if name in THEIRS else ours(name, folder)
    for _ in range(batches):
        next(feed)
    for _ in sys.stdin:
        for _ in range(LEAD):
            next(feed)
        start, (before, _), count = time.perf_counter(), used(), BATCH * batches
        for _ in range(batches):
            next(feed)
        rate, (after, peak) = count / (time.perf_counter() - start), used()
        print(rate, 1000 * (after - before) / count, peak, flush=True)


def start(name: str, folder: Path) -> None:
    """Writes the seconds from the end of the imports to the first batch."""
    import grain  # noqa: F401
    import jax  # noqa: F401

    import jaxcv.data  # noqa: F401

    begun = time.perf_counter()
    batches = opened(name, folder)
    batches.check()
    next(iter(batches))
    print(time.perf_counter() - begun, flush=True)
    os._exit(0)  # readers are at work


def compare(names: list[str], folder: Path, *, rounds: int, batches: int) -> dict[str, dict[str, Any]]:
    """Rates, memory and starts of each contender."""
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths, "JAXCV_CACHE": str(folder / "cache")}
    huge = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    command = [sys.executable, __file__, str(folder), "--batches", str(batches)]
    found: dict[str, dict[str, Any]] = {
        name: {"rates": [], "cpu": [], "gigabytes": 0.0, "starts": []} for name in names
    }
    processes = {}
    for name in names:
        env = {**environment, **(huge if name in THEIRS else {})}
        processes[name] = subprocess.Popen(
            [*command, "--worker", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
    for turn in range(1 + rounds):
        for name, process in processes.items():
            time.sleep(PAUSE)
            process.stdin.write("\n")
            process.stdin.flush()
            rate, milliseconds, found[name]["gigabytes"] = map(float, process.stdout.readline().split())
            if turn > 0:  # in the first turn others may still be starting
                found[name]["rates"].append(rate)
                found[name]["cpu"].append(milliseconds)
    for process in processes.values():
        process.kill()
        process.wait()
    shutil.rmtree(folder / "cache", ignore_errors=True)
    for name in (name for name in names if name in OURS[1:]):
        for _ in range(2):
            done = subprocess.run([*command, "--start", name], env=environment, stdout=subprocess.PIPE, check=True)
            found[name]["starts"].append(float(done.stdout))
    for name, one in found.items():
        one["median"] = statistics.median(one["rates"])
        there = [each for each in names if each in THEIRS and each.endswith("2 workers")]
        best = max(there, key=lambda each: statistics.median(found[each]["rates"]), default=None)
        for against, other in (("x", best), ("of folders", FOLDER if name in OURS else None)):
            if other is not None:
                pairs = zip(one["rates"], found[other]["rates"], strict=True)
                one[against] = statistics.median(a / b for a, b in pairs)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="JPEGs to read instead, of any size, in any folder below it")
    parser.add_argument("--count", type=int, default=20_000, help="JPEGs of 500 x 375 to make; 0: none")
    parser.add_argument("--rounds", type=int, help="runs of each contender; 5, or 2 of --quick")
    parser.add_argument("--batches", type=int, default=20, help="batches of a run")
    parser.add_argument("--quick", action="store_true", help="of torchvision 2 workers alone")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("at", nargs="?", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--start", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker or options.start:
        return start(options.start, options.at) if options.start else work(options.worker, options.at, options.batches)

    from rich.console import Console
    from rich.table import Table

    kinds = [kind for kind, needed in KINDS.items() if importlib.util.find_spec(needed)]
    names = [name for name in (*OURS, *ALONE) if name.split(",")[0] in kinds]
    if importlib.util.find_spec("torchvision"):
        names += [name for name in THEIRS if not options.quick or "2" in name]
    sets: dict[str, Callable[[], list[bytes]]] = {}
    if options.folder or "JAXCV_DATA" in os.environ:
        where = options.folder or Path(os.environ["JAXCV_DATA"], "cls_folder_hymenoptera")
        sets["photographs"] = lambda: photographs(where)
    if options.count:
        sets["made"] = lambda: made(options.count)
    results = {}
    for title, make in sets.items():
        with tempfile.TemporaryDirectory() as folder:
            pictures = make()
            for kind in kinds:
                write(kind, Path(folder, kind), pictures)
            rounds = options.rounds or (2 if options.quick else 5)
            found = results[title] = compare(names, Path(folder), rounds=rounds, batches=options.batches)
        columns = ("images/s", "least", "most", "x", "of folders", "CPU ms", "GB", "first start", "start")
        table = Table("pipeline", *columns, title=f"{title}: {len(pictures):,} JPEGs, {os.cpu_count()} cores")
        for name, one in found.items():
            row = [f"{value:,.0f}" for value in (one["median"], min(one["rates"]), max(one["rates"]))]
            row += [f"{one[key]:.2f}" if key in one else "" for key in ("x", "of folders")]
            row += [f"{statistics.median(one['cpu']):.2f}", f"{one['gigabytes']:.2f}"]
            table.add_row(name, *row, *(f"{seconds:.1f} s" for seconds in one["starts"]))
        Console(width=140).print(table)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
