"""Faster R-CNN: a network proposes regions, and a second stage on the same features classifies and refines them.

Claim: mAP@0.5 0.899, @0.75 0.802, mAP 0.647 on the embedded test scenes, by the first command (n=1, seed 0; 6 min 40 s
on 2 AMD EPYC cores (Zen 5) beside other work, jax 0.10.2, flax 0.12.8). BCCD's 72 test images: mAP@0.5 0.894 (0.890,
0.885, 0.907), @0.75 0.631, mAP 0.571, by the second command (n=3, seeds 0 to 2; 720 to 1,050 s of CPU time each, 15 to
30 minutes beside much other work); squashed, not letterboxed, 0.887, 0.635, 0.575 (n=1, seed 0).

Paper: Ren, He, Girshick, Sun, Faster R-CNN, https://arxiv.org/abs/1506.01497, here over a feature pyramid
(https://arxiv.org/abs/1612.03144), with AdamW; see `models.FasterRCNN` for the other deviations.

    python launch.py experiments/faster_rcnn.py
    python launch.py experiments/faster_rcnn.py data=voc:PATH flip_vertical=0.5 trunk=mobilenet_v1 weights=FILE
        lr=1e-3 batch_size=8 steps=1000      # one line
    python launch.py experiments/faster_rcnn.py data=coco:PATH trunk=resnet50 weights=FILE image_size=512
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
    trunk: str = "",
    stages: tuple[int, ...] = (8, 16),
    pyramid_channels: int | None = 64,
    shapes: int = 4,
    weights: str = "",
    trainable: str = ".*",
    proposals: tuple[int, int] = (200, 100),
    samples: int = 64,
    fc_width: int = 256,
    lr: float = 2e-3,
    weight_decay: float = 5e-4,
    clip: float = 10.0,
    ema: float = 0.99,
    dtype: Literal["float32", "bfloat16"] = "float32",
    flip: float = 0.5,
    flip_vertical: float = 0.0,
    crop: float = 0.3,
    color: float = 0.2,
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
        image_size: side of the square network input in pixels; None is the set's own (digits 128, others 256).
        resize: how pictures become square: "letterbox" between black borders, "squash", or "shortest", their middle.
        num_threads: threads that read pictures; None is one for each core.
        sampling: how often pictures are shown, "uniform", "balanced" (all classes equally often) or "repeat_factor".
        rare: of repeat_factor, the fraction of the pictures up to which a class is rare and shown more often.
        trunk: any of `models.TRUNKS`; "" is a small residual network to be trained from nothing.
        stages: strides of the trunk's features that are used, finest first; one alone, such as (16,), is the paper's.
        pyramid_channels: of the feature pyramid over them; None: none, for one stage.
        shapes: anchor boxes at a position of each level: the set's own sizes, clustered, small ones on fine levels.
        weights: file, or name of published weights, to start from: of the trunk alone, or of a whole run.
        trainable: pattern over parameter paths, such as "fpn|rpn|head"; the rest is frozen.
        proposals: regions of an image that the first stage proposes, in training and in evaluation.
        samples: of those, how many are trained on.
        fc_width: neurons of each of the two hidden layers of the second stage; 1024 in the papers, 4096 with VGG-16.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        weight_decay: AdamW's, decoupled.
        clip: largest norm of the gradient.
        ema: decay of the moving average of the parameters that is evaluated.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        flip: probability of mirroring while training; 0 for sets whose mirror images are something else (digits).
        flip_vertical: probability of mirroring top and bottom, for pictures that have neither (cells).
        crop: largest relative zoom and translation while training.
        color: largest relative change of brightness, contrast and saturation while training.
        batch_size: examples a step.
        steps: updates of the parameters.
        seed: of parameters, order of the data, augmentation and samples.
    """
    train, test = detection_data(
        data, image_size=image_size, classes=classes, on_error=on_error, hold_out=hold_out, resize=resize
    )
    side = train.image_size
    small = models.ResNet(stage_sizes=(1, 1, 1), width=32, small_images=True, pixel_block=4)
    model = models.FasterRCNN(
        anchor_boxes=train.anchor_boxes(k=shapes * len(stages)),
        num_classes=train.num_classes,
        backbone=network(trunk, weights, known=models.TRUNKS) if trunk else small,
        stages=stages,
        pyramid_channels=pyramid_channels,
        extra_level=False,
        max_candidates=proposals,
        max_proposals=proposals,
        samples=samples,
        fc_widths=(fc_width, fc_width),
    )
    mirrors = {"flip": flip, "flip_vertical": flip_vertical} if train.mirrors else {}
    return Experiment(
        model=model,
        inputs=("image", "boxes", "valid"),
        initial=pretrained_detector(weights, model),
        trainable=trainable,
        loss=losses.faster_rcnn,
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay, clip=clip),
        train_data=train.batches(batch_size, seed=seed, num_threads=num_threads, sampling=sampling, rare=rare),
        test_data=test.batches(batch_size),
        augment=partial(augment.detector, **mirrors, crop=crop, color=color),
        predict=partial(predict.rcnn, image_size=(side, side), score_threshold=0.01, proposals=10),
        metrics={
            name: metrics.coco_average_precision(which, ignored=test.ignored)
            for name, which in {"mAP50": "AP50", "mAP75": "AP75", "mAP": "AP"}.items()
        },
        ema=ema,
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
