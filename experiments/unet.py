"""U-Net: a class for each pixel, from a network that joins every map of its decoder with the encoder's of that size.

Claim: mean IoU 0.594, Dice 0.722, pixel accuracy 0.963 over ten digits and background on the embedded test scenes, by
the first command (n=1; 7 minutes on 2 AMD EPYC cores (Zen 5) beside other work, jax 0.10.2, flax 0.12.8). ISBI's last
5 slices: pixel accuracy 0.924, V_rand 0.920 by the second (n=1; 2,250 s of CPU time); at width=16 steps=900 without
transposed and test_views 0.922, 0.841, and then with rotate=90.0 elastic=0.6 0.919, 0.680 (n=1). CamVid's 14 frames:
mean IoU 0.442 (0.448, 0.426, 0.452), pixel accuracy 0.835 over eleven classes, void ignored, by the third (n=3, seeds 0
to 2; 1,050 s of CPU time each), where FCN-32s over the same encoder has 0.399, 0.805; without `region` 0.383, 0.827.

Paper: Ronneberger et al., https://arxiv.org/abs/1505.04597: padding=valid norm=False width=64 depth=4 channels=1.

    python launch.py experiments/unet.py
    python launch.py experiments/unet.py data=masks:PATH hold_last=5 channels=1 image_size=512 tile=512 crop=192 depth=4
        width=32 flip_vertical=0.5 transposed=0.5 test_views=8 color=0.1 batch_size=4 steps=1500      # ISBI, one line
    python launch.py experiments/unet.py data=camvid:PATH image_size=192 depth=4 scale=0.3 batch_size=4 steps=1200
        lr=0.01 region=lovasz      # one line
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import Resize, segmentation_data
from jaxcv.train import Experiment, kernels, optimizers


def experiment(
    *,
    data: str = "digits",
    on_error: str = "raise",
    values: tuple[int, ...] = (),
    hold_last: int = 0,
    image_size: int = 64,
    resize: Resize = "squash",
    num_threads: int | None = None,
    channels: Literal[1, 3] = 3,
    tile: int = 0,
    overlap: int = 32,
    test_views: Literal[1, 2, 8] = 1,
    width: int = 16,
    depth: int = 3,
    norm: bool = True,
    padding: Literal["same", "valid"] = "same",
    dropout: float = 0.0,
    class_weights: tuple[float, ...] = (),
    focus: float | None = None,
    region: Literal["", "dice", "lovasz"] = "",
    border: float | None = None,
    lr: float = 3e-3,
    weight_decay: float = 1e-2,
    clip: float = 10.0,
    ema: float = 0.99,
    crop: int | None = None,
    flip: float = 0.5,
    flip_vertical: float = 0.0,
    transposed: float | None = None,
    rotate: float | None = None,
    scale: float | None = None,
    elastic: float | None = None,
    warp_probability: float | None = None,
    color: float = 0.2,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 16,
    steps: int = 2_400,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits" (scenes of embedded digits), "masks:PATH", "camvid:PATH", "voc:PATH", "pets:PATH" and others.
        on_error: "raise" or "skip" for faulty examples of a set on disk; skipping says how many.
        values: the number of each class in masks whose greys are no class numbers, as (0, 128, 255).
        hold_last: of masks without a split of their own, how many of the last pictures are for testing; 0: a fifth.
        image_size: side of the square that pictures are resized to, in pixels.
        resize: how pictures become square: "squash", "letterbox" between black borders, or "shortest", their middle.
        num_threads: threads that read pictures; None is one for each core.
        channels: 1 for grey pictures, 3 for colour.
        tile: side in pixels of the tiles in which larger pictures are evaluated, and those of --predict taken at their
            own size; 0: no tiles, and pictures of --predict are resized to image_size.
        overlap: pixels that a tile shares with others at each side, with padding=same.
        test_views: predictions are averaged over so many: 2 with the mirror image, 8 with quarter turns as well.
        width: channels at full resolution; each level down doubles them.
        depth: levels below the first.
        norm: batch normalisation after each convolution.
        padding: of the convolutions, "same", or "valid" as in the paper, with mirrored borders around the picture.
        dropout: at the end of the encoder.
        class_weights: of each class in the loss; () for equal ones.
        focus: gamma of the focal loss; None: plain cross-entropy.
        region: "dice" or "lovasz" for a term that compares whole regions, "" for none.
        border: w0 of the paper's weights of pixels, 10 there, for cells of class 1; None: all weigh the same.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        weight_decay: AdamW's, decoupled, of kernels alone.
        clip: largest norm of the gradient.
        ema: decay of the moving average of the parameters that is evaluated.
        crop: side in pixels of the part of the picture that is trained on; None: all of it.
        flip: probability of mirroring while training; not of digits.
        flip_vertical: probability of mirroring top and bottom while training.
        transposed: probability of exchanging rows and columns while training; None: never.
        rotate: largest rotation while training, either way, in degrees; None: none, which is faster.
        scale: largest relative change of size while training; None: none.
        elastic: how near to folding pictures are bent while training, below 1; None: not at all.
        warp_probability: of rotating, scaling and bending a picture; None: each is.
        color: largest relative change of brightness, contrast and saturation while training.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        batch_size: examples a step.
        steps: updates of the parameters.
        seed: of parameters, order of the data and augmentation.
    """
    opened = {"image_size": image_size, "channels": channels, "on_error": on_error, "resize": resize}
    train, test = segmentation_data(data, values=values, hold_last=hold_last, own_size=tile > 0, **opened)
    train = train if border is None else train.with_border_weights(border)
    shape = {"width": width, "depth": depth, "norm": norm, "padding": padding, "dropout": dropout}
    moves = {"flip": flip, "flip_vertical": flip_vertical, "transposed": transposed} if train.mirrors else {}
    warps = {"rotate": rotate, "scale": scale, "elastic": elastic, "warp_probability": warp_probability}
    scores = {name: metrics.segmentation(name) for name in ("mIoU", "pixel_accuracy", "dice")}
    scores |= {"rand": metrics.rand()} if train.num_classes == 2 else {}
    return Experiment(
        model=models.Tiled(models.UNet(train.num_classes, **shape), tile=tile, overlap=overlap, views=test_views),
        loss=partial(losses.pixels, class_weights=class_weights, focus=focus, region=region),
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay, mask=kernels, clip=clip),
        train_data=train.batches(batch_size, seed=seed, num_threads=num_threads),
        test_data=test.batches(batch_size),
        augment=partial(augment.segmentation, color=color, size=crop and (crop, crop), **moves, **warps),
        predict=predict.masks,
        metrics=scores,
        ema=ema,
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
