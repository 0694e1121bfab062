"""YOLO v2: five anchor boxes in each cell of one grid, finer features passed through, training at several sizes.

Claim: mAP@0.5 0.148, @0.75 0.060, mAP 0.074 on 500 test scenes of the embedded digits by the first command (n=1, seed
0; 2 AMD EPYC cores beside other work, jax 0.10.2, flax 0.12.8): a check that it trains, for it finds the digits and
has hardly begun to tell them apart.

Paper: Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242, section 2; here with log-losses of objectness and
classes and AdamW. The third command has its trunk, width and sizes; by default all is smaller.

    python launch.py experiments/yolo_v2.py
    python launch.py experiments/yolo_v2.py data=voc:PATH backbone=resnet18 weights=resnet18
    python launch.py experiments/yolo_v2.py data=voc:PATH backbone= image_size=416 width=1024
        "sizes=(320,352,384,416,448,480,512,544,576,608)"      # one line
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import Resize, Sampling, detection_data
from jaxcv.train import Experiment, optimizers
from jaxcv.weights import network, pretrained_detector


def experiment(
    *,
    data: str = "digits",
    classes: tuple[str, ...] = (),
    on_error: str = "raise",
    hold_out: bool = True,
    image_size: int | None = None,
    resize: Resize = "letterbox",
    num_threads: int | None = None,
    sampling: Sampling = "uniform",
    rare: float = 0.001,
    sizes: tuple[int, ...] = (),
    backbone: str = "darknet_tiny",
    width: int = 256,
    weights: str = "",
    trainable: str = ".*",
    no_object_weight: float = 0.5,
    lr: float = 2e-3,
    weight_decay: float = 5e-4,
    clip: float = 10.0,
    ema: float = 0.99,
    dtype: Literal["float32", "bfloat16"] = "float32",
    flip: float = 0.5,
    crop: float = 0.1,
    color: float = 0.1,
    batch_size: int = 32,
    steps: int = 1_000,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits" (scenes of embedded digits over photographs), "voc:PATH", "coco:PATH" or "yolo:PATH".
        classes: the classes in order, for data whose annotations name them; () takes what the set declares.
        on_error: "raise" or "skip" for faulty examples of a set on disk; skipping says how many.
        hold_out: of a coco or yolo set without a split of its own, whether a fifth is for testing.
        image_size: side of the square network input in pixels, a multiple of 32; None is the set's own.
        resize: how pictures become square: "letterbox" between black borders, "squash", or "shortest", their middle.
        num_threads: threads that read pictures; None is one for each core.
        sampling: how often pictures are shown, "uniform", "balanced" (all classes equally often) or "repeat_factor".
        rare: of repeat_factor, the fraction of the pictures up to which a class is rare and shown more often.
        sizes: sides to train at in turns of ten steps, each with a compiled step of its own; () trains at image_size.
        backbone: the trunk, any of `models.TRUNKS`; "" is the paper's `darknet19`.
        width: channels of the convolutions behind the trunk (1024 in the paper).
        weights: file, or name of published weights, to start from: of the backbone, or without one of the whole
            network but for its head.
        trainable: pattern over parameter paths, such as "head|conv22"; the rest is frozen.
        no_object_weight: of the loss on anchor boxes without object.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        weight_decay: AdamW's, decoupled.
        clip: largest norm of the gradient.
        ema: decay of the moving average of the parameters that is evaluated.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        flip: probability of mirroring while training; 0 for sets whose mirror images are something else (digits).
        crop: largest relative zoom and translation while training.
        color: largest relative change of brightness, contrast and saturation while training.
        batch_size: examples a step.
        steps: updates of the parameters.
        seed: of parameters, order of the data and augmentation.
    """
    train, test = detection_data(
        data, image_size=image_size, classes=classes, on_error=on_error, hold_out=hold_out, resize=resize
    )
    anchor_boxes, side = train.anchor_boxes(k=5), train.image_size
    model = models.YOLOv2(
        anchor_boxes,
        num_classes=train.num_classes,
        backbone=network(backbone, weights, known=models.TRUNKS) if backbone else None,
        width=width,
    )
    augmented = partial(augment.detector, flip=flip if train.mirrors else 0.0, crop=crop, color=color)
    return Experiment(
        model=model,
        initial=pretrained_detector(weights, model),
        trainable=trainable,
        loss=partial(losses.yolo, anchor_boxes=anchor_boxes, no_object_weight=no_object_weight),
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay, clip=clip),
        train_data=train.batches(batch_size, seed=seed, num_threads=num_threads, sampling=sampling, rare=rare),
        test_data=test.batches(batch_size),
        augment={f"{n}x{n}": partial(augmented, size=(n, n)) for n in sizes} or augmented,
        predict=partial(
            predict.yolo,
            anchor_boxes=anchor_boxes,
            image_size=(side, side),
            confidence="class",
            score_threshold=0.01,
        ),
        metrics={
            name: metrics.coco_average_precision(which, ignored=test.ignored)
            for name, which in {"mAP50": "AP50", "mAP75": "AP75", "mAP": "AP"}.items()
        },
        ema=ema,
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
