"""R-CNN and Fast R-CNN: regions proposed by somebody else, classified and refined.

Girshick, Donahue, Darrell, Malik: Rich feature hierarchies. https://arxiv.org/abs/1311.2524
Girshick: Fast R-CNN. https://arxiv.org/abs/1504.08083
"""

from typing import Literal

import flax.linen as nn
from jaxtyping import Array, Float, Shaped

from jaxcv import ops
from jaxcv.models.fpn import FPN
from jaxcv.models.regions import RegionHead, sampled_regions
from jaxcv.models.trunk import trunk_features
from jaxcv.types import Regions, Scalar


class FastRCNN(nn.Module):
    """One pass of the trunk over the image; each region is pooled from its features, classified and refined.

    Takes [b h w c] in [0, 1], `proposals` [b n 4] xyxy in pixels, those without area padding; and in training the
    targets, `boxes` [b m 4] with `valid` [b m], which are not looked at in evaluation. Returns `Regions`, and the
    trunk's features with `level1 ..` and `regions` [b n oh ow c]. Trains with `losses.fast_rcnn`; `predict.rcnn` makes
    detections.
    """

    num_classes: int
    """Without background."""
    backbone: nn.Module
    stages: tuple[str | int, ...] = (16,)
    """As in `FasterRCNN`."""
    pyramid_channels: int | None = None
    """As in `FasterRCNN`; None: none, as in the paper, with one stage."""
    pool: Literal["max", "align"] = "max"
    """The paper's RoI pooling, of the finest level alone, or RoIAlign (https://arxiv.org/abs/1703.06870)."""
    roi_size: int = 7
    samples: int = 64
    """Regions of an image that are trained on."""
    positive_fraction: Scalar = 0.25
    fc_widths: tuple[int, ...] = (1024, 1024)
    """4096 each in the paper."""
    dropout: Scalar = 0.0

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w c"],
        proposals: Float[Array, "b n 4"],
        boxes: Float[Array, "b m 4"] | None = None,
        valid: Shaped[Array, "b m"] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Regions, dict[str, Array]]:
        """`train` samples regions about the targets, and is given to the backbone."""
        features, levels = trunk_features(self.backbone, images, self.stages, train=train)
        if self.pyramid_channels is not None:
            levels = FPN(self.pyramid_channels, extra=False, finest_alone=self.pool == "max", name="fpn")(levels)
        features |= {f"level{i}": x for i, x in enumerate(levels, start=1)}
        key = self.make_rng("dropout") if train else None
        regions, there = _regions(key, proposals, boxes, valid, self.samples, self.positive_fraction)
        size = (images.shape[1], images.shape[2])
        if self.pool == "align":
            x = ops.multiscale_roi_align(tuple(levels), regions, output_size=self.roi_size, image_size=size)
        else:
            scale = levels[0].shape[1] / size[0]
            x = ops.roi_pool(levels[0], regions, output_size=self.roi_size, spatial_scale=scale)
        features["regions"] = x
        head = RegionHead(self.num_classes, self.fc_widths, self.dropout, name="head")
        return head(x, regions, there, train=train), features


class RCNN(nn.Module):
    """Each region is cut out of the image, warped to one size, and put through a network of its own.

    Arguments and results are those of `FastRCNN`; `features["crops"]` are the crops [b n s s c]. Deviations from the
    paper: class logits and box deltas are layers on the network's last features, trained together, instead of support
    vector machines and regressions fitted after it (as Fast R-CNN, section 2.3, found to be as good).
    """

    num_classes: int
    """Without background."""
    backbone: nn.Module
    """Any network that classifies."""
    crop_size: int = 32
    """Height and width of a crop in pixels: 227 in the paper."""
    context: Scalar = 16 / 195
    """As in `ops.crop_and_resize`."""
    samples: int = 32
    """As in `FastRCNN`; 128 of a batch in the paper."""
    positive_fraction: Scalar = 0.25
    fc_widths: tuple[int, ...] = ()
    dropout: Scalar = 0.0
    feature: str = "pool"
    """Of the network: what the second stage reads, `fc7` of AlexNet in the paper; here without dense layers."""

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w c"],
        proposals: Float[Array, "b n 4"],
        boxes: Float[Array, "b m 4"] | None = None,
        valid: Shaped[Array, "b m"] | None = None,
        *,
        train: bool = False,
    ) -> tuple[Regions, dict[str, Array]]:
        """`train` samples regions about the targets, and is given to the backbone."""
        key = self.make_rng("dropout") if train else None
        regions, there = _regions(key, proposals, boxes, valid, self.samples, self.positive_fraction)
        crops = ops.crop_and_resize(images, regions, output_size=self.crop_size, context=self.context)
        every = crops.reshape(-1, *crops.shape[2:])
        features, (x,) = trunk_features(self.backbone, every, (self.feature,), train=train)
        x = x.reshape(*regions.shape[:2], -1)
        head = RegionHead(self.num_classes, self.fc_widths, self.dropout, name="head")
        return head(x, regions, there, train=train), {**features, "crops": crops}


def _regions(
    key: Array | None,
    proposals: Array,
    boxes: Array | None,
    valid: Array | None,
    samples: int,
    positive_fraction: Scalar,
) -> tuple[Array, Array]:
    """All proposals that have an area, or with a key a sample of them and of the targets."""
    there = ops.box_area(proposals) > 0
    if key is None:
        return proposals, there
    fraction = positive_fraction
    return sampled_regions(key, proposals, there, boxes, valid, count=samples, positive_fraction=fraction)
