"""A small one-stage detector: YOLOv2's head and loss on a narrow residual trunk with two scales joined.

Claim: mAP@0.5 0.960 (sd 0.002), @0.75 0.905, mAP 0.735 on 500 test scenes of the embedded digits by the first command
(n=3 seeds; 2 to 3 minutes each beside other work); 0.896 (sd 0.008), 0.654 and 0.579 on the 72 test images of BCCD's
blood cells by the second (n=3 seeds; 11 to 18 minutes each beside much other work); and on eighteen pictures of fruits
and nuts, trained and tested on, by the third mAP@0.5 1.000, mAP 0.996 (n=1, seed 0; 2 minutes). All on 2 AMD EPYC
(Zen 5) cores, jax 0.10.2, flax 0.12.8.

Paper: Redmon, Farhadi, YOLO9000, https://arxiv.org/abs/1612.08242; see `models.YOLO` for the deviations.

    python launch.py experiments/yolo.py
    python launch.py experiments/yolo.py data=voc:PATH flip_vertical=0.5 steps=1000 resize=squash seed=0,1,2
    python launch.py experiments/yolo.py data=coco:PATH hold_out=False image_size=320 batch_size=9 steps=400
        resize=squash flip=0 crop=0 color=0 ema=0.99      # one line
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import Resize, Sampling, detection_data
from jaxcv.train import Experiment, optimizers
from jaxcv.weights import pretrained_detector


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
    weights: str = "",
    trainable: str = ".*",
    box_loss: Literal["squared", "iou", "giou", "diou", "ciou"] = "squared",
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
        resize: how pictures become square: "letterbox" between black borders, "squash", or "shortest", their middle.
        num_threads: threads that read pictures; None is one for each core.
        sampling: how often pictures are shown, "uniform", "balanced" (all classes equally often) or "repeat_factor".
        rare: of repeat_factor, the fraction of the pictures up to which a class is rare and shown more often.
        sizes: sides to train at in turns of ten steps, each with a compiled step of its own; () trains at image_size.
        weights: file, or folder of a run, to start from, but for the head.
        trainable: pattern over parameter paths, such as "head|neck"; the rest is frozen.
        box_loss: squared errors of the papers, or 1 - an IoU.
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
        batch_size: examples a step.
        steps: batches trained on.
        seed: of parameters, order of the data and augmentation.
    """
    train, test = detection_data(
        data, image_size=image_size, classes=classes, on_error=on_error, hold_out=hold_out, resize=resize
    )
    anchor_boxes, side = train.anchor_boxes(k=5), train.image_size
    model = models.YOLO(num_classes=train.num_classes, anchor_boxes=anchor_boxes)
    mirrors = {"flip": flip, "flip_vertical": flip_vertical} if train.mirrors else {}
    augmented = partial(augment.detector, **mirrors, crop=crop, color=color, mosaic=mosaic, mixup=mixup)
    return Experiment(
        model=model,
        initial=pretrained_detector(weights, model),
        trainable=trainable,
        loss=partial(losses.yolo, anchor_boxes=anchor_boxes, box_loss=box_loss, no_object_weight=no_object_weight),
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay, clip=clip, accumulate=accumulate),
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
