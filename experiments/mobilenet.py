"""MobileNets on any set of labelled pictures, and as they were trained on ImageNet.

Claim: mobilenet_v1 of half width reaches a test accuracy of 0.334 on 4,300 pictures of CIFAR-10 (350 a class to train
on, 80 to test; n=1, seed 0; 5 minutes), on 2 AMD EPYC (Zen 3) cores beside other work, jax 0.10.2, flax 0.12.8,
by the second command: 500 steps are few for it. With published weights (alpha 1 with folded batch norm, and 0.25) the
third command gives the published answers, probabilities within 0.0005.

Paper: Howard et al., https://arxiv.org/abs/1704.04861 (mobilenet_v1); Sandler et al., https://arxiv.org/abs/1801.04381
(mobilenet_v2).

    python launch.py experiments/mobilenet.py
    python launch.py experiments/mobilenet.py data=folder:PATH
    python launch.py experiments/mobilenet.py weights=FILE --predict PHOTO      # ImageNet's names, without training
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import Resize, Sampling, classification_data
from jaxcv.train import Experiment, kernels, optimizers
from jaxcv.weights import network as network_of
from jaxcv.weights import pretrained


def experiment(
    *,
    data: str = "",
    network: str = "mobilenet_v1",
    width: int = 50,
    weights: str = "",
    trainable: str = ".*",
    image_size: int | None = None,
    resize: Resize | None = None,
    min_area: float | None = None,
    max_ratio: float = 4 / 3,
    num_threads: int | None = None,
    sampling: Sampling = "uniform",
    rare: float = 0.001,
    lr: float = 2e-3,
    weight_decay: float = 0.05,
    label_smoothing: float = 0.1,
    flip: float = 0.5,
    shift: float = 0.1,
    scale: float = 0.1,
    color: float = 0.1,
    randaugment: float | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 64,
    steps: int = 500,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits" (embedded), "folder:PATH" (class folders), "mnist:PATH" (IDX files), or "imagenet" (names of its
            classes, to predict with); empty: "imagenet" where there are weights, else "digits".
        network: the first version, or the second with inverted residuals.
        width: channels in percent of the paper's full network; where there are weights, theirs are taken.
        weights: file, or name of published weights, to start from; empty: from scratch.
        trainable: pattern over parameter paths, such as "head" or "block1.|last|head"; the rest is frozen.
        image_size: side of the pictures the network is fed; None: 224 where there are weights, else 64.
        resize: how pictures become square, "shortest" (their middle), "letterbox" or "squash"; None: as suits the set.
        min_area: of class folders and records, show a random window while training, cut out of the file, of at least
            this fraction of its area (0.08 in many papers); None: the whole picture.
        max_ratio: largest width by height, or height by width, of these windows.
        num_threads: threads that read pictures; None is one for each core.
        sampling: how often pictures are shown, "uniform", "balanced" (all classes equally often) or "repeat_factor".
        rare: of repeat_factor, the fraction of the pictures up to which a class is rare and shown more often.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        weight_decay: AdamW's, of convolutions and dense layers, not of biases and normalisation.
        label_smoothing: probability mass moved from the true class to all classes.
        flip: probability of mirroring left and right, where the set allows it.
        shift: largest translation, as a fraction of the side.
        scale: largest change of size.
        color: largest change of brightness, contrast and saturation.
        randaugment: magnitude of two operations of RandAugment, 0 to 30 (9 in the paper); None costs nothing.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        batch_size: examples a step.
        steps: updates of the parameters.
        seed: of parameters, order of the data and augmentation.
    """
    if image_size is None:
        image_size = 224 if weights else 64
    train, test = classification_data(
        data or ("imagenet" if weights else "digits"), image_size=image_size, resize=resize
    )
    known, k = models.names(models.MobileNetV1, models.MobileNetV2), train.num_classes
    if weights:
        model = network_of(network, weights, known=known, num_classes=k)
    else:
        model = models.named(network, known)(num_classes=k, width=width / 100)
    augmented = partial(augment.images, flip=flip if train.mirrors else 0.0, shift=shift, scale=scale, color=color)
    return Experiment(
        model=model,
        initial=pretrained(weights, model, new_head=True) if weights else None,
        trainable=trainable,
        loss=partial(losses.cross_entropy, label_smoothing=label_smoothing),
        optimizer=optimizers.adamw(lr, steps=steps, warmup=0.1, weight_decay=weight_decay, mask=kernels, clip=1.0),
        train_data=train.batches(
            batch_size,
            seed=seed,
            min_area=min_area,
            max_ratio=max_ratio,
            num_threads=num_threads,
            sampling=sampling,
            rare=rare,
        ),
        test_data=test.batches(128),
        augment=partial(augmented, randaugment=randaugment),
        predict=predict.classes,
        metrics={"accuracy": metrics.accuracy(), "top5": metrics.top_k_accuracy(5)},
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
