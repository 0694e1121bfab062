"""Augmentation: pure `(key, batch) -> batch` on the device, inside the training step.

Jitted; strengths are keyword-only and may be tracers; strength 0 leaves the pixels as they are. Boxes, masks and
points move with the picture. Angles are degrees, as they are in `jaxcv.ops` and in the experiments; of hue, a
fraction of the colour circle, as in torchvision. The numbers of an example depend on the key and its position in the
batch alone, not on the batch's size or on how it is spread over devices.

One function does all that a task needs, by one resampling:

    images        pictures with a label, and pairs
    detection     boxes
    segmentation  a mask
    landmarks     points; FACE_68 and COCO_17 say which points a mirror image swaps

Others do one thing, and are put one after another with keys of their own, `jax.random.split`:

    warp          mirror, crop, rotate, shear, scale, shift and bend; serves all the above
    crop          cut out whole pixels
    colors        brightness, contrast, saturation, hue
    pca_colors    along the main directions of the set's colours, which `jaxcv.augment.principal` computes
    transpose     exchange rows and columns
    class_symmetries    turn and mirror every class its own way, for losses of pairs and triplets
    blur          by Gaussian kernels
    grayscale     take the colours out
    rand_augment  operations drawn out of fourteen
    cutout        cover a rectangle
    mixup cutmix  two pictures and their labels in one
    mosaic        four pictures with boxes in one
    mixup_boxes   two pictures with boxes over each other
    detector      the last two, each perhaps, and then `detection`
"""

from jaxcv.augment.classification import images
from jaxcv.augment.colors import colors, pca_colors
from jaxcv.augment.detection import detection
from jaxcv.augment.detector import detector
from jaxcv.augment.erasing import cutout
from jaxcv.augment.filters import blur, grayscale
from jaxcv.augment.geometry import crop, warp
from jaxcv.augment.landmarks import COCO_17, FACE_68, landmarks
from jaxcv.augment.mixing import cutmix, mixup
from jaxcv.augment.mosaic import mosaic
from jaxcv.augment.overlay import mixup_boxes
from jaxcv.augment.rand_augment import rand_augment
from jaxcv.augment.segmentation import segmentation
from jaxcv.augment.symmetries import class_symmetries, transpose

__all__ = [
    "COCO_17",
    "FACE_68",
    "blur",
    "class_symmetries",
    "colors",
    "crop",
    "cutmix",
    "cutout",
    "detection",
    "detector",
    "grayscale",
    "images",
    "landmarks",
    "mixup",
    "mixup_boxes",
    "mosaic",
    "pca_colors",
    "rand_augment",
    "segmentation",
    "transpose",
    "warp",
]
