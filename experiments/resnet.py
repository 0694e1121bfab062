"""Residual networks on any set of labelled pictures.

Claim: resnet20 reaches a test accuracy of 0.674 on 4,300 pictures of CIFAR-10 (350 a class to train on, 80 to test;
n=1, seed 0; 26 minutes), on 2 AMD EPYC (Zen 3) cores beside much other work, jax 0.10.2, flax 0.12.8,
by the second command; lenet.py with 2,000 steps, 0.475.

Paper: He, Zhang, Ren, Sun, https://arxiv.org/abs/1512.03385, section 4.2 for the small ones (with a shorter schedule,
label smoothing, and affine augmentation in place of padding and cropping).

    python launch.py experiments/resnet.py
    python launch.py experiments/resnet.py data=folder:PATH
    python launch.py experiments/resnet.py data=folder:PATH network=resnet50 image_size=224 weights=resnet50.pth lr=0.01
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import Resize, Sampling, classification_data
from jaxcv.train import Experiment, kernels, optimizers
from jaxcv.weights import pretrained


def experiment(
    *,
    data: str = "digits",
    network: str = "resnet20",
    weights: str = "",
    trainable: str = ".*",
    image_size: int = 32,
    resize: Resize | None = None,
    min_area: float | None = None,
    max_ratio: float = 4 / 3,
    num_threads: int | None = None,
    sampling: Sampling = "uniform",
    rare: float = 0.001,
    lr: float = 0.1,
    weight_decay: float = 5e-4,
    label_smoothing: float = 0.1,
    flip: float = 0.5,
    shift: float = 0.1,
    scale: float = 0.1,
    color: float = 0.1,
    randaugment: float | None = None,
    blur: float | None = None,
    gray: float | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 64,
    steps: int = 1_000,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits" (embedded), "folder:PATH" (class folders) or "mnist:PATH" (IDX files).
        network: resnet20 to resnet110 are the paper's for 32x32 pictures, the others those for ImageNet.
        weights: file, or name of published weights, to start from; empty: from scratch.
        trainable: pattern over parameter paths, such as "head" or "stage4|head"; the rest is frozen.
        image_size: side of the pictures the network is fed.
        resize: how pictures become square, "shortest" (their middle), "letterbox" or "squash"; None: as suits the set.
        min_area: of class folders and records, show a random window while training, cut out of the file, of at least
            this fraction of its area (0.08 in many papers); None: the whole picture.
        max_ratio: largest width by height, or height by width, of these windows.
        num_threads: threads that read pictures; None is one for each core.
        sampling: how often pictures are shown, "uniform", "balanced" (all classes equally often) or "repeat_factor".
        rare: of repeat_factor, the fraction of the pictures up to which a class is rare and shown more often.
        lr: peak learning rate of SGD with Nesterov momentum 0.9, after a linear warm-up; falls to 0 along a cosine.
        weight_decay: of convolutions and the head, not of biases and normalisation.
        label_smoothing: probability mass moved from the true class to all classes.
        flip: probability of mirroring left and right, where the set allows it.
        shift: largest translation, as a fraction of the side.
        scale: largest change of size.
        color: largest change of brightness, contrast and saturation.
        randaugment: magnitude of two operations of RandAugment, 0 to 30 (9 in the paper); None costs nothing.
        blur: probability of blurring; None costs nothing.
        gray: probability of taking the colours out; None costs nothing.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        batch_size: examples a step.
        steps: updates of the parameters.
        seed: of parameters, order of the data and augmentation.
    """
    train, test = classification_data(data, image_size=image_size, resize=resize)
    model = models.named(network, models.names(models.ResNet))(num_classes=train.num_classes)
    augmented = partial(augment.images, flip=flip if train.mirrors else 0.0, shift=shift, scale=scale, color=color)
    return Experiment(
        model=model,
        initial=pretrained(weights, model, new_head=True) if weights else None,
        trainable=trainable,
        loss=partial(losses.cross_entropy, label_smoothing=label_smoothing),
        optimizer=optimizers.sgd(lr, steps=steps, warmup=0.1, weight_decay=weight_decay, mask=kernels),
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
        augment=partial(augmented, randaugment=randaugment, blur=blur, gray=gray),
        predict=predict.classes,
        metrics={"accuracy": metrics.accuracy(), "top5": metrics.top_k_accuracy(5)},
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
