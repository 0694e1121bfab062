"""Networks as pure Linen modules.

`variables = model.init(key, image)`; `outputs, features = model.apply(variables, image, train=False)`. Images are
NHWC `float32` in [0, 1]; a model standardises inside with its own `mean` and `std`. `features` names the activations
of each stage, in the paper's words. With `train=True`, pass `mutable=["batch_stats"]` to models that have batch
normalisation. Variants are `partial`s of their family, so every one takes the family's fields.
`named("resnet50")` is the network of a name.
`convolutionalize(model, variables)` runs a classifier over every window of a picture at once.
`saliency` and `grad_cam` show which pixels, and which part of a feature map, a class's logit depends on.
`print(summary(model, (224, 224, 3)))` shows the layers, their parameters and their cost.
"""

from jaxcv.models.alexnet import AlexNet, alexnet, alexnet_2012
from jaxcv.models.canvas import Canvas
from jaxcv.models.classifier import Classifier
from jaxcv.models.darknet import Darknet53, PlainDarknet, darknet19, darknet53, darknet_tiny, extraction
from jaxcv.models.deconvnet import DeconvNet
from jaxcv.models.embedding import EmbeddingEnsemble, EmbeddingNet, Identified, IdentityClassifier, Siamese
from jaxcv.models.explaining import grad_cam, saliency
from jaxcv.models.fast_rcnn import RCNN, FastRCNN
from jaxcv.models.faster_rcnn import FasterRCNN, fasterrcnn_resnet50_fpn
from jaxcv.models.fcn import FCN
from jaxcv.models.fpn import FPN
from jaxcv.models.inception import AuxiliaryLogits, GoogLeNet, InceptionModule, googlenet
from jaxcv.models.inception_v3 import InceptionV3, inception_v3
from jaxcv.models.landmarks import LandmarkHeatmaps, LandmarkRegressor
from jaxcv.models.layers import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    AvgPool,
    BatchNorm,
    Conv,
    ConvNormAct,
    ConvTranspose,
    Dense,
    Dropout,
    Flatten,
    FrozenBatchNorm,
    MaxPool,
)
from jaxcv.models.lenet import LeNet, LeNet1998, lenet5, lenet5_1998
from jaxcv.models.localizer import Localizer
from jaxcv.models.mobilenet import (
    DepthwiseSeparable,
    InvertedResidual,
    MobileNetV1,
    MobileNetV2,
    mobilenet_v1,
    mobilenet_v2,
)
from jaxcv.models.named import DETECTORS, TRUNKS, named, names
from jaxcv.models.regions import RegionHead
from jaxcv.models.resnet import (
    BasicBlock,
    Bottleneck,
    ResNet,
    resnet18,
    resnet20,
    resnet32,
    resnet34,
    resnet44,
    resnet50,
    resnet56,
    resnet101,
    resnet110,
    resnet152,
)
from jaxcv.models.rpn import RPN
from jaxcv.models.seeing import Seer, receptive_fields
from jaxcv.models.sliding import WindowNetwork, WindowScanner, convolutionalize
from jaxcv.models.summaries import Summary, summary
from jaxcv.models.tiles import Tiled
from jaxcv.models.transformer_net import FastStyle, InstanceNorm, TransformerNet
from jaxcv.models.unet import UNet
from jaxcv.models.vgg import VGG, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn
from jaxcv.models.yolo import YOLO
from jaxcv.models.yolos import YOLOv1, YOLOv2, YOLOv3, yolo_v3_tiny

__all__ = [
    "AlexNet",
    "AuxiliaryLogits",
    "AvgPool",
    "BasicBlock",
    "BatchNorm",
    "Bottleneck",
    "Canvas",
    "Classifier",
    "Conv",
    "ConvNormAct",
    "ConvTranspose",
    "DETECTORS",
    "Darknet53",
    "DeconvNet",
    "Dense",
    "DepthwiseSeparable",
    "Dropout",
    "EmbeddingEnsemble",
    "EmbeddingNet",
    "FCN",
    "FPN",
    "FastRCNN",
    "FastStyle",
    "FasterRCNN",
    "Flatten",
    "FrozenBatchNorm",
    "GoogLeNet",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "Identified",
    "IdentityClassifier",
    "InceptionModule",
    "InceptionV3",
    "InstanceNorm",
    "InvertedResidual",
    "LandmarkHeatmaps",
    "LandmarkRegressor",
    "LeNet",
    "LeNet1998",
    "Localizer",
    "MaxPool",
    "MobileNetV1",
    "MobileNetV2",
    "PlainDarknet",
    "RCNN",
    "RPN",
    "RegionHead",
    "ResNet",
    "Seer",
    "Siamese",
    "Summary",
    "TRUNKS",
    "Tiled",
    "TransformerNet",
    "UNet",
    "VGG",
    "WindowNetwork",
    "WindowScanner",
    "YOLO",
    "YOLOv1",
    "YOLOv2",
    "YOLOv3",
    "alexnet",
    "alexnet_2012",
    "convolutionalize",
    "darknet19",
    "darknet53",
    "darknet_tiny",
    "extraction",
    "fasterrcnn_resnet50_fpn",
    "googlenet",
    "grad_cam",
    "inception_v3",
    "lenet5",
    "lenet5_1998",
    "mobilenet_v1",
    "mobilenet_v2",
    "named",
    "names",
    "receptive_fields",
    "resnet101",
    "resnet110",
    "resnet152",
    "resnet18",
    "resnet20",
    "resnet32",
    "resnet34",
    "resnet44",
    "resnet50",
    "resnet56",
    "saliency",
    "summary",
    "vgg11",
    "vgg11_bn",
    "vgg13",
    "vgg13_bn",
    "vgg16",
    "vgg16_bn",
    "vgg19",
    "vgg19_bn",
    "yolo_v3_tiny",
]
