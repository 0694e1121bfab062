"""Pure functions of arrays, to import one by one: `from jaxcv.ops import nms`.

The contract: jitted, working under `vmap` and `grad`, static shapes with masks, empty and degenerate input accepted
with finite values and gradients, every option keyword-only, float options allowed to be tracers, `key` first where
there is one. Images are NHWC, boxes xyxy, angles degrees; names are torchvision's where it has one. Results have the
inputs' precision, except that whatever is computed from boxes is at least float32.

    boxes      box_convert box_area box_iou paired_box_iou generalized_box_iou paired_generalized_box_iou
               clip_boxes_to_image encode_boxes decode_boxes largest_box
    box_distances  distance_box_iou complete_box_iou paired_distance_box_iou paired_complete_box_iou
    anchors    kmeans_anchor_boxes match_anchor_boxes shape_iou
    anchor_grids  anchor_grid; on numbers: anchor_sizes
    matching   match_boxes balanced_sample
    proposals  region_proposals
    grids      decode_yolo encode_yolo decode_yolo_v1
    nms        nms batched_nms
    soft_nms   soft_nms matrix_nms
    roi        roi_align multiscale_roi_align
    roi_pool   roi_pool crop_and_resize
    features   gram_matrix
    distances  cosine_similarity paired_distances paired_squared_distances
               pairwise_cosine_similarity pairwise_distances pairwise_squared_distances
    heatmaps   soft_argmax gaussian_heatmaps
    images     to_float resized_crop affine boxes_in_window adjust_colors upsample2x
               upsample_bilinear
    colors     adjust_hue
    warps      warp affine_matrix affine_points affine_positions invert_affine
               elastic_points elastic_positions invert_elastic; on ints: elastic_limit
    conv       conv2d depthwise_conv2d conv_transpose2d; on ints: conv_output_size conv_parameters conv_multiply_adds
    normalization  batch_norm instance_norm local_response_norm
    sliding    sliding_windows image_pyramid; on ints: window_boxes pyramid_scales
    pool       max_pool2d avg_pool2d adaptive_avg_pool2d
    unpool     max_pool2d_positions max_unpool2d
"""

from jaxcv.ops.anchor_grids import anchor_grid, anchor_sizes
from jaxcv.ops.anchors import AnchorBoxes, kmeans_anchor_boxes, match_anchor_boxes, shape_iou
from jaxcv.ops.box_distances import (
    complete_box_iou,
    distance_box_iou,
    paired_complete_box_iou,
    paired_distance_box_iou,
)
from jaxcv.ops.boxes import (
    BoxFormat,
    box_area,
    box_convert,
    box_iou,
    clip_boxes_to_image,
    decode_boxes,
    encode_boxes,
    generalized_box_iou,
    largest_box,
    paired_box_iou,
    paired_generalized_box_iou,
)
from jaxcv.ops.colors import adjust_hue
from jaxcv.ops.conv import (
    Padding,
    conv2d,
    conv_multiply_adds,
    conv_output_size,
    conv_parameters,
    conv_transpose2d,
    depthwise_conv2d,
)
from jaxcv.ops.distances import (
    cosine_similarity,
    paired_distances,
    paired_squared_distances,
    pairwise_cosine_similarity,
    pairwise_distances,
    pairwise_squared_distances,
)
from jaxcv.ops.features import gram_matrix
from jaxcv.ops.grids import GridTargets, YoloOutputs, decode_yolo, decode_yolo_v1, encode_yolo
from jaxcv.ops.heatmaps import gaussian_heatmaps, soft_argmax
from jaxcv.ops.images import (
    adjust_colors,
    affine,
    boxes_in_window,
    resized_crop,
    to_float,
    upsample2x,
    upsample_bilinear,
)
from jaxcv.ops.matching import Matches, balanced_sample, match_boxes
from jaxcv.ops.nms import batched_nms, nms
from jaxcv.ops.normalization import batch_norm, instance_norm, local_response_norm
from jaxcv.ops.pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d
from jaxcv.ops.proposals import region_proposals
from jaxcv.ops.roi import multiscale_roi_align, roi_align
from jaxcv.ops.roi_pool import crop_and_resize, roi_pool
from jaxcv.ops.sliding import Scales, image_pyramid, pyramid_scales, sliding_windows, window_boxes
from jaxcv.ops.soft_nms import matrix_nms, soft_nms
from jaxcv.ops.unpool import max_pool2d_positions, max_unpool2d
from jaxcv.ops.warps import (
    Interpolation,
    affine_matrix,
    affine_points,
    affine_positions,
    elastic_limit,
    elastic_points,
    elastic_positions,
    invert_affine,
    invert_elastic,
    warp,
)

__all__ = [
    "AnchorBoxes",
    "BoxFormat",
    "GridTargets",
    "Interpolation",
    "Matches",
    "Padding",
    "Scales",
    "YoloOutputs",
    "adaptive_avg_pool2d",
    "adjust_colors",
    "adjust_hue",
    "affine",
    "affine_matrix",
    "affine_points",
    "affine_positions",
    "anchor_grid",
    "anchor_sizes",
    "avg_pool2d",
    "balanced_sample",
    "batch_norm",
    "batched_nms",
    "box_area",
    "box_convert",
    "box_iou",
    "boxes_in_window",
    "clip_boxes_to_image",
    "complete_box_iou",
    "conv2d",
    "conv_multiply_adds",
    "conv_output_size",
    "conv_parameters",
    "conv_transpose2d",
    "cosine_similarity",
    "crop_and_resize",
    "decode_boxes",
    "decode_yolo",
    "decode_yolo_v1",
    "depthwise_conv2d",
    "distance_box_iou",
    "elastic_limit",
    "elastic_points",
    "elastic_positions",
    "encode_boxes",
    "encode_yolo",
    "gaussian_heatmaps",
    "generalized_box_iou",
    "gram_matrix",
    "image_pyramid",
    "instance_norm",
    "invert_affine",
    "invert_elastic",
    "kmeans_anchor_boxes",
    "largest_box",
    "local_response_norm",
    "match_anchor_boxes",
    "match_boxes",
    "matrix_nms",
    "max_pool2d",
    "max_pool2d_positions",
    "max_unpool2d",
    "multiscale_roi_align",
    "nms",
    "paired_box_iou",
    "paired_complete_box_iou",
    "paired_distance_box_iou",
    "paired_distances",
    "paired_generalized_box_iou",
    "paired_squared_distances",
    "pairwise_cosine_similarity",
    "pairwise_distances",
    "pairwise_squared_distances",
    "pyramid_scales",
    "region_proposals",
    "resized_crop",
    "roi_align",
    "roi_pool",
    "shape_iou",
    "sliding_windows",
    "soft_argmax",
    "soft_nms",
    "to_float",
    "upsample2x",
    "upsample_bilinear",
    "warp",
    "window_boxes",
]
