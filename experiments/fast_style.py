"""Fast style transfer: a network that learns one style from any pictures, and then repaints one in a single pass.

Claim: by the second command on 103 photographs of COCO128, with starry_night, cost 1.52 on 25 others (content 0.91,
style 0.49, variation 0.13); docs/fast_style.png shows two held photographs: the painting's colours and strokes, light
patches bleached (n=1, seed 0; 569 s of CPU time, 18 minutes on 2 AMD EPYC cores (Zen 5) beside much other work, jax
0.10.2, flax 0.12.8). `--predict` of two pictures at 512 pixels takes 0.28 s each once compiled.

Paper: Johnson, Alahi, Fei-Fei, Perceptual losses for real-time style transfer and super-resolution, ECCV 2016.
Deviations: those of `models.TransformerNet`; half its channels; AdamW with warm-up and cosine.

    python launch.py experiments/fast_style.py                                    # two photographs, random weights
    python launch.py experiments/fast_style.py data=FOLDER style=PAINTING weights=FILE steps=900        # of VGG-16
    python launch.py experiments/fast_style.py data=FOLDER style=PAINTING weights=FILE --predict PHOTO...
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, models, predict
from jaxcv.data import photograph_data
from jaxcv.train import Experiment, optimizers
from jaxcv.weights import network as fitting
from jaxcv.weights import painter


def experiment(
    *,
    data: str = "photographs",
    style: str = "flower",
    image_size: int = 128,
    style_size: int = 0,
    longest: int = 512,
    network: str = "vgg16",
    weights: str = "",
    content_layers: tuple[str, ...] = ("conv3_3",),
    style_layers: tuple[str, ...] = ("conv1_2", "conv2_2", "conv3_3", "conv4_3"),
    alpha: float = 1.0,
    beta: float = 8.0,
    variation: float = 10.0,
    width: int = 16,
    blocks: int = 5,
    lr: float = 3e-3,
    flip: float = 0.5,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 2,
    steps: int = 600,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: a folder of pictures, in it or below it, every fifth for testing; or "photographs", scikit-learn's two.
        style: a picture; "china" and "flower" come with scikit-learn.
        image_size: side of the squares that are trained on, in pixels.
        style_size: pixels of the style's longer side, which decides on the size of strokes; 0 is twice image_size.
        longest: a picture to be repainted keeps its proportions; its longer side is at most so long.
        network: of the trunk that judges, such as vgg16 or vgg19.
        weights: of the trunk: a file, the folder of a run, or the name of published ones, vgg16; "" is random weights.
        content_layers: names of the trunk's features that are compared one by one.
        style_layers: names of those whose Gram matrices are compared.
        alpha: factor of the content's cost.
        beta: factor of the style's cost.
        variation: factor of the total variation.
        width: of the network that is trained, in channels; 32 in the paper.
        blocks: residual ones of it.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        flip: probability of mirroring while training.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        batch_size: pictures a step.
        steps: updates of the parameters.
        seed: of parameters, order of the data and augmentation.
    """
    train, test = photograph_data(data, image_size=image_size, longest=longest)
    model = models.FastStyle(
        painter=models.TransformerNet(width=width, blocks=blocks),
        trunk=fitting(network, weights, known=models.TRUNKS),
        content_layers=content_layers,
        style_layers=style_layers,
    )
    batches, size = train.batches(batch_size, seed=seed), style_size or 2 * image_size
    return Experiment(
        model=model,
        initial=painter(weights, model, batches, styles=(style,), style_size=size),
        trainable="painter",
        loss=partial(
            losses.style_transfer,
            alpha=alpha,
            beta=beta,
            variation=variation,
            content_layers=dict.fromkeys(content_layers, 1.0 / len(content_layers)),
            style_layers=dict.fromkeys(style_layers, 1.0 / len(style_layers)),
        ),
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=0.0),
        train_data=batches,
        test_data=test.batches(4),
        augment=partial(augment.images, flip=flip),
        predict=predict.stylised,
        animate=True,
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
