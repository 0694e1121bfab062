"""YOLO v1: one grid without anchor boxes, two boxes and one class in each cell, squared errors.

Claim: none yet. The first command was not run to its end; the tests take its first steps.

Paper: Redmon, Divvala, Girshick, Farhadi, You Only Look Once, https://arxiv.org/abs/1506.02640; here with batch
normalisation and AdamW. The third command has its trunk, size and fully connected layer; by default all is smaller.

    python launch.py experiments/yolo_v1.py
    python launch.py experiments/yolo_v1.py data=voc:PATH backbone=resnet18 weights=resnet18 image_size=448
    python launch.py experiments/yolo_v1.py data=voc:PATH backbone= image_size=448 width=1024 fc_width=4096
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
    image_size: int | None = 256,
    resize: Resize = "letterbox",
    num_threads: int | None = None,
    sampling: Sampling = "uniform",
    rare: float = 0.001,
    backbone: str = "darknet_tiny",
    width: int = 256,
    fc_width: int = 0,
    dropout: float = 0.5,
    weights: str = "",
    trainable: str = ".*",
    coordinate_weight: float = 5.0,
    no_object_weight: float = 0.5,
    lr: float = 2e-3,
    weight_decay: float = 5e-4,
    clip: float = 10.0,
    ema: float = 0.99,
    dtype: Literal["float32", "bfloat16"] = "float32",
    flip: float = 0.5,
    crop: float = 0.1,
    color: float = 0.1,
    batch_size: int = 16,
    steps: int = 600,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits" (scenes of embedded digits over photographs), "voc:PATH", "coco:PATH" or "yolo:PATH".
        classes: the classes in order, for data whose annotations name them; () takes what the set declares.
        on_error: "raise" or "skip" for faulty examples of a set on disk; skipping says how many.
        hold_out: of a coco or yolo set without a split of its own, whether a fifth is for testing.
        image_size: side of the square network input in pixels, of which a cell takes 64; None is the set's own.
        resize: how pictures become square: "letterbox" between black borders, "squash", or "shortest", their middle.
        num_threads: threads that read pictures; None is one for each core.
        sampling: how often pictures are shown, "uniform", "balanced" (all classes equally often) or "repeat_factor".
        rare: of repeat_factor, the fraction of the pictures up to which a class is rare and shown more often.
        backbone: the trunk, any of `models.TRUNKS`; "" is the paper's `extraction`.
        width: channels of the four convolutions behind the trunk (1024 in the paper).
        fc_width: outputs of the fully connected layer behind them (4096 in the paper); 0: none.
        dropout: rate behind that layer.
        weights: file, or name of published weights, to start from: of the backbone, or without one of the whole
            network but for its head.
        trainable: pattern over parameter paths, such as "head|conv2."; the rest is frozen.
        coordinate_weight: of the errors of centre, width and height.
        no_object_weight: of the confidence of boxes without object.
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
    model = models.YOLOv1(
        num_classes=train.num_classes,
        backbone=network(backbone, weights, known=models.TRUNKS) if backbone else None,
        width=width,
        fc_width=fc_width,
        dropout=dropout,
    )
    return Experiment(
        model=model,
        initial=pretrained_detector(weights, model),
        trainable=trainable,
        loss=partial(
            losses.yolo_v1, num_boxes=2, coordinate_weight=coordinate_weight, no_object_weight=no_object_weight
        ),
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay, clip=clip),
        train_data=train.batches(batch_size, seed=seed, num_threads=num_threads, sampling=sampling, rare=rare),
        test_data=test.batches(batch_size),
        augment=partial(augment.detector, flip=flip if train.mirrors else 0.0, crop=crop, color=color),
        predict=partial(
            predict.yolo_v1,
            num_boxes=2,
            image_size=(train.image_size, train.image_size),
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
