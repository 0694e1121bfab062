"""FCN: a classifier made convolutional, whose coarse scores of classes are enlarged to pixels.

Claim: mean IoU 0.399 (0.402, 0.390, 0.404), pixel accuracy 0.805 on CamVid's 14 frames, eleven classes, void ignored,
by the second command, FCN-32s over U-Net's encoder, where unet.py has 0.442 (n=3, seeds 0 to 2; 620 to 680 s of CPU
time each on 2 AMD EPYC cores (Zen 5) beside other work, jax 0.10.2, flax 0.12.8); without `region` 0.379. Digits, ten
and background, by the first: 0.176 and 0.910 (n=1; 8 minutes).

Paper: Long, Shelhamer, Darrell, Fully convolutional networks for semantic segmentation,
https://arxiv.org/abs/1411.4038; see `models.FCN` for the deviations. FCN-32s, 16s and 8s are stride=32, 16 and 8.

    python launch.py experiments/fcn.py
    python launch.py experiments/fcn.py data=camvid:PATH image_size=192 network=unet stride=32 scale=0.3 batch_size=4
        steps=1200 lr=0.01 region=lovasz      # one line
    python launch.py experiments/fcn.py data=camvid:PATH image_size=256 network=resnet50 weights=FILE batch_size=8
    python launch.py experiments/fcn.py data=voc:PATH network=vgg16 fc_width=4096 weights=FILE image_size=384
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import Resize, segmentation_data
from jaxcv.train import Experiment, kernels, optimizers
from jaxcv.weights import pretrained


def experiment(
    *,
    data: str = "digits",
    values: tuple[int, ...] = (),
    on_error: str = "raise",
    image_size: int = 64,
    resize: Resize = "squash",
    num_threads: int | None = None,
    network: str = "resnet18",
    width: int = 16,
    weights: str = "",
    trainable: str = ".*",
    stride: Literal[32, 16, 8] = 8,
    fc_width: int = 0,
    dropout: float = 0.5,
    class_weights: tuple[float, ...] = (),
    region: Literal["", "dice", "lovasz"] = "",
    lr: float = 2e-3,
    weight_decay: float = 1e-2,
    clip: float = 10.0,
    ema: float = 0.99,
    flip: float = 0.5,
    scale: float | None = None,
    color: float = 0.2,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 16,
    steps: int = 600,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits" (scenes of embedded digits), "masks:PATH", "camvid:PATH", "voc:PATH", "pets:PATH" and others.
        values: the number of each class in masks whose greys are no class numbers, as (0, 128, 255).
        on_error: "raise" or "skip" for faulty examples of a set on disk; skipping says how many.
        image_size: side of the square that pictures are resized to, in pixels.
        resize: how pictures become square: "squash", "letterbox" between black borders, or "shortest", their middle.
        num_threads: threads that read pictures; None is one for each core.
        network: the trunk, such as "vgg16" or "resnet50"; "unet" is unet.py's encoder at depth=4, pooled once more.
        width: channels of "unet" at full resolution.
        weights: file, or folder of a run, that the trunk starts from.
        trainable: pattern over parameter paths, such as "score"; the rest is frozen.
        stride: of the finest map that is scored: 32, 16 or 8.
        fc_width: channels of the paper's fc6 and fc7, 4096 there; 0: the trunk's last map is scored itself.
        dropout: after fc6 and fc7.
        class_weights: of each class in the loss; () for equal ones.
        region: "dice" or "lovasz" for a term that compares whole regions, "" for none.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        weight_decay: AdamW's, decoupled, of kernels alone.
        clip: largest norm of the gradient.
        ema: decay of the moving average of the parameters that is evaluated.
        flip: probability of mirroring while training; not of digits.
        scale: largest relative change of size while training; None: none.
        color: largest relative change of brightness, contrast and saturation while training.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        batch_size: examples a step.
        steps: updates of the parameters.
        seed: of parameters, order of the data and augmentation.
    """
    train, test = segmentation_data(data, image_size=image_size, values=values, on_error=on_error, resize=resize)
    encoder = partial(models.VGG, (2,) * 5, tuple(width << i for i in range(5)), norm=True)
    trunk = encoder() if network == "unet" else models.named(network, (*models.TRUNKS, "unet"))()
    return Experiment(
        model=models.FCN(trunk, num_classes=train.num_classes, stride=stride, fc_width=fc_width, dropout=dropout),
        initial=pretrained(weights, trunk, within="trunk") if weights else None,
        trainable=trainable,
        loss=partial(losses.pixels, class_weights=class_weights, region=region),
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay, mask=kernels, clip=clip),
        train_data=train.batches(batch_size, seed=seed, num_threads=num_threads),
        test_data=test.batches(batch_size),
        augment=partial(augment.segmentation, flip=flip if train.mirrors else 0.0, scale=scale, color=color),
        predict=predict.masks,
        metrics={name: metrics.segmentation(name) for name in ("mIoU", "pixel_accuracy", "dice")},
        ema=ema,
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
