"""Which form runs is decided when a program is lowered: for the platform it is for, and for each of several."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxcv import ops
from jaxcv.cpu import kernels
from jaxcv.models import UNet, mobilenet_v2, resnet18

random = np.random.default_rng(0)
X, W = (jnp.asarray(random.normal(size=shape), jnp.float32) for shape in ((2, 24, 24, 32), (3, 3, 32, 32)))
W = W / 10


def ours(x, w):
    return ops.conv2d(x, w, padding="same")


def plain(x, w):
    return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def loss(f):
    return lambda x, w: jnp.sin(f(x, w)).sum()


def scanned(f):
    """A scan whose body takes a gradient."""
    step = jax.grad(loss(f))
    return lambda x, w: lax.scan(lambda x, _: (x - step(x, w) / 10, None), x, length=3)[0]


USES = {
    "jit": lambda f: f,
    "grad": lambda f: jax.grad(loss(f), (0, 1)),
    "jvp": lambda f: lambda x, w: jax.jvp(f, (x, w), (jnp.cos(x), jnp.cos(w))),
    "vmap of grad": lambda f: jax.vmap(jax.grad(loss(f), (0, 1)), (None, 0)),
    "grad of vmap": lambda f: jax.grad(lambda x, w: loss(jax.vmap(f, (None, 0)))(x, w), (0, 1)),
    "grad of grad": lambda f: jax.grad(lambda x, w: loss(lambda x, w: jax.grad(loss(f), 1)(x, w))(x, w), (0, 1)),
    "jvp of grad": lambda f: lambda x, w: jax.jvp(jax.grad(loss(f)), (x, w), (x, w)),
    "scan": scanned,
    "remat": lambda f: jax.grad(loss(jax.checkpoint(f)), (0, 1)),
}


def arguments(use):
    return (X, jnp.stack([W, -W, 2 * W])) if "vmap" in use else (X, W)


def close(found, expected):
    def one(a, b):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-4 * np.abs(b).max())

    jax.tree.map(one, found, expected)


@pytest.mark.parametrize("use", USES)
def test_every_transformation(use):
    args = arguments(use)
    expected = jax.jit(USES[use](plain))(*args)
    close(jax.jit(USES[use](ours))(*args), expected)
    close(USES[use](ours)(*args), expected)


@pytest.mark.parametrize("use", USES)
def test_a_program_for_another_platform_holds_none_of_it(use):
    args, function = arguments(use), jax.jit(USES[use](ours))
    if kernels.version() is not None:
        assert "jaxcv_" in function.lower(*args).as_text(), "this machine's program does"
    for platform in ("cuda", "rocm", "tpu"):
        text = function.trace(*args).lower(lowering_platforms=(platform,)).as_text()
        assert "custom_call" not in text and "stablehlo.convolution" in text
        exported = jax.export.export(function, platforms=[platform])(*args)
        assert "custom_call" not in exported.mlir_module()


@pytest.mark.parametrize("use", USES)
def test_a_program_for_several_platforms_is_right_on_each(use):
    args = arguments(use)
    exported = jax.export.export(jax.jit(USES[use](ours)), platforms=["cuda", "cpu", "tpu"])(*args)
    assert "jaxcv_" not in exported.mlir_module(), "kernels are known to this process alone"
    assert "stablehlo.case" in exported.mlir_module()
    close(exported.call(*args), jax.jit(USES[use](plain))(*args))


def convolutions(text):
    """Shapes of all convolutions in a lowered program."""
    return sorted(line.rpartition(": (")[2].split("loc(")[0] for line in text.splitlines() if ".convolution(" in line)


def test_elsewhere_it_is_xlas_own_to_the_letter():
    """Value and gradients are lowered as JAX lowers its own convolution."""
    texts = [jax.jit(USES["grad"](f)).trace(X, W).lower(lowering_platforms=("cuda",)).as_text() for f in (ours, plain)]
    assert convolutions(texts[0]) == convolutions(texts[1]) and len(convolutions(texts[0])) == 3


@pytest.mark.parametrize(
    "make", [functools.partial(UNet, width=8), resnet18, mobilenet_v2], ids=["unet", "resnet18", "mobilenet_v2"]
)
def test_whole_networks(make):
    model, image = make(), jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), image)

    def step(variables, image):
        def total(params):
            rngs = {"dropout": jax.random.key(0)}
            out, _ = model.apply({**variables, "params": params}, image, train=True, mutable=["batch_stats"], rngs=rngs)
            return jnp.square(out[0]).sum()

        return jax.grad(total)(variables["params"])

    for platforms in (["cuda"], ["tpu", "cpu"]):
        exported = jax.export.export(jax.jit(step), platforms=platforms)(variables, image)
        assert "custom_call" not in exported.mlir_module()


def test_a_form_is_traced_once_for_equal_layers():
    x, w = jnp.ones((2, 24, 24, 32)), jnp.ones((4, 3, 3, 32, 32))

    def network(x, w):
        for i in range(4):
            x = ours(x, w[i])
        return x

    if kernels.version() is not None:
        assert jax.jit(network).lower(x, w).as_text().count("jaxcv_winograd_forward") == 1
