"""A siamese network: whether two pictures show the same character, and so which of twenty one picture each tells of.

Claim: of Omniglot's Latin alphabet, never seen (110 characters of four other alphabets to learn from), twenty-way
one-shot accuracy 0.846 (0.8425, 0.8525, 0.8425; 20 episodes of 20 drawings against 20) by the second command (n=3,
seeds 0 to 2; 13 minutes for all three on 2 AMD EPYC cores (Zen 5) beside much other work, jax 0.10.2, flax 0.12.8);
with turned=0. steps=600 0.803 (n=3, sd 0.013). Of three embedded digits never seen, one-shot accuracy 0.733, equal
error rate 0.263, by the first command (n=1, seed 0; 19 s).

Papers: Koch, Zemel, Salakhutdinov, Siamese neural networks for one-shot image recognition, 2015; Lake, Salakhutdinov,
Tenenbaum, Human-level concept learning through probabilistic program induction, 2015 (the protocol).

    python launch.py experiments/siamese.py
    python launch.py experiments/siamese.py data=omniglot:PATH unseen=Latin way=20 grouped=True width=32
        batch_size=64 pictures=4 turned=1. steps=1200 seed=0,1,2      # one line
"""

from typing import Any, Literal

import jax

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import Resize, embedding_data
from jaxcv.train import Experiment, optimizers
from jaxcv.types import Batch


def experiment(
    *,
    data: str = "digits",
    unseen: str = "",
    runs: str = "",
    way: int = 3,
    episodes: int = 20,
    image_size: int = 28,
    resize: Resize | None = None,
    on_error: str = "raise",
    similarity: Literal["weighted", "chi_square", "cosine"] = "weighted",
    width: int = 16,
    dimensions: int = 128,
    lr: float = 2e-3,
    weight_decay: float = 5e-2,
    shift: float = 0.1,
    scale: float = 0.2,
    rotate: float = 12.0,
    shear: float = 12.0,
    elastic: float = 0.4,
    turned: float = 0.0,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 56,
    pictures: int = 8,
    grouped: bool = False,
    steps: int = 300,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "digits" (embedded: seven to learn, three never seen), "omniglot:PATH" or "faces:PATH" (a folder for each
            person).
        unseen: identities for testing alone: a number, so many of the last ones, or the name of one or of an alphabet;
            "" takes a fifth.
        runs: folder with Omniglot's published runs, run01 and so on, to test on instead; they are 20-way.
        way: characters of a test episode, all of one alphabet, each known by one drawing; of twenty, 20 x 20 pairs.
        episodes: how many.
        image_size: side of the square network input in pixels.
        resize: how pictures become square, "shortest" (their middle), "letterbox" or "squash"; None: as suits the set.
        on_error: "raise" or "skip" for faulty pictures; skipping says how many.
        similarity: of embeddings f and g, into a logistic unit: weighted |f - g|, (f - g)^2 / (f + g), or the cosine.
        width: channels of the first stage.
        dimensions: of the embedding.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        weight_decay: AdamW's, decoupled.
        shift: largest translation while training, as a fraction of the image side.
        scale: largest relative zoom while training.
        rotate: largest rotation while training, either way, in degrees.
        shear: largest shear while training, either way, in degrees.
        elastic: how near to folding a drawing is bent while training, in [0, 1).
        turned: probability that a class of a batch is another one, by turning and mirroring all its drawings alike.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        batch_size: examples a step, of which all pairs are compared.
        pictures: of each identity in a batch.
        grouped: whether the identities of a batch are of one alphabet, as in the episodes.
        steps: updates of the parameters.
        seed: of parameters, order of the data and augmentation.
    """
    train, test = embedding_data(data, unseen=unseen, image_size=image_size, on_error=on_error, resize=resize)
    if runs:
        test_data = embedding_data(f"omniglot_runs:{runs}", image_size=image_size)[1].batches(2 * way)
    else:
        test_data = test.episode_batches(way=way, shot=1, count=episodes)
    size = {"stage_sizes": (1, 1, 1), "width": width, "small_images": True}
    backbone = models.ResNet(**size, block=models.BasicBlock, mean=(0.1,), std=(0.3,))

    def augmented(key: Any, batch: Batch) -> Batch:
        one, other = jax.random.split(key)
        batch = augment.images(one, batch, shift=shift, scale=scale, rotate=rotate, shear=shear, elastic=elastic)
        return augment.class_symmetries(other, batch, probability=turned)

    return Experiment(
        model=models.Siamese(backbone, similarity=similarity, dimensions=dimensions),
        loss=losses.pair_cross_entropy,
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay, clip=10.0),
        train_data=train.identity_batches(batch_size, pictures=pictures, grouped=grouped, seed=seed),
        test_data=test_data,
        augment=augmented,
        predict=predict.similarities,
        metrics={
            "one_shot": metrics.few_shot("accuracy", way=way),
            "one_shot_margin": metrics.few_shot("margin", way=way),
            "EER": metrics.verification("EER"),
        },
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
