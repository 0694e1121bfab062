"""What units see: receptive fields by hand, places of the largest activations, patches, pictures that excite."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxcv import losses, metrics, models
from jaxcv.data import Dataset
from jaxcv.data.sources.in_memory import InMemory
from jaxcv.predict import peaks
from jaxcv.show import crop_patch


def test_receptive_fields_by_hand():
    lenet = models.receptive_fields(models.lenet5(), (32, 32, 1))
    assert lenet == {
        "conv1": (5, 6), "pool1": (6, 6), "conv2": (14, 16), "pool2": (16, 16), "fc3": (32, 120), "fc4": (32, 84),
    }  # fmt: skip
    small = models.VGG(stage_sizes=(2, 1), stage_channels=(4, 8), fc_width=4)
    vgg = models.receptive_fields(small, (64, 64, 3))
    assert [vgg[name][0] for name in ("conv1_1", "conv1_2", "pool1", "conv2_1", "pool2")] == [3, 5, 6, 10, 12]


def test_a_unit_is_excited_where_its_pattern_is_and_a_picture_is_made_for_it():
    """A unit that adds up a 5 x 5 square: the white one in the picture is found, and shown, and white excites it."""
    seer = models.Seer(network=models.lenet5(mean=(0.0,), std=(1.0,)), layers=("conv1", "fc4"), units=3)
    images = np.zeros((2, 32, 32, 1), np.uint8)
    images[1, 10:15, 20:25] = 255
    variables = jax.jit(seer.init)(jax.random.key(0), jnp.zeros((1, 32, 32, 1)))
    kernel = variables["params"]["network"]["conv1"]["kernel"].at[..., 0].set(0.04)
    variables["params"]["network"]["conv1"]["kernel"] = kernel
    outputs, _ = seer.apply(variables, jnp.asarray(images, jnp.float32) / 255)
    assert outputs["pictures"].shape == (6, 32, 32, 1) and outputs["peaks"].shape == (2, 6)
    np.testing.assert_allclose(outputs["peaks"][:, 0], [0, 1], atol=1e-5)
    found = peaks(outputs)
    patch = crop_patch(images[1], np.asarray(found["places"][1, 0]), 5)
    assert patch.shape == (5, 5, 1) and patch.mean() > 150
    assert (crop_patch(images[1], np.zeros(2), 6)[:3] == 128).all(), "grey beyond the picture"

    def cost(pictures):
        params = {**variables["params"], "pictures": {"all": pictures}}
        outputs, _ = seer.apply({"params": params}, jnp.zeros((1, 32, 32, 1)))
        return losses.excitement(outputs, {"image": jnp.zeros((2, 32, 32, 1))})["excitement"][0]

    gradient = jax.jit(jax.grad(cost))(outputs["pictures"])
    assert np.isfinite(gradient).all() and float(gradient[0].max()) <= 0

    source = InMemory("test", 32, 1, lambda: ("a",), lambda: (images[..., 0], np.zeros(2, np.int64)))
    data = Dataset(source, 32).batches(2)
    metric = metrics.top_patches(fields=(("conv1", 5, 3), ("fc4", 32, 3)), count=2)
    measured = [metric.measure(jax.tree.map(np.asarray, found), {"image": images})]
    assert metric.reduce(measured)["excess"] > 0 and metric.report is not None
    pictures = metric.report(measured, data)
    assert [picture.name for picture in pictures] == ["sees_conv1", "sees_fc4"]
    shown = np.asarray(pictures[0].image)  # pyright: ignore[reportAttributeAccessIssue]
    assert shown.shape == (3 * 51 + 3, 3 * 51 + 9, 3) and shown[3:51, 60:108].mean() > 150
