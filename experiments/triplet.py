"""An embedding in which pictures of one identity lie close together, by the triplet loss on the hardest triplets.

Claim: not measured.

Papers: Schroff, Kalenichenko, Philbin, FaceNet, https://arxiv.org/abs/1503.03832; Hermans, Beyer, Leibe, In defense of
the triplet loss, https://arxiv.org/abs/1703.07737 (P x K batches, batch-hard).

    python launch.py experiments/triplet.py
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
    image_size: int = 32,
    on_error: str = "raise",
    mining: Literal["hard", "semihard", "all", "random"] = "hard",
    distance: Literal["squared", "euclidean", "cosine"] = "squared",
    margin: float | None = 0.2,
    form: Literal["mean", "active", "sum"] = "mean",
    width: int = 16,
    pool: Literal["average", "flatten"] = "average",
    dimensions: int = 128,
    dropout: float = 0.0,
    lr: float = 2e-3,
    weight_decay: float = 5e-2,
    flip: float = 0.5,
    shift: float = 0.1,
    scale: float = 0.15,
    rotate: float = 10.0,
    color: float = 0.2,
    elastic: float | None = None,
    batch_size: int = 64,
    pictures: int = 4,
    steps: int = 600,
    ema: float | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    seed: int = 0,
) -> Experiment:
    """Compose the run."""
    train, test = embedding_data(data, unseen=unseen, image_size=image_size, on_error=on_error)
    backbone = models.ResNet(
        stage_sizes=(1,) * 4,
        block=models.BasicBlock,
        width=width,
        small_images=image_size <= 32,
        mean=(0.5,),
        std=(0.25,),
    )
    return Experiment(
        model=models.EmbeddingNet(backbone, dimensions=dimensions, pool=pool, dropout=dropout),
        loss=partial(losses.triplet, mining=mining, distance=distance, margin=margin, form=form),
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay, clip=10.0),
        train_data=train.identity_batches(batch_size, pictures=pictures, seed=seed),
        test_data=test.batches(256),
        augment=partial(
            augment.images,
            flip=flip if train.mirrors else 0.0,
            shift=shift,
            scale=scale,
            rotate=rotate,
            color=color,
            elastic=elastic,
        ),
        predict=predict.embeddings,
        metrics={
            "EER": metrics.verification("EER"),
            "AUC": metrics.verification("AUC"),
            "accuracy": metrics.verification("accuracy"),
            "rank1": metrics.identification("rank1"),
            "refused": metrics.identification("refused"),
        },
        ema=ema,
        steps=steps,
        seed=seed,
    )
