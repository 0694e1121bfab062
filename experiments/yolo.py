"""One-stage detectors: a small one in the manner of YOLOv2, and YOLO v1, v2 and v3 over any trunk.

Claim: mAP@0.5 0.960 (sd 0.002), @0.75 0.905, mAP 0.735 on 500 test scenes of the embedded digits by the first command
(n=3 seeds; 2 to 3 minutes each beside other work); 0.896 (sd 0.008), 0.654 and 0.579 on the 72 test images of BCCD's
blood cells by the second (n=3 seeds; 11 to 18 minutes each beside much other work); and on eighteen pictures of fruits
and nuts, trained and tested on, by the third mAP@0.5 1.000, mAP 0.996 (n=1, seed 0; 2 minutes). All on 2 AMD EPYC
(Zen 5) cores, jax 0.10.2, flax 0.12.8.

Papers: https://arxiv.org/abs/1612.08242 (v2, the default in small), https://arxiv.org/abs/1506.02640 (v1),
https://arxiv.org/abs/1804.02767 (v3).

    python launch.py experiments/yolo.py
    python launch.py experiments/yolo.py data=voc:PATH flip_vertical=0.5 steps=1000 seed=0,1,2
    python launch.py experiments/yolo.py data=coco:PATH hold_out=False image_size=320 batch_size=9 steps=400
        flip=0 crop=0 color=0 ema=0.99      # one line
    python launch.py experiments/yolo.py data=coco:PATH network=v3 backbone=mobilenet_v1 weights=FILE
"""

from functools import partial
from typing import Any, Literal

import jax
import optax

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import detection_data
from jaxcv.errors import UserError
from jaxcv.train import Experiment, schedules
from jaxcv.weights import network as network_of
from jaxcv.weights import pretrained


def experiment(
    *,
    data: str = "digits",
    classes: tuple[str, ...] = (),
    on_error: str = "raise",
    hold_out: bool = True,
    image_size: int | None = None,
    sizes: tuple[int, ...] = (),
    network: Literal["small", "v1", "v2", "v3", "v3_tiny"] = "small",
    backbone: str = "",
    width: int = 256,
    weights: str = "",
    trainable: str = ".*",
    box_loss: Literal["squared", "iou", "giou", "diou", "ciou"] = "squared",
    focal_gamma: float | None = None,
    label_smoothing: float = 0.0,
    no_object_weight: float = 0.5,
    lr: float = 5e-3,
    weight_decay: float = 5e-4,
    clip: float = 10.0,
    accumulate: int = 1,
    ema: float = 0.998,
    dtype: Literal["float32", "bfloat16"] = "float32",
    flip: float = 0.5,
    flip_vertical: float = 0.0,
    crop: float = 0.3,
    color: float = 0.2,
    mosaic: float | None = None,
    mixup: float | None = None,
    max_detections: int = 100,
    batch_size: int = 32,
    steps: int = 1_200,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits" (scenes of embedded digits over photographs), "voc:PATH", "coco:PATH" or "yolo:PATH".
        classes: the classes in order, for data whose annotations name them; () takes what the set declares.
        on_error: "raise" or "skip" for faulty examples of a set on disk; skipping says how many.
        hold_out: of a coco or yolo set without a split of its own, whether a fifth is for testing; False trains and
            tests on everything, to see whether a network can learn a few images by heart.
        image_size: side of the square network input in pixels; None is the set's own (digits 128, others 256).
        sizes: sides to train at in turns of ten steps, each with a compiled step of its own; () trains at image_size.
        network: "small" (v2's head on a narrow residual trunk), or "v1", "v2", "v3", "v3_tiny" as published.
        backbone: the published networks' trunk, any of `jaxcv.models`, such as "mobilenet_v1"; "" is their own.
        width: channels behind the trunk of v1 and v2 (1024 in the papers), and of v3's coarsest grid (512).
        weights: file, or name of published weights, to start from: of the backbone, or without one of the whole network
            but for its heads (Darknet's ".weights" too).
        trainable: pattern over parameter paths, such as "head|neck"; the rest is frozen.
        box_loss: squared errors of the papers, or 1 - an IoU.
        focal_gamma: exponent of focal objectness; None is plain cross-entropy.
        label_smoothing: probability mass moved from the true class to all classes.
        no_object_weight: of the loss on cells and anchor boxes without object.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        weight_decay: AdamW's, decoupled.
        clip: largest norm of the gradient.
        accumulate: batches whose gradients are averaged for one update of the parameters.
        ema: decay of the moving average of the parameters that is evaluated.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        flip: probability of mirroring while training; 0 for sets whose mirror images are something else (digits).
        flip_vertical: probability of mirroring top and bottom, for pictures that have neither (cells).
        crop: largest relative zoom and translation while training.
        color: largest relative change of brightness, contrast and saturation while training.
        mosaic: probability of putting four pictures into one; None costs nothing.
        mixup: probability of laying two pictures over each other; None costs nothing.
        max_detections: boxes found in an image at most; average precision counts 100.
        batch_size: examples a step.
        steps: batches trained on.
        seed: of parameters, order of the data and augmentation.
    """
    train, test = detection_data(data, image_size=image_size, classes=classes, on_error=on_error, hold_out=hold_out)
    k, side = train.num_classes, train.image_size
    anchor_boxes = train.anchor_boxes(k={"v3": 9, "v3_tiny": 6}.get(network, 5))  # of which v1 takes none
    trunk = network_of(backbone, weights) if backbone else None
    model: Any
    if network == "v1":
        model = models.YOLOv1(num_classes=k, backbone=trunk, width=width, fc_width=0, dtype=dtype)
    elif network == "v2":
        model = models.YOLOv2(anchor_boxes, num_classes=k, backbone=trunk, width=width, dtype=dtype)
    elif network in ("v3", "v3_tiny"):
        make = models.YOLOv3 if network == "v3" else models.yolo_v3_tiny
        channels = (width // 4, width // 2, width)[-2 if network == "v3_tiny" else -3 :]
        model = make(anchor_boxes, num_classes=k, backbone=trunk, neck_channels=channels, dtype=dtype)
    else:
        model = models.YOLO(num_classes=k, anchor_boxes=anchor_boxes, dtype=dtype)
    initial = None
    if weights:
        initial = (
            pretrained(weights, trunk, within="backbone") if backbone else pretrained(weights, model, skip="head.*")
        )

    if network == "v1":
        loss = partial(losses.yolo_v1, num_boxes=2, no_object_weight=no_object_weight)
        found = partial(predict.yolo_v1, num_boxes=2)
    else:
        v3 = network in ("v3", "v3_tiny")
        loss = partial(
            losses.yolo,
            anchor_boxes=anchor_boxes,
            box_loss=box_loss,
            class_loss="sigmoid" if v3 else "softmax",
            ignore_threshold=0.5 if v3 else 0.6,
            no_object_weight=no_object_weight,
            focal_gamma=focal_gamma,
            label_smoothing=label_smoothing,
        )
        found = partial(predict.yolo, anchor_boxes=anchor_boxes, class_scores="sigmoid" if v3 else "softmax")

    def augmented(key, batch, size=side):
        keys = jax.random.split(key, 3)
        m = batch["boxes"].shape[1]
        if mosaic is not None:
            batch = augment.mosaic(keys[1], batch, probability=mosaic, max_boxes=2 * m)
        if mixup is not None:
            batch = augment.mixup_boxes(keys[2], batch, probability=mixup)
        mirrors = {"flip": flip if train.mirrors else 0.0, "flip_vertical": flip_vertical if train.mirrors else 0.0}
        return augment.detection(keys[0], batch, **mirrors, crop=crop, color=color, size=(size, size))

    if accumulate < 1:
        raise UserError(f"accumulate={accumulate}: expected at least 1 batch an update")
    updates = steps // accumulate
    schedule = schedules.warmup_cosine(lr, warmup_steps=updates // 20, total_steps=updates)
    optimizer = optax.chain(optax.clip_by_global_norm(clip), optax.adamw(schedule, weight_decay=weight_decay))
    if accumulate > 1:
        optimizer = optax.MultiSteps(optimizer, accumulate).gradient_transformation()
    return Experiment(
        model=model,
        initial=initial,
        trainable=trainable,
        loss=loss,
        optimizer=optimizer,
        train_data=train.batches(batch_size, seed=seed),
        test_data=test.batches(batch_size),
        augment={f"{size}x{size}": partial(augmented, size=size) for size in sizes} if sizes else augmented,
        predict=partial(
            found,
            image_size=(side, side),
            confidence="class",
            score_threshold=0.01,
            max_outputs=max_detections,
            max_candidates=4 * max_detections,
        ),
        metrics={
            "mAP50": metrics.coco_average_precision("AP50", ignored=test.ignored),
            "mAP75": metrics.coco_average_precision("AP75", ignored=test.ignored),
            "mAP": metrics.coco_average_precision("AP", ignored=test.ignored),
        },
        ema=ema,
        steps=steps,
        seed=seed,
    )
