"""Networks as pure Linen modules.

`variables = model.init(key, image)`; `outputs, features = model.apply(variables, image, train=False)`. Images are
NHWC `float32` in [0, 1]; a model standardises inside with its own `mean` and `std`. `features` names the activations
of each stage, in the paper's words. With `train=True`, pass `mutable=["batch_stats"]` to models that have batch
normalisation. Variants are `partial`s of their family, so every one takes the family's fields.
"""

from jaxcv.models.lenet import LeNet, lenet5
from jaxcv.models.yolo import YOLO

__all__ = ["YOLO", "LeNet", "lenet5"]
