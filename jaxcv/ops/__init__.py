"""Pure functions of arrays, to import one by one: `from jaxcv.ops import nms`.

The contract: jitted, working under `vmap` and `grad`, static shapes with masks, empty and degenerate input accepted
with finite values and slopes, every option keyword-only, float options allowed to be tracers, `key` first where there
is one. Images are NHWC, boxes xyxy; names are torchvision's where it has one.

    boxes      box_convert box_area box_iou paired_box_iou generalized_box_iou paired_generalized_box_iou
               clip_boxes_to_image encode_boxes decode_boxes
    anchors    kmeans_anchor_boxes match_anchor_boxes shape_iou
    grids      decode_yolo encode_yolo
    nms        nms batched_nms
    images     to_float resized_crop affine boxes_in_window adjust_colors upsample2x
    conv       conv2d depthwise_conv2d; on ints: conv_output_size conv_parameters conv_multiply_adds
    normalization  local_response_norm
    pool       max_pool2d avg_pool2d adaptive_avg_pool2d
"""

from jaxcv.ops.anchors import AnchorBoxes, kmeans_anchor_boxes, match_anchor_boxes, shape_iou
from jaxcv.ops.boxes import (
    BoxFormat,
    box_area,
    box_convert,
    box_iou,
    clip_boxes_to_image,
    decode_boxes,
    encode_boxes,
    generalized_box_iou,
    paired_box_iou,
    paired_generalized_box_iou,
)
from jaxcv.ops.conv import (
    Padding,
    conv2d,
    conv_multiply_adds,
    conv_output_size,
    conv_parameters,
    depthwise_conv2d,
)
from jaxcv.ops.grids import GridTargets, decode_yolo, encode_yolo
from jaxcv.ops.images import adjust_colors, affine, boxes_in_window, resized_crop, to_float, upsample2x
from jaxcv.ops.nms import batched_nms, nms
from jaxcv.ops.normalization import local_response_norm
from jaxcv.ops.pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d

__all__ = [
    "AnchorBoxes",
    "BoxFormat",
    "GridTargets",
    "Padding",
    "adaptive_avg_pool2d",
    "adjust_colors",
    "affine",
    "avg_pool2d",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "boxes_in_window",
    "clip_boxes_to_image",
    "conv2d",
    "conv_multiply_adds",
    "conv_output_size",
    "conv_parameters",
    "decode_boxes",
    "decode_yolo",
    "depthwise_conv2d",
    "encode_boxes",
    "encode_yolo",
    "generalized_box_iou",
    "kmeans_anchor_boxes",
    "local_response_norm",
    "match_anchor_boxes",
    "max_pool2d",
    "nms",
    "paired_box_iou",
    "paired_generalized_box_iou",
    "resized_crop",
    "shape_iou",
    "to_float",
    "upsample2x",
]
