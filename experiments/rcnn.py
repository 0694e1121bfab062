"""R-CNN: every proposed region is cut out of the image, warped to one size, and classified by a network of its own.

Claim: mAP@0.5 0.913, @0.75 0.866, mAP 0.848 on the embedded test scenes, by the first command (n=1, seed 0; 6 min 10 s
on 2 AMD EPYC cores (Zen 5) beside much other work, jax 0.10.2, flax 0.12.8). The small network is read at its last map:
averaged over all positions, as a trunk of full size is, it reached 0.260 in 600 steps.

Paper: Girshick, Donahue, Darrell, Malik, Rich feature hierarchies, https://arxiv.org/abs/1311.2524, here trained in one
go with AdamW; see `models.RCNN`. Proposals are connected components, or the paper's by selective search with `pip
install 'jaxcv-research[rcnn]'`.

    python launch.py experiments/rcnn.py
    python launch.py experiments/rcnn.py data=voc:PATH proposals=selective_search count=200 trunk=resnet18 crop_size=96
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
    proposals: str = "components",
    count: int = 64,
    trunk: str = "",
    crop_size: int = 24,
    weights: str = "",
    trainable: str = ".*",
    samples: int = 16,
    lr: float = 3e-3,
    weight_decay: float = 5e-4,
    clip: float = 10.0,
    ema: float = 0.99,
    dtype: Literal["float32", "bfloat16"] = "float32",
    flip: float = 0.5,
    flip_vertical: float = 0.0,
    crop: float = 0.3,
    color: float = 0.2,
    batch_size: int = 16,
    steps: int = 300,
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
        proposals: "components" of several thresholds, for objects of one shade, or "selective_search" by OpenCV; see
            `jaxcv.data.sources.region_proposers`.
        count: proposals of an image, the best; 2,000 in the paper.
        trunk: any of `models.TRUNKS`; "" is a small residual network to be trained from nothing.
        crop_size: height and width of a warped region in pixels; 227 in the paper.
        weights: file, or name of published weights, to start from: of the trunk alone, or of a whole run.
        trainable: pattern over parameter paths, such as "head"; the rest is frozen.
        samples: regions of an image that are trained on.
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
    train, test = (split.with_proposals(proposals, count=count) for split in (train, test))
    side = train.image_size
    small = models.ResNet(stage_sizes=(1, 1, 1), width=16, small_images=True)
    model = models.RCNN(
        num_classes=train.num_classes,
        backbone=network(trunk, weights, known=models.TRUNKS) if trunk else small,
        crop_size=crop_size,
        samples=samples,
        feature="pool" if trunk else "conv4_x",
        fc_widths=() if trunk else (256,),
    )
    mirrors = {"flip": flip, "flip_vertical": flip_vertical} if train.mirrors else {}
    return Experiment(
        model=model,
        inputs=("image", "proposals", "boxes", "valid"),
        initial=pretrained_detector(weights, model),
        trainable=trainable,
        loss=losses.fast_rcnn,
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
