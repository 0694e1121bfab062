"""Sliding windows made convolutional: a classifier of windows scans photographs in one pass for each scale.

Claim: of 40 held crops (every fifth of scikit-image's 200) and 1,000 squares of photographs that training did not see,
faces are found with precision 0.952 and 1.000 and recall 1.000 (seeds 1 and 2; 4,000 steps, 2 AMD EPYC (Zen 5) cores
beside other work, jax 0.10.2, flax 0.12.8), with data=npy:lfw_subset.npy and as photographs the training pictures of
`hymenoptera` and those 65 of coco128 that show no person. The scan of the 512 x 512 astronaut (seed 1) finds her face
and nothing else. On the embedded digits all 1,000 windows are right (seed 0).

Paper: Sermanet et al., OverFeat, https://arxiv.org/abs/1312.6229, section 3.5, with non-maximum suppression.

    python launch.py experiments/sliding_window.py
    python launch.py experiments/sliding_window.py data=npy:lfw_subset.npy "photographs=('DIR','list.txt')"
    python launch.py experiments/sliding_window.py data=npy:lfw_subset.npy --predict photograph.jpg
"""

from functools import partial
from typing import Any, Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import window_data
from jaxcv.train import Experiment, optimizers


def experiment(
    *,
    data: str = "digits",
    photographs: tuple[str, ...] = (),
    squares: int = 200_000,
    window: int = 25,
    width: int = 16,
    stride: int = 4,
    smallest: int = 25,
    ratio: int = 20,
    score: float = 0.95,
    neighbors: float = 3.0,
    overlap: float = 0.2,
    hard: float = 3.0,
    lr: float = 3e-3,
    weight_decay: float = 1e-2,
    dropout: float = 0.3,
    flip: float = 0.5,
    shift: float = 0.06,
    scale: float = 0.15,
    rotate: float = 12.0,
    elastic: float = 0.3,
    color: float = 0.5,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 256,
    steps: int = 4_000,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits" (windows of embedded scenes) or "npy:PATH" (pictures with and without the object, such as
            scikit-image's lfw_subset.npy: faces).
        photographs: of npy, folders and lists of pictures that show no object, every fifth for testing; none:
            scikit-learn's two.
        squares: of npy, how many squares of photographs there are to train on, as windows without object.
        window: side of a window in pixels.
        width: channels of the first two convolutions; the next two have twice as many.
        stride: between neighbouring windows of a scanned picture, in pixels of the scaled picture.
        smallest: height in pixels of the smallest window looked at; below `window` pictures are enlarged.
        ratio: of the sizes of neighbouring scales, in percent above 100.
        score: probability above which a window counts as found.
        neighbors: how many others must overlap a window that is found by half or more.
        overlap: IoU above which the less probable of two windows is dropped.
        hard: windows without object that count for every one with it: the hardest of the batch.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        weight_decay: AdamW's, decoupled.
        dropout: of the fully connected layers.
        flip: probability of mirroring while training; 0 for sets whose mirror images are something else (digits).
        shift: largest translation while training, as a fraction of the side.
        scale: largest relative zoom while training.
        rotate: largest rotation while training, either way, in degrees.
        elastic: how near to folding a window is bent while training, in [0, 1).
        color: largest relative change of brightness and contrast while training.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        batch_size: examples a step.
        steps: updates of the parameters.
        seed: of parameters, order of the data and augmentation.
    """
    train, test = window_data(data, image_size=window, photographs=photographs, squares=squares)
    classifier = models.VGG(
        stage_sizes=(2, 2),
        stage_channels=(width, 2 * width),
        norm=True,
        padding="valid",
        num_classes=train.num_classes,
        fc_width=64,
        fc_map_size=3,
        dropout=dropout,
        mean=(0.5,),
        std=(0.25,),
    )
    moves = {"shift": shift, "scale": scale, "rotate": rotate, "elastic": elastic}
    return Experiment(
        model=models.WindowScanner(
            classifier, (window, window), strides=(stride, stride), smallest=smallest, ratio=1 + ratio / 100
        ),
        loss=partial(losses.hard_negative_cross_entropy, ratio=hard),
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay),
        train_data=train.batches(batch_size, seed=seed),
        test_data=test.batches(200),
        augment=partial(augment.images, flip=flip if train.mirrors else 0.0, color=color, **moves),
        predict=partial(found, score=score, neighbors=neighbors, overlap=overlap),
        metrics={"accuracy": metrics.accuracy()},
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )


def found(outputs: Any, *, score: Any, neighbors: Any, overlap: Any) -> Any:
    """The class of windows, or what stands where in whole pictures."""
    if isinstance(outputs, tuple):
        return predict.sliding_windows(outputs, score_threshold=score, min_neighbors=neighbors, iou_threshold=overlap)
    return predict.classes(outputs)
