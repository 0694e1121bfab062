"""Every angle is in degrees, and every docstring says so: a marked pixel is turned and looked for."""

import ast
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT

from jaxcv import augment, ops
from jaxcv.train import hyperparameters

ANGLES = {"rotate", "rotation", "shear", "shears", "angle", "angles", "tilt", "slant", "turn_by", "degrees", "radians"}
B, SIDE, ARM = 192, 64, 20
EXPERIMENTS = sorted(path.stem for path in (ROOT / "experiments").glob("*.py"))


def test_every_function_with_an_angle_states_its_unit():
    """All of jaxcv and the experiments, read as text: an argument that is explained and is an angle has a unit."""
    met = set()
    for path in [*(ROOT / "jaxcv").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            lines = inspect.cleandoc(ast.get_docstring(node) or "").splitlines()
            for name in {a.arg for a in [*node.args.args, *node.args.kwonlyargs]} & {*ANGLES, "hue"}:
                said = [line for line in lines if line.strip().startswith(f"{name}: ")]
                public = not node.name.startswith("_") and "Args:" in lines
                assert said or not public, f"{path}: {node.name} explains no {name}"
                unit = "fraction of the colour circle" if name == "hue" else "degrees"
                assert all(unit in line for line in said), f"{path}: {node.name}: {said} is not in {unit}"
                met |= {(path.stem, name)} if said else set()
    assert {("warps", "angles"), ("geometry", "shear"), ("lenet", "rotate"), ("localization", "hue")} <= met
    assert "fractions of the colour circle" in str(ops.adjust_hue.__doc__)


def marked(offset, channels=3):
    """A spot at an offset (x, y) from the middle of each picture, and everything else that marks it."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    spot = np.exp(-((x - offset[0]) ** 2 + (y - offset[1]) ** 2) / 4)
    place = SIDE / 2 + np.asarray(offset, np.float32)
    return {
        "image": jnp.asarray(
            np.tile(np.where(spot > 1e-6, spot, 0)[None, :, :, None], (B, 1, 1, channels)), jnp.float32
        ),
        "mask": jnp.asarray(np.tile(spot > 0.3, (B, 1, 1)), jnp.uint8),
        "points": jnp.asarray(np.tile(place, (B, 1, 1)), jnp.float32),
        "visible": jnp.ones((B, 1), bool),
        "boxes": jnp.asarray(np.tile(np.concatenate([place - 2, place + 2]), (B, 1, 1)), jnp.float32),
        "valid": jnp.ones((B, 1), bool),
        "classes": jnp.zeros((B, 1), jnp.int32),
        "label": jnp.zeros(B, jnp.int32),
    }


def places(batch):
    """Where the spot is by its pixels, and by whatever else moved: each `[b, 2]` from the middle."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    weights = np.maximum(np.asarray(batch["image"]).mean(-1) - 0.501, 0)  # beyond the border, detection's are grey
    yield np.stack([(weights * x).sum((1, 2)), (weights * y).sum((1, 2))], -1) / weights.sum((1, 2))[:, None] - SIDE / 2
    if "mask" in batch:
        mask = np.asarray(batch["mask"]) == 1
        found = np.stack([(mask * x).sum((1, 2)), (mask * y).sum((1, 2))], -1)
        yield found / mask.sum((1, 2))[:, None] - SIDE / 2
    if "points" in batch:
        yield np.asarray(batch["points"])[:, 0] - SIDE / 2
    if "boxes" in batch:
        boxes = np.asarray(batch["boxes"])[:, 0]
        yield (boxes[:, :2] + boxes[:, 2:]) / 2 - SIDE / 2


def spread(angles, most):
    """That angles, in degrees, are spread from -most to most."""
    assert np.isfinite(angles).all()
    margin = 0.15 * most
    assert -most - margin < angles.min() < margin - most and most - margin < angles.max() < most + margin
    assert abs(angles.mean()) < 0.2 * most


FIELDS = {
    "images": ("image", "label"),
    "detection": ("image", "boxes", "valid", "classes"),
    "segmentation": ("image", "mask"),
    "landmarks": ("image", "points", "visible"),
    "warp": ("image", "mask", "points", "visible", "boxes", "valid", "classes"),
}


@pytest.mark.parametrize("most", [30.0, 0.785])
@pytest.mark.parametrize("name", FIELDS)
def test_rotation_of_pictures_and_of_all_that_marks_them(name, most):
    batch = {field: value for field, value in marked((ARM, 0)).items() if field in FIELDS[name]}
    moved = getattr(augment, name)(jax.random.key(0), batch, rotate=most)
    seen = list(places(moved))
    spread(np.rad2deg(np.arctan2(seen[0][:, 1], seen[0][:, 0])), most)
    for found in seen:
        np.testing.assert_allclose(np.hypot(*found.T), ARM, atol=0.6)
        np.testing.assert_allclose(found, seen[0], atol=0.6)


@pytest.mark.parametrize("name", FIELDS)
def test_shear_along_x(name):
    batch = {field: value for field, value in marked((0, ARM)).items() if field in FIELDS[name]}
    moved = getattr(augment, name)(jax.random.key(1), batch, shear=30.0)
    for found in places(moved):
        spread(np.rad2deg(np.arctan2(found[:, 0], found[:, 1])), 30.0)
        np.testing.assert_allclose(found[:, 1], ARM, atol=0.6)


def test_degrees_of_the_maps_themselves():
    """Clockwise to the eye: from the right to below. 45 degrees of shear: as far aside as down."""
    none, still = jnp.zeros(1), jnp.zeros((1, 2))
    picture = jnp.zeros((1, 5, 5, 1)).at[0, 2, 4, 0].set(1.0)

    def shown(angle, shear):
        matrix = ops.affine_matrix(none + angle, none + 1.0, jnp.asarray([shear]), still, center=(2.5, 2.5))
        return np.asarray(ops.affine(picture, matrix, fill=0.0))[0, :, :, 0]

    assert shown(90.0, [0.0, 0.0])[4, 2] == pytest.approx(1.0, abs=1e-5)
    assert shown(180.0, [0.0, 0.0])[2, 0] == pytest.approx(1.0, abs=1e-5)
    assert shown(-90.0, [0.0, 0.0])[0, 2] == pytest.approx(1.0, abs=1e-5)
    assert shown(np.pi / 2, [0.0, 0.0])[2, 4] > 0.9  # so small an angle in degrees
    picture = jnp.zeros((1, 5, 5, 1)).at[0, 4, 2, 0].set(1.0)
    found = np.argwhere(shown(0.0, [45.0, 0.0]) > 0.9).tolist()
    assert found in ([[4, 0]], [[4, 4]])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_angles_of_experiments(load, name):
    """Every experiment that rotates, shears or changes the hue: at 25 degrees, at a tenth of the circle."""
    experiment = load(name)
    there = {"rotate", "shear", "hue"} & set(hyperparameters(experiment))
    assert {"lenet": {"rotate"}, "landmarks": {"rotate", "shear"}, "localization": {"hue"}}.get(name, there) == there
    off = {
        key: type(h.default)(0) if isinstance(h.default, int | float) else None
        for key, h in hyperparameters(experiment).items()
        if key in ("flip", "shift", "scale", "rotate", "shear", "elastic", "color", "crop", "hue")
        and h.default is not None
    }
    for option in sorted(there):
        made = experiment(**{**off, option: 0.1 if option == "hue" else 25.0})
        shape = made.train_data.spec["image"].shape
        if option == "hue":
            red = marked((0, 0)) | {"image": jnp.zeros((B, SIDE, SIDE, 3)).at[..., 0].set(1.0)}
            turned = np.asarray(made.augment(jax.random.key(0), red)["image"])[:, SIDE // 2, SIDE // 2]
            # Beside red, green or blue rises by six times the fraction.
            fraction = (turned[:, 1] - turned[:, 2]) / 6
            assert -0.101 < fraction.min() < -0.09 and 0.09 < fraction.max() < 0.101
            continue
        batch = marked((ARM, 0) if option == "rotate" else (0, ARM), channels=shape[-1])
        batch = {k: v for k, v in batch.items() if k in made.train_data.spec}
        if "points" in batch:
            count = made.train_data.spec["points"].shape[1]
            batch |= {k: jnp.repeat(batch[k], count, axis=1) for k in ("points", "visible")}
        for found in places(made.augment(jax.random.key(0), batch)):
            x, y = found.T
            spread(np.rad2deg(np.arctan2(y, x) if option == "rotate" else np.arctan2(x, y)), 25.0)


@pytest.mark.parametrize("most", [0.1, 0.5])
def test_hue_in_fractions_of_the_circle(most):
    batch = {"image": jnp.zeros((B, 2, 2, 3)).at[..., 0].set(1.0)}
    pixels = np.asarray(augment.colors(jax.random.key(0), batch, hue=most)["image"])[:, 0, 0]
    circle = np.asarray([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 0, 0]], np.float32)
    steps = np.arange(0, 6, 1 / 64)
    ring = np.stack([np.interp(steps, np.arange(7), circle[:, i]) for i in range(3)], -1)
    fraction = steps[np.abs(pixels[:, None] - ring[None]).sum(-1).argmin(1)] / 6
    fraction = np.where(fraction > 0.5, fraction - 1, fraction)
    assert np.abs(fraction).max() <= most + 0.005 and np.abs(fraction).max() > 0.9 * most
    third = ops.adjust_hue(batch["image"][:1], jnp.asarray([1 / 3]))
    np.testing.assert_allclose(third[0, 0, 0], [0, 1, 0], atol=1e-5)
