"""A siamese network: whether two pictures show the same character, and so which of twenty one picture each tells of.

Claim: not measured.

Papers: Koch, Zemel, Salakhutdinov, Siamese neural networks for one-shot image recognition, 2015; Lake, Salakhutdinov,
Tenenbaum, Human-level concept learning through probabilistic program induction, 2015 (the protocol).

    python launch.py experiments/siamese.py
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import embedding_data
from jaxcv.train import Experiment, optimizers


def experiment(
    *,
    data: str = "digits",
    unseen: str = "",
    way: int = 3,
    episodes: int = 20,
    image_size: int = 28,
    on_error: str = "raise",
    similarity: Literal["weighted", "chi_square", "cosine"] = "weighted",
    width: int = 16,
    dimensions: int = 128,
    pool: Literal["average", "flatten"] = "average",
    dropout: float = 0.0,
    lr: float = 2e-3,
    weight_decay: float = 5e-2,
    shift: float = 0.1,
    scale: float = 0.2,
    rotate: float = 12.0,
    shear: float = 12.0,
    elastic: float | None = 0.4,
    batch_size: int = 64,
    pictures: int = 4,
    grouped: bool = False,
    steps: int = 600,
    ema: float | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    seed: int = 0,
) -> Experiment:
    """Compose the run."""
    train, test = embedding_data(data, unseen=unseen, image_size=image_size, on_error=on_error)
    backbone = models.ResNet(
        stage_sizes=(1, 1, 1), block=models.BasicBlock, width=width, small_images=True, mean=(0.1,), std=(0.3,)
    )
    return Experiment(
        model=models.Siamese(backbone, similarity=similarity, dimensions=dimensions, pool=pool, dropout=dropout),
        loss=losses.pair_cross_entropy,
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay, clip=10.0),
        train_data=train.identity_batches(batch_size, pictures=pictures, grouped=grouped, seed=seed),
        test_data=test.episode_batches(way=way, shot=1, count=episodes),
        augment=partial(augment.images, shift=shift, scale=scale, rotate=rotate, shear=shear, elastic=elastic),
        predict=predict.similarities,
        metrics={
            "one_shot": metrics.few_shot("accuracy", way=way),
            "margin95": metrics.few_shot("margin", way=way),
            "EER": metrics.verification("EER"),
        },
        ema=ema,
        steps=steps,
        seed=seed,
    )
