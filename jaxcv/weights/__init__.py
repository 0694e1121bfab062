"""Pretrained weights: read, match by name, check, fetch.

    load save                                   files: .npz .safetensors .h5 .pth, without running pickled code
    from_torchvision from_timm from_keras       tensors by their names -> variables of the network of that name
    to_torch write_torch                        variables by torchvision's names, and torch's file of them
    from_darknet write_darknet                  Darknet's `.weights`, which has an order in place of names
    match Report                                the same for any of our networks, with an account of every tensor
    network                                     the network of a name with the fields that a file asks for
    pretrained                                  `Experiment.initial`: start a run from a file or a published set
    pretrained_detector                         the same for a detector, of which a file may hold the trunk alone
    repainted painter                           the same for style transfer: trunk, first picture, and what it aims at
    extractor                                   a frozen network's features, to be computed once and kept
    load_gallery save_gallery Gallery           embeddings of enrolled people, with their names
    fetch                                       published weights by name, checked by hash, kept in the cache

A file is loaded completely or refused: missing, unused and misshapen tensors are listed by name.
"""

from jaxcv.weights.darknet import write_darknet
from jaxcv.weights.formats import load, save
from jaxcv.weights.galleries import Gallery, load_gallery, save_gallery
from jaxcv.weights.matching import Report, match
from jaxcv.weights.published import fetch
from jaxcv.weights.repainting import painter, repainted
from jaxcv.weights.start import (
    extractor,
    from_darknet,
    from_keras,
    from_timm,
    from_torchvision,
    network,
    pretrained,
    pretrained_detector,
)
from jaxcv.weights.to_torch import to_torch, write_torch

__all__ = [
    "Gallery",
    "Report",
    "extractor",
    "fetch",
    "from_darknet",
    "from_keras",
    "from_timm",
    "from_torchvision",
    "load",
    "load_gallery",
    "match",
    "network",
    "painter",
    "pretrained",
    "pretrained_detector",
    "repainted",
    "save",
    "save_gallery",
    "to_torch",
    "write_darknet",
    "write_torch",
]
