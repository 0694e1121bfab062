"""A trained network that compares pictures, used: people enrolled, two pictures compared, somebody recognised.

Of a run of `experiments/triplet.py` and its like: `--enroll FOLDER` keeps a gallery in the run's folder, with a
threshold that accepts a chosen fraction of the pairs of two test identities; `--recognize` asks it; `--verify` takes
its threshold, or chooses one likewise.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxcv import predict
from jaxcv.cli.face_space import Space, distance, fit_space
from jaxcv.cli.inference import load_run
from jaxcv.cli.picture_files import SUFFIXES
from jaxcv.errors import UserError
from jaxcv.metrics.pair_scores import compare, scored_pairs
from jaxcv.train import program, resolve
from jaxcv.train.console import Reporter
from jaxcv.train.experiment import ExperimentFunction
from jaxcv.types import Embeddings, ResidentBatches, Similarities, Table
from jaxcv.weights import Gallery, load_gallery, save_gallery

_BATCH = 32
_BEST = 5
"""Of those who are enrolled, shown."""
GALLERY = "gallery.safetensors"


@dataclass(frozen=True)
class Comparer:
    """A run that is asked about pictures."""

    setup: Any
    shared: Any
    hyperparameters: Any
    variables: Any
    folder: Path
    reporter: Reporter

    @classmethod
    def open(
        cls,
        experiment: ExperimentFunction,
        overrides: Mapping[str, Any],
        folder: Path,
        reporter: Reporter,
        *,
        best: bool,
    ) -> "Comparer":
        """The run of a folder. Raises UserError: there is none."""
        values = resolve(experiment, overrides)
        state = load_run(experiment, values, folder, best=best, reporter=reporter)
        shared = program(experiment, values)
        hyperparameters = shared.hyperparameters(values)
        return cls(experiment(**values), shared, hyperparameters, state.evaluation_variables, folder, reporter)

    def predictions(self, images: np.ndarray) -> Embeddings | Similarities:
        """Of one batch of pictures, uint8 `[b, h, w, c]`. Raises UserError: the experiment compares no pictures."""
        if self.setup.inputs != ("image",):
            raise UserError(f"this experiment is fed {', '.join(self.setup.inputs)}: it cannot be asked about pictures")
        infer = self.shared.compile("infer", self.hyperparameters, self.variables, images)
        found = jax.device_get(infer(self.hyperparameters, self.variables, images))
        if not isinstance(found, Embeddings | Similarities):
            raise UserError(f"this experiment predicts {type(found).__name__}: it compares no pictures")
        return found

    def embed(self, images: np.ndarray) -> np.ndarray:
        """Embeddings `[n, d]` of any number of pictures."""
        vectors = []
        for start in range(0, len(images), _BATCH):
            part = images[start : start + _BATCH]
            found = self.predictions(np.pad(part, [(0, _BATCH - len(part))] + [(0, 0)] * 3))
            if isinstance(found, Similarities):
                raise UserError("a network that compares two pictures at a time makes no gallery: train triplet.py")
            vectors.append(found.vectors[: len(part)])
        return np.concatenate(vectors)

    def threshold(self, false_accept_rate: float) -> float:
        """The score at which this fraction of the pairs of two test identities is accepted."""
        found, data = [], self.setup.test_data
        for number in range(len(data)):
            batch = data.batch(number)
            real = batch["example_valid"]
            predictions = jax.tree.map(lambda x, real=real: x[real], self.predictions(batch["image"]))
            found.append(compare(predictions, {"label": batch["label"][real]}))
        pairs = scored_pairs(found)
        if pairs.same.all():
            raise UserError("the test data hold one identity: there is no pair of two to choose a threshold by")
        return float(predict.threshold_at(pairs.score, pairs.same, false_accept_rate=false_accept_rate))

    def read(self, files: Sequence[Path]) -> np.ndarray:
        """Pictures as the network is fed them. Raises UserError: a file that is none, or is unlike the training set."""
        space, images = self.space(), []
        for file in files:
            image, _ = self.setup.test_data.read_image(file)
            if space is not None and (far := distance(space, image)) > space.limit:
                much = f"{far / space.limit:.1f} times as far from them as is allowed" if np.isfinite(far) else "blank"
                raise UserError(
                    f"{file}: no face, or nothing like the pictures trained on, is in it ({much}); crop it first"
                )
            images.append(image)
        return np.stack(images)

    def space(self) -> Space | None:
        """Of the pictures that the network was trained on; None where they are not held in memory."""
        both = self.setup.train_data, self.setup.test_data
        if not all(isinstance(data, ResidentBatches) and data.resident_bytes() is not None for data in both):
            return None
        return fit_space(*(np.asarray(data.resident()["image"]) for data in both))


def run(
    experiment: ExperimentFunction, overrides: Mapping[str, Any], folder: Path, options: Any, reporter: Reporter
) -> None:
    """Do what the flags `enroll`, `verify` and `recognize` ask for, in this order.

    Raises:
        UserError: the rate is no fraction, there is no run, or a picture cannot be used.
    """
    rate = options.false_accepts
    if not 0 <= rate < 1:
        raise UserError(f"--false-accepts {rate:g}: expected a fraction from 0 to below 1")
    comparer = Comparer.open(experiment, overrides, folder, reporter, best=options.best)
    if options.enroll:
        enroll(comparer, options.enroll, false_accept_rate=rate)
    if options.verify:
        verify(comparer, *options.verify, false_accept_rate=rate)
    if options.recognize:
        recognize(comparer, options.recognize)


def enroll(comparer: Comparer, folder: Path, *, false_accept_rate: float) -> Path:
    """Keep the embeddings of a folder's pictures: one folder a person, or one picture, named after them.

    Args:
        comparer: the run.
        folder: of pictures.
        false_accept_rate: of the pairs of two test identities, which chooses the threshold.

    Returns:
        The gallery's file.

    Raises:
        UserError: no picture is there, or one cannot be used.
    """
    names, files = zip(*_people(folder), strict=True)
    with comparer.reporter.counting("enrolling") as count:
        vectors = comparer.embed(comparer.read(files))
        count(len(files), len(files))
    threshold = comparer.threshold(false_accept_rate)
    path = comparer.folder / GALLERY
    save_gallery(path, Gallery(vectors, names, threshold))
    who = f"{len(files):,} pictures of {len(set(names)):,} people"
    rate = f"{false_accept_rate:g} of the pairs of two test identities"
    comparer.reporter.say(f"{path}: {who}; recognised from cosine {threshold:.3f} on, which {rate} reach")
    return path


def _people(folder: Path) -> Iterator[tuple[str, Path]]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; --enroll needs one with a picture, or a folder, for each person")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise UserError(f"{folder}: no picture in this folder ({', '.join(SUFFIXES)})")
    for file in files:
        inside = file.relative_to(folder).parts[:-1]
        yield (inside[0] if inside else file.stem), file


def verify(comparer: Comparer, first: Path, second: Path, *, false_accept_rate: float) -> bool:
    """Say whether two pictures show the same; the threshold is the gallery's, or chosen likewise.

    Raises:
        UserError: a picture cannot be used.
    """
    predictions = comparer.predictions(comparer.read([first, second]))
    score = scored_pairs([compare(predictions, {"label": np.arange(2)})]).score[0]
    known = comparer.folder / GALLERY
    threshold = load_gallery(known).threshold if known.exists() else comparer.threshold(false_accept_rate)
    same = bool(score >= threshold)
    verdict = "the same" if same else "not the same"
    comparer.reporter.say(f"{first} and {second}: {verdict}; {score:.3f}, accepted from {threshold:.3f} on")
    return same


def recognize(comparer: Comparer, picture: Path) -> str:
    """Say who of the gallery is in a picture; empty for nobody.

    Raises:
        UserError: nobody is enrolled, or the picture cannot be used.
    """
    path = comparer.folder / GALLERY
    if not path.exists():
        raise UserError(f"{path}: nobody is enrolled yet; --enroll FOLDER")
    gallery = load_gallery(path)
    vector = comparer.embed(comparer.read([picture]))
    if vector.shape[1] != gallery.vectors.shape[1]:
        raise UserError(f"{path}: embeddings of {gallery.vectors.shape[1]} numbers, this run makes {vector.shape[1]}")
    row, cosine = predict.recognize(vector[0], gallery.vectors, gallery.threshold)
    who = gallery.names[int(row)] if row >= 0 else ""
    scores, rows = predict.search(vector, gallery.vectors, k=min(_BEST, len(gallery.names)))
    verdict = who or f"nobody who is enrolled: {float(cosine):.3f}, accepted from {gallery.threshold:.3f} on"
    best = [(gallery.names[i], float(score)) for i, score in zip(rows[0].tolist(), scores[0].tolist(), strict=True)]
    comparer.reporter.show(Table("", f"{picture}: {verdict}", ("most similar", "cosine"), best))
    return who
