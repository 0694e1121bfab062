"""Batches are split over the devices, everything else is the same on each: data parallelism in one mesh axis."""

from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


def mesh(batch_size: int) -> Mesh:
    """One axis, "data", over as many of the devices as divide the batch evenly."""
    devices = jax.devices()
    count = next(n for n in range(len(devices), 0, -1) if batch_size % n == 0)
    return Mesh(np.array(devices[:count]), ("data",))


def of_function(name: str, args: tuple[Any, ...]) -> dict[str, Any]:
    """Arguments of `jax.jit` for a function of batches, or of indices of their examples; none on a single device."""
    if name not in _SPLIT or len(jax.devices()) == 1:
        return {}
    which, axis = _SPLIT[name]
    over = mesh(jax.tree.leaves(args[which])[0].shape[axis])
    replicated = NamedSharding(over, PartitionSpec())
    shardings: list[Any] = [replicated] * len(args)
    shardings[which] = NamedSharding(over, PartitionSpec(*[None] * axis, "data"))
    return {"in_shardings": tuple(shardings), "out_shardings": replicated}


_SPLIT = {"step": (2, 0), "one": (3, 0), "chunk": (3, 1), "evaluate_all": (3, 1)}
"""The argument that is split over the devices, and the axis of it."""


def replicate(tree: Any, batch_size: int) -> Any:
    """The same values on every device of the batch's mesh."""
    if len(jax.devices()) == 1:
        return jax.device_put(tree)
    return jax.device_put(tree, NamedSharding(mesh(batch_size), PartitionSpec()))
