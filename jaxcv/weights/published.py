"""Published weights by name: fetched once, checked by hash, cached.

All are torchvision's, trained on ImageNet's 1,000 classes: https://docs.pytorch.org/vision/stable/models.html. They
expect images in [0, 1] standardised with ImageNet's mean and standard deviation, as the networks here do by default;
only googlenet and inception_v3 expect a mean and a standard deviation of 0.5, which `weights.network` sets.
`NAME` is the first published training, `NAME:v2` the newer recipe where there is one.
"""

from difflib import get_close_matches
from pathlib import Path

from jaxcv.data.io.download import Progress, download
from jaxcv.data.io.paths import cache_folder
from jaxcv.errors import UserError

SERVER = "https://download.pytorch.org/models/"

# The eight hexadecimal digits before the suffix are the first of the file's SHA-256.
FILES = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "vgg11": "vgg11-8a719046.pth",
    "vgg11_bn": "vgg11_bn-6002323d.pth",
    "vgg13": "vgg13-19584684.pth",
    "vgg13_bn": "vgg13_bn-abd245e5.pth",
    "vgg16": "vgg16-397923af.pth",
    "vgg16_bn": "vgg16_bn-6c64b313.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
    "vgg19_bn": "vgg19_bn-c79401a0.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet34": "resnet34-b627a593.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet50:v2": "resnet50-11ad3fa6.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "resnet101:v2": "resnet101-cd907fc2.pth",
    "resnet152": "resnet152-394f9c45.pth",
    "resnet152:v2": "resnet152-f82ba261.pth",
    "googlenet": "googlenet-1378be20.pth",
    "inception_v3": "inception_v3_google-0cc3c7bd.pth",
    "mobilenet_v2": "mobilenet_v2-b0353104.pth",
    "mobilenet_v2:v2": "mobilenet_v2-7ebf99e0.pth",
}


def is_published(name: str) -> bool:
    """Whether `fetch` knows weights of this name."""
    return name.removesuffix(":v1") in FILES


def fetch(name: str, *, folder: str | Path | None = None, progress: Progress | None = None) -> Path:
    """The file of published weights, from the cache or the network.

    Args:
        name: such as `resnet50` (or `resnet50:v1`) and `resnet50:v2`.
        folder: where it is stored; None: `weights` in jaxcv's cache.
        progress: called with the number of bytes fetched and the total.

    Returns:
        A `.pth` file that `load` reads, its hash verified.

    Raises:
        UserError: If the name is unknown, or the file cannot be fetched; the message says where to put it by hand.
    """
    if not is_published(name):
        near = get_close_matches(name.lower(), FILES, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise UserError(f"no published weights {name!r}: {hint}expected one of {', '.join(FILES)}")
    file = FILES[name.removesuffix(":v1")]
    cache = Path(folder).expanduser() if folder is not None else cache_folder() / "weights"
    digest = file.removesuffix(".pth").rpartition("-")[2]
    return download(SERVER + file, to=cache / file, sha256=digest, progress=progress)
