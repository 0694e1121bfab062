"""DeconvNet: down to a fully connected middle, and up again by unpooling and transposed convolutions.

Claim: mean IoU 0.280, pixel accuracy 0.668 on CamVid's 14 frames, eleven classes, void ignored, by the second command
(n=1, seed 0; 27 minutes on 2 AMD EPYC cores (Zen 5) beside other work, jax 0.10.2, flax 0.12.8), where unet.py has
0.442. Of the digits: not measured.

Paper: Noh, Hong, Han, Learning deconvolution network for semantic segmentation, https://arxiv.org/abs/1505.04366; see
`models.DeconvNet` for the deviations. The full network is width=64 fc_width=4096 image_size=224.

    python launch.py experiments/deconvnet.py
    python launch.py experiments/deconvnet.py data=camvid:PATH image_size=192 scale=0.3 batch_size=4 steps=1200 lr=0.01
        region=lovasz      # one line
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import Resize, segmentation_data
from jaxcv.errors import UserError
from jaxcv.train import Experiment, kernels, optimizers


def experiment(
    *,
    data: str = "digits",
    values: tuple[int, ...] = (),
    on_error: str = "raise",
    image_size: int = 64,
    resize: Resize = "squash",
    num_threads: int | None = None,
    width: int = 16,
    fc_width: int = 256,
    class_weights: tuple[float, ...] = (),
    region: Literal["", "dice", "lovasz"] = "",
    lr: float = 3e-3,
    weight_decay: float = 1e-2,
    clip: float = 10.0,
    ema: float = 0.99,
    flip: float = 0.5,
    scale: float | None = None,
    color: float = 0.2,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 16,
    steps: int = 1_000,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits" (scenes of embedded digits), "masks:PATH", "camvid:PATH", "voc:PATH", "pets:PATH" and others.
        values: the number of each class in masks whose greys are no class numbers, as (0, 128, 255).
        on_error: "raise" or "skip" for faulty examples of a set on disk; skipping says how many.
        image_size: side of the square that pictures are resized to, in pixels, a multiple of 32.
        resize: how pictures become square: "squash", "letterbox" between black borders, or "shortest", their middle.
        num_threads: threads that read pictures; None is one for each core.
        width: channels at full resolution, 64 in the paper; the stages have 1, 2, 4, 8 and 8 times as many.
        fc_width: channels of the fully connected middle, 4096 in the paper.
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

    Raises:
        UserError: image_size is no multiple of 32.
    """
    if image_size % 32:
        near = image_size // 32 * 32
        raise UserError(f"image_size={image_size}: expected a multiple of 32, such as {near} or {near + 32}")
    train, test = segmentation_data(data, image_size=image_size, values=values, on_error=on_error, resize=resize)
    return Experiment(
        model=models.DeconvNet(
            num_classes=train.num_classes,
            stage_channels=(width, 2 * width, 4 * width, 8 * width, 8 * width),
            fc_width=fc_width,
            map_size=image_size // 32,
        ),
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
