"""Transfer learning: a pretrained network's head, all of it, or the same network from scratch, side by side.

Claim: on 100 pictures of ants and bees, 50 to test, from MobileNet v1 with folded batch norm: the frozen trunk's head
0.92 (n=3 seeds, sd 0.000; 12 s), all of it 0.92, from scratch 0.60 (n=1, seed 0; some 6 minutes each),
on 2 AMD EPYC (Zen 3) cores beside other work, jax 0.10.2, flax 0.12.8. Its photographs are in ImageNet too.

    python launch.py experiments/transfer.py data=folder:PATH weights=FILE mode=frozen,finetune,scratch      # one table
    python launch.py experiments/transfer.py

Without weights the trunk is random, and so are its features: a check of the machinery, and a lower bound.
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import Resize, Sampling, classification_data
from jaxcv.train import Experiment, by_part, kernels, optimizers
from jaxcv.weights import extractor, pretrained
from jaxcv.weights import network as network_of


def experiment(
    *,
    data: str = "digits",
    weights: str = "",
    network: str = "mobilenet_v1",
    mode: Literal["frozen", "finetune", "scratch"] = "frozen",
    cache_features: bool = True,
    feature: str = "pool",
    image_size: int | None = None,
    resize: Resize | None = None,
    min_area: float | None = None,
    max_ratio: float = 4 / 3,
    num_threads: int | None = None,
    sampling: Sampling = "uniform",
    rare: float = 0.001,
    lr: float = 3e-3,
    trunk_lr: float = 0.1,
    weight_decay: float = 0.01,
    flip: float = 0.5,
    shift: float = 0.1,
    scale: float = 0.2,
    color: float = 0.2,
    randaugment: float | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 16,
    steps: int | None = None,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "folder:PATH" (class folders), "mnist:PATH" (IDX files) or "digits" (embedded).
        weights: file, or name of published weights, to start from.
        network: that of those weights, any of `jaxcv.models`.
        mode: "frozen" trains a new head alone, "finetune" all from the weights, "scratch" all from random numbers
            (with batch normalisation, where the network has a form with it).
        cache_features: for "frozen": compute the trunk's features once, of pictures without augmentation.
        feature: what the head reads, where features are cached ("fc7" for AlexNet and VGG).
        image_size: side of the pictures the network is fed; None: 224 where there are weights, else 32.
        resize: how pictures become square, "shortest" (their middle), "letterbox" or "squash"; None: as suits the set.
        min_area: of class folders and records, show a random window while training, cut out of the file, of at least
            this fraction of its area (0.08 in many papers); None: the whole picture.
        max_ratio: largest width by height, or height by width, of these windows.
        num_threads: threads that read pictures; None is one for each core.
        sampling: how often pictures are shown, "uniform", "balanced" (all classes equally often) or "repeat_factor".
        rare: of repeat_factor, the fraction of the pictures up to which a class is rare and shown more often.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        trunk_lr: for "finetune": the trunk's learning rate, as a fraction of the head's.
        weight_decay: AdamW's, of convolutions and dense layers, not of biases and normalisation.
        flip: probability of mirroring left and right, where the set allows it.
        shift: largest translation, as a fraction of the side.
        scale: largest change of size.
        color: largest change of brightness, contrast and saturation.
        randaugment: magnitude of two operations of RandAugment, 0 to 30 (9 in the paper); None costs nothing.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        batch_size: examples a step.
        steps: updates of the parameters; None: 300 with cached features, else 80.
        seed: of parameters, order of the data and augmentation.
    """
    if image_size is None:
        image_size = 224 if weights else 32
    train, test = classification_data(data, image_size=image_size, resize=resize)
    model = network_of(network, weights, num_classes=train.num_classes)
    if mode == "scratch" and hasattr(model, "norm"):
        model = model.clone(norm=True)  # without it, hardly any network of this depth learns from scratch
    if hasattr(model, "dropout"):
        model = model.clone(dropout=0.0)  # so that cached features give the same head
    cached = mode == "frozen" and cache_features
    if steps is None:
        steps = 300 if cached else 80
    if cached:
        extract = extractor(weights, model, feature=feature)
        train, test = train.with_features(extract), test.with_features(extract)
    adamw = partial(optimizers.adamw, steps=steps, warmup=0.1, weight_decay=weight_decay, mask=kernels)
    augmented = partial(augment.images, flip=flip if train.mirrors else 0.0, shift=shift, scale=scale, color=color)
    return Experiment(
        model=models.Classifier(num_classes=train.num_classes) if cached else model,
        inputs=("features",) if cached else ("image",),
        initial=pretrained(weights, model, new_head=True) if weights and mode != "scratch" and not cached else None,
        trainable="head" if mode == "frozen" else ".*",
        loss=losses.cross_entropy,
        optimizer=by_part({"head": adamw(lr), ".*": adamw(lr * trunk_lr if mode == "finetune" else lr)}),
        train_data=train.batches(
            batch_size,
            seed=seed,
            min_area=min_area,
            max_ratio=max_ratio,
            num_threads=num_threads,
            sampling=sampling,
            rare=rare,
        ),
        test_data=test.batches(32),
        augment=None if cached else partial(augmented, randaugment=randaugment),
        predict=predict.classes,
        metrics={"accuracy": metrics.accuracy(), "top5": metrics.top_k_accuracy(5)},
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
