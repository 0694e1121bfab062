"""Neural style transfer: a picture with the content of one and the style of others, found by gradient descent on it.

Claim: at 256 pixels the cost falls to 3.2 % of its start (tubingen with starry_night) and to 3.6 % (chelsea with
the_scream), by the second command with image_size=256 steps=400, in 256 s and 237 s beside another training, 203 s and
187 s of CPU; from step 300 on it falls by less than a hundredth (n=1, 2 AMD EPYC cores (Zen 5), jax 0.10.2, flax
0.12.8). The contents are read at once, in the paintings' colours and strokes, with a ripple of two or three pixels in
even sky.

Paper: Gatys, Ecker, Bethge, Image style transfer using convolutional neural networks, CVPR 2016. Deviations: Adam
beside L-BFGS, layers balanced by `models.Canvas`, total variation, starting from the content.

    python launch.py experiments/style_transfer.py        # scikit-learn's photographs, a trunk with random weights
    python launch.py experiments/style_transfer.py content=PHOTO style=PAINTING weights=FILE     # of VGG-16
    python launch.py experiments/style_transfer.py content=PHOTO style=PAINTING weights=FILE --predict PHOTO  # a file
"""

from functools import partial
from typing import Literal

import optax

from jaxcv import losses, predict
from jaxcv.data import picture_data
from jaxcv.errors import UserError
from jaxcv.models import TRUNKS, Canvas
from jaxcv.train import Experiment, optimizers
from jaxcv.weights import network as fitting
from jaxcv.weights import repainted


def experiment(
    *,
    content: str = "china",
    style: str = "flower",
    more_styles: tuple[str, ...] = (),
    style_weights: tuple[float, ...] = (),
    regions: tuple[str, ...] = (),
    image_size: int = 160,
    style_size: int = 0,
    network: str = "vgg16",
    weights: str = "",
    pooling: Literal["max", "avg"] = "avg",
    content_layers: tuple[str, ...] = ("conv4_2",),
    style_layers: tuple[str, ...] = ("conv1_1", "conv2_1", "conv3_1", "conv4_1", "conv5_1"),
    layer_weights: tuple[float, ...] = (0.4, 0.25, 0.2, 0.1, 0.05),
    alpha: float = 1.0,
    beta: float = 100.0,
    variation: float = 3.0,
    normalization: Literal["course", "gatys"] = "course",
    start: str = "content",
    colors: Literal["style", "histogram", "luminance"] = "style",
    octaves: int = 1,
    optimizer: Literal["adam", "lbfgs"] = "adam",
    lr: float = 0.02,
    dtype: Literal["float32", "bfloat16"] = "float32",
    steps: int = 300,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        content: a picture; "china" and "flower" come with scikit-learn.
        style: another one.
        more_styles: further ones, such as ('a.jpg', 'b.jpg').
        style_weights: of style and more_styles; () gives all the same.
        regions: a grey picture for each style, white where it belongs; () is everywhere.
        image_size: pixels of the content's longer side.
        style_size: pixels of the styles' longer side, which decides on the size of strokes; 0 is image_size.
        network: of the trunk, such as vgg16, vgg19 or any other that has features of strides 8, 16 and 32.
        weights: of the trunk: a file, the folder of a run, or the name of published ones, vgg16; "" is random weights.
        pooling: of VGG; the average gives smoother pictures.
        content_layers: names of the trunk's features that are compared one by one.
        style_layers: names of those whose Gram matrices are compared.
        layer_weights: of style_layers: the first ones hold colours and strokes; () gives all the same, and a sum of 1.
        alpha: factor of the content's cost.
        beta: factor of the styles' cost.
        variation: factor of the total variation.
        normalization: of the content's cost, the course's or that of Gatys et al.
        start: of the picture: noise, content, style, or the path of a picture, such as that of a smaller run.
        colors: the styles'; or the content's, by matching the styles' colours to it, or by luminance alone.
        octaves: pictures of halved sizes that the picture is the sum of: coarse structure moves first.
        optimizer: Adam, or L-BFGS with a line search, whose steps are several times as long.
        lr: peak learning rate of Adam after a linear warm-up; falls to 0 along a cosine.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        steps: of the optimizer.
        seed: of the random weights and of a picture of noise.
    """
    styles = (style, *more_styles)
    shares = style_weights or (1.0 / len(styles),) * len(styles)
    per_layer = layer_weights or (1.0 / len(style_layers),) * len(style_layers)
    counts = {"style_weights": (shares, styles), "regions": (regions or styles, styles)}
    for name, (given, wanted) in {**counts, "layer_weights": (per_layer, style_layers)}.items():
        if len(given) != len(wanted):
            raise UserError(f"{name}: {len(given)} of them, expected one for each of {', '.join(wanted)}")
    made = {"styles": len(styles), "octaves": octaves, "luminance": colors == "luminance"}
    trunk = fitting(network, weights, known=TRUNKS, **({"pooling": pooling} if network.startswith("vgg") else {}))
    model = Canvas(trunk=trunk, content_layers=content_layers, style_layers=style_layers, **made)
    train, test = picture_data(content, image_size=image_size, regions=regions, others=styles)
    data, size = train.batches(1, seed=seed), style_size or image_size
    return Experiment(
        model=model,
        initial=repainted(weights, model, data, styles=styles, style_size=size, start=start, colors=colors),
        trainable="picture",
        loss=partial(
            losses.style_transfer,
            **{"alpha": alpha, "beta": beta, "variation": variation},
            content_layers=dict.fromkeys(content_layers, 1.0 / len(content_layers)),
            style_layers=dict(zip(style_layers, per_layer, strict=True)),
            styles=shares,
            normalization=normalization,
        ),
        optimizer=optax.lbfgs() if optimizer == "lbfgs" else optimizers.adamw(lr, steps=steps, weight_decay=0.0),
        train_data=data,
        test_data=test.batches(1),
        predict=predict.stylised,
        evaluate_every=max(1, steps // 10),
        animate=True,
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
