"""What a trained network sees: the patches of a set that excite its units most, and pictures made to excite them more.

Claim: docs/what_it_sees.png has above a LeNet after 800 steps on MNIST, by the second command with steps=150: edges in
conv1, strokes in conv2, digits in fc3. Below is MobileNetV1 with ImageNet's weights on 202 parts of photographs
(fruits, lectures, cat.bmp and bird.bmp of Open Images, scikit-learn's and scikit-image's), by the third with steps=80:
colours and edges in the stem, folds and outlines in block2, roofs and petals in block5, pagodas and cats' faces in
block11. Both n=1, 2 AMD EPYC cores (Zen 5), jax 0.10.2, flax 0.12.8; MobileNet 41 s of CPU. The pictures that are made
are poor: half of LeNet's stay grey, as their units are dead at noise; MobileNet's excite as much as the best patch and
look like noise.

Papers: Zeiler, Fergus, Visualizing and understanding convolutional networks, ECCV 2014 (patches); Erhan et al.,
Visualizing higher-layer features of a deep network, 2009 (activation maximisation).

    python launch.py experiments/what_it_sees.py                                 # a LeNet with random weights
    python launch.py experiments/what_it_sees.py data=mnist:PATH weights=runs/lenet/RUN
    python launch.py experiments/what_it_sees.py data=folder:PATH network=mobilenet_v1 weights=FILE image_size=128 \
        "layers=('stem','block2','block5','block11')"

The figures are `previews/sees_LAYER.png` in the run's folder: a row a unit, the picture made for it, then the patches.
"""

from functools import partial
from typing import Literal

from jaxcv import losses, metrics, models, predict
from jaxcv.data import classification_data
from jaxcv.train import Experiment, optimizers
from jaxcv.weights import network as fitting
from jaxcv.weights import pretrained


def experiment(
    *,
    data: str = "digits",
    image_size: int = 32,
    network: str = "lenet5",
    weights: str = "",
    layers: tuple[str, ...] = ("conv1", "conv2", "fc3"),
    units: int = 6,
    patches: int = 9,
    decay: float = 1.0,
    variation: float = 10.0,
    lr: float = 0.02,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 64,
    steps: int = 200,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits", "mnist:PATH", "folder:PATH" or another set of pictures with labels, which are not read.
        image_size: side of the pictures, in pixels.
        network: whose units are looked at, such as lenet5, vgg16 or mobilenet_v1.
        weights: of the network: a file, the folder of a run, or the name of published ones; "" is random weights.
        layers: names of its features; --dry-run lists those of a network whose name is wrong.
        units: channels of each layer that are looked at, the first ones.
        patches: in a row of the figure, from different pictures.
        decay: factor of the squared distance from grey of a picture that is made.
        variation: factor of its total variation.
        lr: peak learning rate of Adam after a linear warm-up; falls to 0 along a cosine.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        batch_size: pictures of the set that are looked at together.
        steps: updates of the pictures that are made.
        seed: of the noise that they start from.
    """
    train, test = classification_data(data, image_size=image_size)
    seen = fitting(network, weights)
    model = models.Seer(network=seen, layers=layers, units=units)
    (_, *shape) = test.batches(1).spec["image"].shape
    fields = models.receptive_fields(seen, (shape[0], shape[1], shape[2]))
    looked_at = tuple((name, fields[name][0], min(units, fields[name][1])) for name in layers if name in fields)
    return Experiment(
        model=model,
        initial=pretrained(weights, seen, within="network") if weights else None,
        trainable="pictures",
        loss=partial(losses.excitement, decay=decay, variation=variation),
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=0.0),
        train_data=train.batches(1, seed=seed),
        test_data=test.batches(batch_size),
        predict=predict.peaks,
        metrics={"excess": metrics.top_patches(fields=looked_at, count=patches)},
        evaluate_every=steps,
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
