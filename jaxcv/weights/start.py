"""Variables of a network from tensors or a file, and initialising an experiment with them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv import models
from jaxcv.errors import UserError
from jaxcv.ops.initializers import initialize
from jaxcv.weights import names
from jaxcv.weights.darknet import is_darknet, read_darknet
from jaxcv.weights.formats import load
from jaxcv.weights.matching import Entry, Report, common_prefixes, match, without_prefix


def _googlenet(tensors: Mapping[str, Any]) -> dict[str, Any]:
    if "conv1.conv.weight" not in tensors:
        return {}
    return {"torchvision_compatible": True, "aux_logits": "aux1.conv.conv.weight" in tensors}


def _inception_v3(tensors: Mapping[str, Any]) -> dict[str, Any]:
    return {"aux_logits": "AuxLogits.conv0.conv.weight" in tensors}


def _mobilenet_v1(tensors: Mapping[str, Any]) -> dict[str, Any]:
    stem = tensors.get("conv1/kernel")
    norm = any(name.startswith("conv1_bn/") for name in tensors)
    return {} if stem is None else {"width": np.shape(stem)[-1] / 32, "norm": norm}


def _vgg(tensors: Mapping[str, Any]) -> dict[str, Any]:
    if "block1_conv1/kernel" not in tensors:
        return {}
    # Caffe's training, which Keras's file and others with its names come from: BGR in 0..255 minus a mean.
    return {"bgr": True, "mean": (103.939 / 255, 116.779 / 255, 123.68 / 255), "std": (1 / 255, 1 / 255, 1 / 255)}


def _faster_rcnn(tensors: Mapping[str, Any]) -> dict[str, Any]:
    classes = tensors.get("roi_heads.box_predictor.cls_score.bias")  # with background
    return {} if classes is None else {"num_classes": len(classes) - 1}


# The fields of a network, besides the number of classes, that make it fit the tensors.
_FIELDS = {"googlenet": _googlenet, "inception_v3": _inception_v3, "mobilenet_v1": _mobilenet_v1}
_FIELDS |= {"vgg16": _vgg, "vgg19": _vgg}
_FIELDS |= {"fasterrcnn_resnet50_fpn": _faster_rcnn}


def from_torchvision(name: str, state_dict: Mapping[str, np.ndarray], **options: Any) -> dict[str, Any]:
    """Variables of `models.<name>` from torchvision's state dict of that model.

    Args:
        name: torchvision's name, such as `resnet50`; the number of classes is that of the tensors.
        state_dict: arrays by torchvision's names. Or gradients by the same names.
        options: further fields of the network.

    Returns:
        Linen variables, `{"params": ..., "batch_stats": ...}`.

    Raises:
        UserError: If the network is unknown, or tensors do not fit; they are listed by name.
    """
    return _from("torchvision", name, state_dict, options)


def from_timm(name: str, state_dict: Mapping[str, np.ndarray], **options: Any) -> dict[str, Any]:
    """Variables of `models.<name>` from the state dict of timm's version; otherwise as `from_torchvision`."""
    return _from("timm", name, state_dict, options)


def from_keras(name: str, tensors: Mapping[str, np.ndarray], **options: Any) -> dict[str, Any]:
    """Variables of `models.<name>` from the tensors of `keras.applications`, `layer/kernel`.

    Otherwise as `from_torchvision`; options such as the width are fields of the network:
    `from_keras("mobilenet_v1", tensors, width=0.25)`.
    """
    return _from("keras", name, tensors, options)


def from_darknet(model: Any, path: str | Path, *, image_size: int = 224) -> dict[str, Any]:
    """Variables of a network from its Darknet `.weights` file.

    Args:
        model: such as `models.YOLOv3(...)`, `models.YOLOv2(..., darknet_order=True)` or `models.darknet53()`.
        path: the file; see `jaxcv.weights.darknet`.
        image_size: any height and width in pixels that the network takes.

    Returns:
        Linen variables.

    Raises:
        UserError: If the network's order of layers is not known, or the file does not fit.
        DataError: If the file is not Darknet's, or damaged.
    """
    tensors = read_darknet(path, model, partial(shapes, image_size=image_size))
    return match(model, shapes(model, image_size), tensors, scheme="jaxcv", file=str(path))[0]


def _from(scheme: str, name: str, tensors: Mapping[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    tensors = {key: np.asarray(tensor) for key, tensor in tensors.items()}
    model = _build(name, tensors, options, [*models.names(), *models.DETECTORS])
    if scheme not in names.of(model):
        raise UserError(f"no {scheme} names are known for {name}, only {', '.join(names.of(model))}")
    variables, _ = match(model, shapes(model), tensors, scheme=scheme, file=f"{scheme} {name}")
    return variables


def network(name: str, source: str | Path, *, known: Iterable[str] | None = None, **fields: Any) -> Any:
    """`models.<name>` with the fields that fit a file's tensors: classes, width, normalisation, auxiliary heads.

    Args:
        name: of the network, such as `mobilenet_v1`.
        source: as in `pretrained`; empty: none, and the network's defaults are kept.
        known: the names that may be given, such as `models.TRUNKS`; None: all.
        fields: values that override these, such as `num_classes` for a new head.

    Raises:
        UserError: another name.
    """
    if str(source) in ("googlenet", "inception_v3"):  # torchvision's were trained on pictures from -1 to 1
        fields = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), **fields}
    return _build(name, _tensors(str(source)) if source else {}, fields, known)


def _build(name: str, tensors: Mapping[str, Any], fields: dict[str, Any], known: Iterable[str] | None = None) -> Any:
    build = models.named(name, known)
    if common_prefixes(tensors):
        whole = build(**fields)
        tensors, _ = without_prefix(whole, shapes(whole), tensors)
    fields = {**(_FIELDS[name](tensors) if name in _FIELDS else {}), **fields}
    if "num_classes" not in fields and (classes := _classes(build(**fields), tensors)) is not None:
        fields["num_classes"] = classes
    return build(**fields)


def shapes(model: Any, image_size: int = 224) -> dict[str, Any]:
    """Shapes of a network's variables for RGB images, without computing them."""
    image = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    return dict(jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), image))


def pretrained(
    source: str | Path, model: Any, *, skip: str = "", new_head: bool = False, within: str = ""
) -> Callable[[Any], tuple[dict[str, Any], Report]]:
    """For `Experiment.initial`: a function from randomly initialised variables to those of a file, with a report.

    Args:
        source: a file that `load` reads, with names of any scheme known for the network (the one with most matches
            is used); one of Darknet's, `.weights`; the folder of a run, `runs/yolo/defaults`, whose best checkpoint is
            used, or of one checkpoint, `runs/yolo/defaults/checkpoints/1200`; or the name of published
            weights that `fetch` knows.
        model: the experiment's network, or the one `within` it.
        skip: pattern over module paths that keep their initial values, such as `head`.
        new_head: where the file's `head` has another number of classes, initialise a new one with zeros, as in
            https://arxiv.org/abs/1912.11370, instead of raising.
        within: name of the part of the experiment's network that is `model` without its dense layers, such as
            `backbone`; all else keeps its initial values.

    Returns:
        `variables -> (variables, report)`, which reads the file when called, and raises as `load` and `match`.
    """

    def initial(variables: Any) -> tuple[dict[str, Any], Report]:
        tensors = _darknet(str(source), model) if is_darknet(source) else _tensors(str(source))
        if within:
            return _put_within(within, model, variables, tensors, skip, str(source))
        if not new_head or _classes(model, without_prefix(model, variables, tensors)[0]) in (None, model.num_classes):
            return match(model, variables, tensors, skip=skip, file=str(source))
        pattern = f"{skip}|head" if skip else "head"
        variables, report = match(model, variables, tensors, skip=pattern, file=str(source))
        params = {**variables["params"], "head": jax.tree.map(_zeros, variables["params"]["head"])}
        entries = (replace(e, status="new, zero") if e.path.startswith("params/head/") else e for e in report.entries)
        return {**variables, "params": params}, replace(report, entries=tuple(entries))

    return initial


def pretrained_detector(source: str | Path, model: Any) -> Callable[[Any], tuple[dict[str, Any], Report]] | None:
    """`pretrained` for a detector: its `backbone` from a classifier's file, or all of it but for its heads.

    Args:
        source: as in `pretrained`; empty: None is returned, and the detector is randomly initialised.
        model: a detector such as `models.YOLOv3`; one without a `backbone` of its own starts whole.
    """
    if not source:
        return None
    trunk = getattr(model, "backbone", None)
    return pretrained(source, model, skip="head.*") if trunk is None else pretrained(source, trunk, within="backbone")


def _put_within(
    part: str, model: Any, variables: Any, tensors: Mapping[str, Any], skip: str, file: str
) -> tuple[dict[str, Any], Report]:
    """The variables with the values of a classifier's tensors in one part, which has no dense layers.

    Of tensors of a network that has such a part itself, only that part's are used.
    """
    inner = {name.replace(f"/{part}/", "/", 1): x for name, x in tensors.items() if name.split("/")[1:2] == [part]}
    tensors = inner or tensors
    ours = {collection: tree[part] for collection, tree in variables.items() if part in tree}
    whole = shapes(model)
    left_out = [name for name in whole["params"] if name not in ours["params"]]
    both = {collection: {**tree, **ours.get(collection, {})} for collection, tree in whole.items()}
    matched, report = match(model, both, tensors, skip="|".join([skip] * bool(skip) + left_out), file=file)
    entries = []
    for entry in report.entries:
        collection, _, rest = entry.path.partition("/")
        if not entry.path:
            entries.append(entry)
        elif rest.split("/")[0] not in left_out:
            entries.append(replace(entry, path=f"{collection}/{part}/{rest}"))
    result = {}
    for collection, tree in variables.items():
        kept = {name: matched[collection][name] for name in tree.get(part, {})}
        result[collection] = {**tree, part: kept} if part in tree else tree
        for keys, leaf in jax.tree_util.tree_leaves_with_path({name: x for name, x in tree.items() if name != part}):
            path = "/".join([collection, *(key.key for key in keys)])
            entries.append(Entry(path, "", "randomly initialised", np.shape(leaf)))
    return result, replace(report, entries=tuple(entries))


def _classes(model: Any, tensors: Mapping[str, Any]) -> int | None:
    """Number of classes of the tensors' head under any known name; None if there is none."""
    heads = [f"{function('head')}{end}" for function in names.of(model).values() for end in (".bias", "/bias")]
    return next((len(tensors[head]) for head in [*heads, "params/head/bias"] if head in tensors), None)


@lru_cache(maxsize=2)  # files are large
def _darknet(source: str, model: Any) -> dict[str, np.ndarray]:
    return read_darknet(source, model, shapes)


@lru_cache(maxsize=2)
def _tensors(source: str) -> dict[str, np.ndarray]:
    from jaxcv.weights.published import fetch, is_published

    if Path(source).expanduser().is_dir():
        from jaxcv.train.checkpoint import is_run, weights_of  # the only module that reads orbax checkpoints

        if is_run(Path(source).expanduser()):
            return weights_of(Path(source).expanduser())
    return load(fetch(source) if not Path(source).exists() and is_published(source) else source)


class FeatureExtractor:
    """A frozen network up to one of its features, as a function of images; made by `extractor`."""

    def __init__(self, source: str, model: Any, feature: str):
        self._source, self._model, self._feature = source, model, feature
        self._variables: dict[str, Any] | None = None
        self._jitted = jax.jit(self._apply)

    def _apply(self, variables: Any, images: jax.Array) -> jax.Array:
        if images.dtype == jnp.uint8:
            images = images.astype(jnp.float32) / 255.0
        features = self._model.apply(variables, images, train=False)[1]
        if self._feature not in features:
            there = ", ".join(features)
            raise UserError(f"{type(self._model).__name__} has no feature {self._feature!r}, only {there}")
        return features[self._feature]

    def __call__(self, images: Any) -> jax.Array:
        """Features [b ...] of images [b h w c], uint8 or float32 in [0, 1].

        Raises:
            UserError: If the network has no such feature.
        """
        if self._variables is None:
            variables = shapes(self._model, images.shape[1])
            if self._source:
                variables, _ = pretrained(self._source, self._model, skip="head")(variables)
                skipped = jax.ShapeDtypeStruct  # the head, on which no feature depends
                self._variables = jax.tree.map(lambda x: _zeros(x) if isinstance(x, skipped) else x, variables)
            else:
                image = jnp.zeros((1, *images.shape[1:]))
                self._variables = jax.jit(lambda: initialize(self._model, jax.random.key(0), image))()
        return self._jitted(self._variables, jnp.asarray(images))

    def spec(self, image: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        """Shape and dtype of one example's features."""
        batch = jax.ShapeDtypeStruct((1, *image.shape), image.dtype)
        out = jax.eval_shape(self._apply, shapes(self._model, image.shape[0]), batch)
        return jax.ShapeDtypeStruct(out.shape[1:], out.dtype)


def _zeros(leaf: Any) -> Any:
    return jnp.zeros(leaf.shape, leaf.dtype)


@cache
def _extractor(source: str, model: Any, feature: str) -> FeatureExtractor:
    return FeatureExtractor(source, model, feature)


def extractor(source: str | Path, model: Any, *, feature: str = "pool") -> FeatureExtractor:
    """A pretrained network up to one of its features, for `Dataset.with_features`.

    The same arguments return the same object, which reads the file once.

    Args:
        source: as in `pretrained`; empty: random parameters, with a fixed key.
        model: the network; its head may have any number of classes.
        feature: a name in the features that the network returns, `pool` for the global average.

    Returns:
        A function from images `[b, h, w, c]` to features `[b, ...]`.
    """
    return _extractor(str(source), model, feature)
