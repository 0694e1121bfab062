"""How long large sets take to open: COCO of 118,000 images and 860,000 boxes, class folders of 200,000 files.

Each is made under TMPDIR, its files links to one picture, and opened twice by a process of its own: with an empty
cache, when everything is read and what was found is kept; and once more. Seconds and CPU seconds are from the end of
the imports until both splits know their length and classes, GB is the peak of what is resident.

    python benchmarks/scans.py [--fraction 0.1] [--json FILE]

2 AMD EPYC cores (Zen 5), Python 3.11, jax 0.10.2, one run, nothing beside it: COCO 16.9 s, then 1.6 s; folders 3.1 s,
then 0.6 s; CPU seconds the same. None had more than 1.40 GB.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
MOST_LINKS = 50_000
"""To one file; ext4 allows 65,000."""
TASKS = {"coco": "detection", "folder": "classification"}
CLASSES = 80


def pictures(names: list[Path]) -> None:
    """Files of these names, all of them one picture of 64 x 48."""
    from PIL import Image

    for i, name in enumerate(names):
        if i % MOST_LINKS == 0:
            Image.new("RGB", (64, 48), (i % 255, 90, 40)).save(name)
            first = name
        else:
            os.link(first, name)


def make_coco(to: Path, images: int, boxes: int) -> None:
    """COCO's folders, a 24th of everything for validation as there."""
    (to / "annotations").mkdir(parents=True)
    rng, classes = random.Random(0), [{"id": i + 1, "name": f"class{i}"} for i in range(CLASSES)]
    for split, part in (("train2017", 1.0), ("val2017", 1 / 24)):
        count = int(images * part)
        listed = [{"id": i, "file_name": f"{i:012}.jpg", "width": 64, "height": 48} for i in range(count)]
        annotations = []
        for i in range(int(boxes * part)):
            x, y, w, h = rng.uniform(0, 40), rng.uniform(0, 30), rng.uniform(2, 20), rng.uniform(2, 15)
            outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            known = {"id": i, "image_id": rng.randrange(count), "category_id": 1 + i % CLASSES, "iscrowd": 0}
            annotations.append({**known, "bbox": [x, y, w, h], "area": w * h, "segmentation": outline})
        (to / split).mkdir()
        pictures([to / split / each["file_name"] for each in listed])
        found = {"images": listed, "annotations": annotations, "categories": classes}
        (to / f"annotations/instances_{split}.json").write_text(json.dumps(found))


def make_folders(to: Path, files: int) -> None:
    """200 files a class, a 26th of them for testing as in ImageNet."""
    classes = files // 200
    for split, count in (("train", files - files // 26), ("val", files // 26)):
        folders = [to / split / f"class{i:04}" for i in range(classes)]
        for folder in folders:
            folder.mkdir(parents=True)
        pictures([folders[i % classes] / f"{i:08}.jpg" for i in range(count)])


def open_once(kind: str, folder: Path) -> None:
    """Opens a set and prints seconds, CPU seconds and GB."""
    import jaxcv.data

    begun, before = time.perf_counter(), time.process_time()
    splits = getattr(jaxcv.data, f"{TASKS[kind]}_data")(f"{kind}:{folder / kind}", image_size=64)
    counts = [(len(split), split.num_classes) for split in splits]
    seconds, cpu = time.perf_counter() - begun, time.process_time() - before
    lines = Path("/proc/self/status").read_text().splitlines()  # ru_maxrss has the memory of the parent process in it
    peak = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20
    print(json.dumps({"seconds": seconds, "cpu": cpu, "gigabytes": peak, "counts": counts}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fraction", type=float, default=1.0, help="of the sizes above")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("at", nargs="?", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--open", choices=TASKS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.open:
        return open_once(options.open, options.at)
    results, f = {}, options.fraction
    for kind in TASKS:
        folder = Path(tempfile.mkdtemp())
        if kind == "coco":
            make_coco(folder / kind, int(118_000 * f), int(860_000 * f))
        else:
            make_folders(folder / kind, int(200_000 * f))
        time.sleep(3)  # nothing is kept of a set that was changed within the last two seconds
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": paths, "JAXCV_CACHE": str(folder / "cache")}
        command = [sys.executable, __file__, str(folder), "--open", kind]
        for how in ("first", "kept"):
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
            found = results[f"{kind}, {how}"] = json.loads(done.stdout)
            line = f"{found['seconds']:.1f} s, {found['cpu']:.1f} CPU s, {found['gigabytes']:.2f} GB"
            print(f"{kind}, {how}: {line}, examples and classes {found['counts']}", flush=True)
        shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
