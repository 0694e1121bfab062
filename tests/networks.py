"""What a network looks like, found without computing anything, and small ones filled with numbers."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def abstract(model: Any, *sides: int) -> tuple[Any, Any, dict[str, tuple[int, ...]]]:
    """For images [2 *sides]: the shapes of the variables, the shape of the outputs, and those of the features."""

    def initial(x: jax.Array) -> Any:
        return model.init_with_output(jax.random.key(0), x)

    (outputs, features), variables = jax.eval_shape(initial, jax.ShapeDtypeStruct((2, *sides), jnp.float32))
    return variables, outputs.shape, {name: feature.shape for name, feature in features.items()}


def sizes(tree: Any) -> dict[str, int]:
    """Values in each branch."""
    return {name: sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(branch)) for name, branch in tree.items()}


def parameters(model: Any, *sides: int) -> int:
    """How many parameters the network has."""
    return sum(sizes(abstract(model, *sides)[0]["params"]).values())


def images(*shape: int) -> jax.Array:
    """Pictures of noise."""
    return jnp.asarray(np.random.default_rng(7).uniform(0, 1, shape), jnp.float32)


def filled(model: Any, *sides: int) -> Any:
    """Variables of plausible size, none of them 0 or 1, from numpy: compiling initialisers takes seconds each."""
    random = np.random.default_rng(0)

    def value(path: Any, leaf: Any) -> jax.Array:
        name = path[-1].key
        if name == "kernel":
            drawn = random.normal(0, math.sqrt(2 / math.prod(leaf.shape[:-1])), leaf.shape)
        else:
            drawn = random.uniform(*((0.5, 1.5) if name in ("scale", "var") else (-0.3, 0.3)), leaf.shape)
        return jnp.asarray(drawn, leaf.dtype)

    return jax.tree_util.tree_map_with_path(value, abstract(model, *sides)[0])


def gradients(model: Any, variables: Any, pictures: jax.Array) -> dict[str, np.ndarray]:
    """Gradient, by parameter path, of a loss that every logit takes part in, while training."""

    def loss(params: Any) -> jax.Array:
        found, _ = model.apply({**variables, "params": params}, pictures, train=True, mutable=["batch_stats"])
        return -jax.nn.log_softmax(found[0])[:, 0].mean()

    gradient = jax.jit(jax.grad(loss))(variables["params"])
    leaves = jax.tree_util.tree_leaves_with_path(gradient)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}
