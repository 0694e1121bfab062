"""The ten most similar of a million embeddings for 32 queries: `predict.search` and scikit-learn's brute force.

In alternating runs, each the best of several searches in a process of its own, which says its largest memory too; and
how often they find the same. faiss-cpu's flat index is measured where it is installed.

    python benchmarks/gallery.py [--count 1000000] [--rounds 3] [--json FILE]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

DIMENSIONS, QUERIES, BEST, REPEATS = 128, 32, 10, 5


def embeddings(count: int, seed: int) -> np.ndarray:
    """Random directions, float32."""
    vectors = np.random.default_rng(seed).standard_normal((count, DIMENSIONS), np.float32)
    for start in range(0, count, 1 << 16):  # not twice in memory
        part = vectors[start : start + (1 << 16)]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return vectors


def jaxcv(gallery: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Ours."""
    import jax.numpy as jnp

    from jaxcv.predict import search

    there = jnp.asarray(gallery)
    return lambda queries: np.asarray(search(jnp.asarray(queries), there, k=BEST)[1])


def scikit_learn(gallery: np.ndarray) -> Callable[[np.ndarray], Any]:
    """Euclidean distances, which order vectors of length one as cosines do."""
    from sklearn.neighbors import NearestNeighbors

    neighbors = NearestNeighbors(n_neighbors=BEST, algorithm="brute").fit(gallery)
    return lambda queries: neighbors.kneighbors(queries, return_distance=False)


def faiss(gallery: np.ndarray) -> Callable[[np.ndarray], Any]:
    """The flat index of inner products."""
    import faiss as library  # pyright: ignore[reportMissingImports]

    index = library.IndexFlatIP(DIMENSIONS)
    index.add(gallery)  # pyright: ignore[reportCallIssue]
    return lambda queries: index.search(queries, BEST)[1]  # pyright: ignore[reportCallIssue]


CANDIDATES = {"jaxcv": jaxcv, "scikit-learn": scikit_learn, "faiss": faiss}


def measure(name: str, count: int) -> dict[str, Any]:
    """Seconds of the fastest search, the largest memory of this process, and what was found."""
    find, queries = CANDIDATES[name](embeddings(count, 0)), embeddings(QUERIES, 1)
    rows, times = find(queries), []
    for _ in range(REPEATS):
        began = time.perf_counter()
        find(queries)
        times.append(time.perf_counter() - began)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"seconds": min(times), "GiB": memory, "rows": np.sort(rows, 1).tolist()}


def main() -> None:
    """Measure all that is installed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=list(CANDIDATES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.count)))
        return
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(options.rounds):
        for name in CANDIDATES:
            words = [sys.executable, __file__, "--one", name, "--count", str(options.count)]
            done = subprocess.run(words, capture_output=True, text=True)
            if done.returncode == 0:
                found.setdefault(name, []).append(json.loads(done.stdout.splitlines()[-1]))
            elif "ModuleNotFoundError" not in done.stderr:
                sys.exit(done.stderr)
    reference = found["scikit-learn"][0]["rows"]
    summary = {}
    for name, rounds in found.items():
        agreement = np.mean(np.array(rounds[0]["rows"]) == np.array(reference))
        seconds = sorted(each["seconds"] for each in rounds)
        summary[name] = {"seconds": seconds, "GiB": max(each["GiB"] for each in rounds), "agreement": agreement}
        middle, most = seconds[len(seconds) // 2], summary[name]["GiB"]
        print(f"{name:14} {middle:.3f} s (median of {len(seconds)}), {most:.2f} GiB, {agreement:.0%} as scikit-learn")
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
