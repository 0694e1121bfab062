"""Faster R-CNN: a network proposes regions, and a second stage on the same features classifies and refines them.

Ren, He, Girshick, Sun: Faster R-CNN: towards real-time object detection with region proposal networks.
https://arxiv.org/abs/1506.01497
"""

from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float, Shaped

from jaxcv import ops
from jaxcv.models.fpn import FPN
from jaxcv.models.layers import ConvNormAct
from jaxcv.models.regions import RegionHead, sampled_regions
from jaxcv.models.resnet import resnet50
from jaxcv.models.rpn import RPN
from jaxcv.models.trunk import trunk_features
from jaxcv.types import Scalar, TwoStageOutputs


class FasterRCNN(nn.Module):
    """Trunk, perhaps a feature pyramid, region proposal network, RoIAlign, and the head of Fast R-CNN.

    Takes [b h w c] in [0, 1], height and width divisible by the coarsest stride; and in training the targets, boxes
    [b m 4] with valid [b m], of which a sample of the regions is made; in evaluation they are not looked at. Returns
    `TwoStageOutputs` and the features of the trunk with `level1 level2 ..`, finest first. Trains jointly (section 3.2,
    "approximate joint training") with `losses.faster_rcnn`; `predict.rcnn` makes detections.

    Deviations from the paper: RoIAlign (Mask R-CNN) instead of RoI pooling; initial values follow He et al.
    """

    anchor_boxes: ops.AnchorBoxes
    """Widths and heights in pixels, divided evenly among the levels, the first ones to the finest; the paper's are
    `ops.anchor_sizes((128, 256, 512), (0.5, 1, 2))`, those of a data set come from its `anchor_boxes`."""
    num_classes: int = 90
    """Without background."""
    backbone: nn.Module | None = None
    """None: `resnet50` with frozen normalisation."""
    stages: tuple[str | int, ...] = (4, 8, 16, 32)
    """Features of the backbone, finest first: names, or strides for the last feature of each stride."""
    pyramid_channels: int | None = 256
    """Of a feature pyramid over them; None: none, as in the paper, with one stage."""
    extra_level: bool = True
    """Of the pyramid, for anchor boxes alone."""
    max_candidates: tuple[int, int] = (2000, 1000)
    max_proposals: tuple[int, int] = (2000, 1000)
    proposal_iou: Scalar = 0.7
    """These three as in `RPN`."""
    samples: int = 512
    """Regions of an image that are trained on."""
    positive_fraction: Scalar = 0.25
    """Most of them that are of objects."""
    roi_size: int = 7
    fc_widths: tuple[int, ...] = (1024, 1024)
    dropout: Scalar = 0.0
    """These two as in `RegionHead`."""

    @nn.compact
    def __call__(
        self,
        images: Float[Array, "b h w c"],
        boxes: Float[Array, "b m 4"] | None = None,
        valid: Shaped[Array, "b m"] | None = None,
        *,
        train: bool = False,
    ) -> tuple[TwoStageOutputs, dict[str, Array]]:
        """`train` samples regions about the targets, and is given to the backbone."""
        network = self.backbone
        if network is None:
            network = resnet50(unit=partial(ConvNormAct, frozen=True), name="backbone")
        features, levels = trunk_features(network, images, self.stages, train=train)
        image_size, pooled = (images.shape[1], images.shape[2]), len(levels)
        if self.pyramid_channels is not None:
            levels = FPN(self.pyramid_channels, self.extra_level, name="fpn")(levels)
        features |= {f"level{i}": x for i, x in enumerate(levels, start=1)}
        rpn = RPN(self.anchor_boxes, self.max_candidates, self.max_proposals, self.proposal_iou, name="rpn")
        proposals = rpn(levels, image_size, train=train)
        regions, there = proposals.boxes, proposals.valid
        if train:
            fraction = self.positive_fraction
            key = self.make_rng("dropout")
            regions, there = sampled_regions(
                key, regions, there, boxes, valid, count=self.samples, positive_fraction=fraction
            )
        x = ops.multiscale_roi_align(tuple(levels[:pooled]), regions, output_size=self.roi_size, image_size=image_size)
        head = RegionHead(self.num_classes, self.fc_widths, self.dropout, name="head")
        return TwoStageOutputs(proposals, head(x, regions, there, train=train)), features


_SIZES = (ops.anchor_sizes((scale,), (0.5, 1.0, 2.0)) for scale in (32, 64, 128, 256, 512))
fasterrcnn_resnet50_fpn = partial(FasterRCNN, anchor_boxes=sum(_SIZES, ()))
