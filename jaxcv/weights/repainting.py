"""How a run of style transfer starts: the trunk's weights, the first picture, what its features are compared with."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv.data.sets.pictures import EMBEDDED, match_colors, match_luminance, picture_file, read_picture
from jaxcv.errors import UserError
from jaxcv.models import Canvas, FastStyle
from jaxcv.models.canvas import disassemble
from jaxcv.types import Batches
from jaxcv.weights.matching import Report
from jaxcv.weights.start import pretrained


@dataclass(frozen=True)
class Start:
    """The account of it, see `Experiment.initial`."""

    trunk: Report | None
    """None: random weights."""
    picture: str
    """What the first picture is."""

    @property
    def summary(self) -> str:
        """One line."""
        weights = "random weights, as weights=FILE was not given" if self.trunk is None else self.trunk.summary
        return f"{self.picture}; trunk: {weights}"

    @property
    def randomly_initialised(self) -> list[str]:
        """Paths of the trunk's variables that are from no file: none that matters, as nothing is learnt from data."""
        return []

    def lines(self) -> Iterator[str]:
        """The table of the trunk."""
        yield self.picture
        yield from () if self.trunk is None else self.trunk.lines()


def repainted(
    source: str | Path,
    model: Canvas,
    data: Batches,
    *,
    styles: Sequence[str],
    style_size: int,
    start: str = "content",
    colors: Literal["style", "histogram", "luminance"] = "style",
) -> Callable[[Any], tuple[dict[str, Any], Start]]:
    """For `Experiment.initial` of a `Canvas`.

    Args:
        source: of the trunk's weights, as of `pretrained`; empty: it keeps its random ones.
        model: the experiment's.
        data: its content, one picture.
        styles: pictures, see `jaxcv.data.sets.pictures`.
        style_size: pixels of the longer side of each.
        start: the first picture: "noise", "content", "style" (the first one), or any other picture, such as that of
            an earlier, smaller run.
        colors: "histogram" gives the style pictures the content's mean and covariance of colours; "luminance" is for a
            model that keeps the content's colours, and makes everything grey.

    Raises:
        UserError: `start` is none of these; as `pretrained` when called, and DataError for a picture.
    """
    known = ("noise", "content", "style", *EMBEDDED)
    if start not in known and not Path(start).expanduser().is_file():
        raise UserError(f"start={start}: expected noise, content, style, or the path of a picture, which is not there")

    def initial(variables: Any) -> tuple[dict[str, Any], Start]:
        report = None
        if source:
            variables, report = pretrained(source, model.trunk, within="trunk")(variables)
        content = np.asarray(data.batch(0)["image"][0])
        pictures = [read_picture(picture_file(name), style_size) for name in styles]
        if colors == "histogram":
            pictures = [match_colors(picture, content) for picture in pictures]
        elif colors == "luminance":
            pictures = [match_luminance(picture, content) for picture in pictures]
        if _shapes_alone(variables):
            return variables, Start(report, f"picture: {start}")
        seen = match_luminance(content, content) if colors == "luminance" else content
        compute = jax.jit(lambda v, c, s: model.apply({"params": v}, c, s, method="targets"))
        targets = compute(variables["params"], _float(seen), [_float(picture) for picture in pictures])
        params = variables["params"]
        if start != "noise":
            first = {"content": seen, "style": pictures[0]}
            size = content.shape[1], content.shape[0]
            chosen = first[start] if start in first else read_picture(picture_file(start), max(size), size=size)
            picture = jax.image.resize(_float(chosen)[0], content.shape, "linear")[..., : 1 if model.luminance else 3]
            params = {**params, "picture": disassemble(picture, params["picture"])}
        return {**variables, "params": params, "targets": targets}, Start(report, f"picture: {start}")

    return initial


def painter(
    source: str | Path, model: FastStyle, data: Batches, *, styles: Sequence[str], style_size: int
) -> Callable[[Any], tuple[dict[str, Any], Start]]:
    """For `Experiment.initial` of a `FastStyle`; arguments as of `repainted`, `data` being the training pictures."""

    def initial(variables: Any) -> tuple[dict[str, Any], Start]:
        report = None
        if source:
            variables, report = pretrained(source, model.trunk, within="trunk")(variables)
        pictures = [_float(read_picture(picture_file(name), style_size)) for name in styles]
        if _shapes_alone(variables):
            return variables, Start(report, "painter: randomly initialised")
        compute = jax.jit(lambda v, c, s: model.apply({"params": v}, c, s, method="targets"))
        content = jnp.asarray(data.batch(0)["image"], jnp.float32) / 255
        targets = compute(variables["params"], content, pictures)
        return {**variables, "targets": targets}, Start(report, "painter: randomly initialised")

    return initial


def _shapes_alone(variables: Any) -> bool:
    """Whether only the account is wanted, as by `--dry-run`: there are no values to compute with."""
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(variables))


def _float(pixels: np.ndarray) -> jax.Array:
    """[h w 3] uint8 as [1 h w 3] in [0, 1]."""
    return jnp.asarray(pixels[None], jnp.float32) / 255
