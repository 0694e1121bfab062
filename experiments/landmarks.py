"""Landmarks: the 68 points of a face, as 2n numbers or as heat maps.

Claim: on 36 pictures of 6 people (68 points, YouTube Faces; trained on 150 pictures of 25 others), normalised mean
error 0.099 with heat maps (sd 0.007; 0.0915, 0.1046, 0.1004) and 0.131 by regression (sd 0.010; 0.1367, 0.1191,
0.1372), beside 0.293 of the set's own mean face (n=3 each, seeds 0 to 2, 2 AMD EPYC (Zen 5) cores, jax 0.10.2, flax
0.12.8), by the first command. With so few pictures, heat maps still err by more than 0.1 on 31 to 44 % of the faces.

Errors are distances over that of the outer corners of the eyes (points 36 and 45, counted from 0).

    python launch.py experiments/landmarks.py data=points:PATH swap=face_68 head=heatmaps,regression seed=0,1,2
    python launch.py experiments/landmarks.py                                       # drawn faces, embedded
"""

from functools import partial
from typing import Literal

from jaxcv import augment, losses, metrics, models, predict
from jaxcv.data import landmark_data
from jaxcv.train import Experiment, kernels, optimizers

SWAPS = {"face_68": augment.FACE_68, "coco_17": augment.COCO_17}


def experiment(
    *,
    data: str = "drawn",
    on_error: str = "raise",
    image_size: int = 96,
    swap: Literal["names", "face_68", "coco_17"] = "names",
    head: Literal["heatmaps", "regression"] = "heatmaps",
    form: Literal["wing", "mse"] = "wing",
    wing_width: float = 5.0,
    wing_curvature: float = 1.0,
    sigma: float = 1.0,
    heatmap_weight: float = 1.0,
    lr: float = 3e-3,
    weight_decay: float = 5e-2,
    width: int = 32,
    flip: float = 0.5,
    shift: float = 0.12,
    scale: float = 0.35,
    rotate: float = 25.0,
    shear: float = 15.0,
    elastic: float = 0.3,
    color: float = 0.4,
    ema: float = 0.99,
    dtype: Literal["float32", "bfloat16"] = "float32",
    batch_size: int = 32,
    steps: int = 1_500,
    seed: int = 0,
) -> Experiment:
    """Compose the run.

    Args:
        data: "drawn" (embedded cartoons), "points:PATH" (tables), "pts:PATH" (300-W's files) or "coco:PATH".
        on_error: "raise" or "skip" for faulty examples of a set on disk; skipping says how many.
        image_size: side of the square network input in pixels, a multiple of 16.
        swap: which points change places in mirror images: "names" by what the set calls them (of "drawn" and of 68
            points of "pts" as "face_68"), or a face's 68 or COCO's 17; where nobody says, nothing is mirrored.
        head: "heatmaps" (soft-argmax of one map a point) or "regression" (2n numbers).
        form: of the points' loss, "wing" or "mse".
        wing_width: where the wing loss becomes linear, in pixels of the network's input.
        wing_curvature: how steep it is below, in pixels.
        sigma: width of the bells that heat maps are drawn towards, in cells of 4 pixels.
        heatmap_weight: factor of that term.
        lr: peak learning rate of AdamW after a linear warm-up; falls to 0 along a cosine.
        weight_decay: AdamW's, decoupled, of kernels alone.
        width: channels of the trunk's first stage.
        flip: probability of mirroring while training, where it is known which points change places.
        shift: largest translation while training, as a fraction of the side.
        scale: largest change of size while training.
        rotate: largest rotation while training, either way, in degrees.
        shear: largest shear along x while training, either way, in degrees.
        elastic: how near to folding pictures are bent while training, below 1.
        color: largest relative change of brightness, contrast and saturation while training.
        ema: decay of the moving average of the parameters that is evaluated.
        dtype: what the network computes in; parameters, statistics and losses stay float32.
        batch_size: examples a step.
        steps: updates of the parameters.
        seed: of parameters, order of the data and augmentation.
    """
    train, test = landmark_data(data, image_size=image_size, on_error=on_error)
    num_points = train.source.spec()["points"].shape[0]
    is_face = data == "drawn" or (data.startswith("pts:") and num_points == 68)
    swaps = SWAPS["face_68"] if is_face and swap == "names" else SWAPS.get(swap, train.swap)
    backbone = models.ResNet(stage_sizes=(1, 1, 1), width=width)
    loss = {"form": form, "width": wing_width, "curvature": wing_curvature}
    moved = {"shift": shift, "scale": scale, "rotate": rotate, "shear": shear}
    sides = (image_size, image_size)
    if head == "heatmaps":
        composed = {
            "model": models.LandmarkHeatmaps(backbone=backbone, num_points=num_points),
            "loss": partial(losses.heatmaps, **loss, sigma=sigma, heatmap_weight=heatmap_weight),
            "predict": partial(predict.heatmaps, image_size=sides),
        }
    else:
        composed = {
            "model": models.LandmarkRegressor(backbone=backbone, num_points=num_points),
            "loss": partial(losses.landmarks, **loss),
            "predict": partial(predict.landmarks, image_size=sides),
        }
    return Experiment(
        **composed,
        optimizer=optimizers.adamw(lr, steps=steps, weight_decay=weight_decay, mask=kernels, clip=10.0),
        train_data=train.batches(batch_size, seed=seed),
        test_data=test.batches(batch_size),
        augment=partial(
            augment.landmarks, flip=flip if swaps else 0.0, **moved, elastic=elastic, color=color, swap=swaps
        ),
        metrics={name: metrics.landmark_error(name) for name in ("AUC", "NME", "failures", "mean_shape_NME")},
        ema=ema,
        compute_dtype=dtype,
        steps=steps,
        seed=seed,
    )
