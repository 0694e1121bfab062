"""How runs that train side by side lie on the devices: in lanes of one program, as many on each device.

Each device trains its own lanes, one alone as a single run is trained and several vmapped, on data of which each has a
copy. No device waits for another or sends it anything.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcv.train import sharding

_SPLIT, _COPIED = PartitionSpec("lanes"), PartitionSpec()


@dataclass(frozen=True)
class Lanes:
    """So many runs on each of some devices; what they have is stacked, `[width, ...]`, the first device's first."""

    mesh: Mesh
    """Of the devices: axis "lanes"; of a single one, any."""
    each: int

    @property
    def width(self) -> int:
        """How many there are."""
        return self.mesh.size * self.each

    def narrowed(self, count: int) -> "Lanes | None":
        """For `count` runs that are left, where that takes half of the lanes or fewer; None: for a run alone."""
        each = -(-count // self.mesh.size)
        if each > self.each // 2:
            return self
        return None if each == self.mesh.size == 1 else replace(self, each=each)

    def over(self, function: Callable[..., Any], axes: tuple[int | None, ...], layout: sharding.Layout) -> Any:
        """A function of one run as one of them all.

        Args:
            function: of a `Program`.
            axes: of its arguments: 0 where each run has its own.
            layout: of the third one, the examples. "local": those of a device's lanes are there alone.
        """
        together = jax.vmap(function, in_axes=axes)
        if self.mesh.size == 1:
            return together

        def alone(*args: Any) -> Any:
            args = tuple(
                x if axis is None else _map(lambda leaf: leaf[0], x) for x, axis in zip(args, axes, strict=True)
            )
            return _map(lambda leaf: leaf[None], function(*args))

        inner = alone if self.each == 1 else together
        specs = self._specs(axes, layout)
        return jax.shard_map(inner, mesh=self.mesh, in_specs=specs, out_specs=_SPLIT, check_vma=False)

    def shardings(self, axes: tuple[int | None, ...], layout: sharding.Layout) -> dict[str, Any]:
        """Arguments of `jax.jit` for such a function; none on a single device."""
        if self.mesh.size == 1:
            return {}
        inputs = tuple(NamedSharding(self.mesh, spec) for spec in self._specs(axes, layout))
        return {"in_shardings": inputs, "out_shardings": NamedSharding(self.mesh, _SPLIT)}

    def _specs(self, axes: tuple[int | None, ...], layout: sharding.Layout) -> tuple[PartitionSpec, ...]:
        own = [axis is not None or (i == 2 and layout == "local") for i, axis in enumerate(axes)]
        return tuple(_SPLIT if is_own else _COPIED for is_own in own)

    def place(self, tree: Any) -> Any:
        """What is stacked, on the devices."""
        return jax.device_put(tree, None if self.mesh.size == 1 else NamedSharding(self.mesh, _SPLIT))

    def of(self, tree: Any, lane: int) -> Any:
        """A copy of one lane's, on the first device."""
        if self.mesh.size > 1:
            number, lane = divmod(lane, self.each)
            devices = self.mesh.devices.flat
            tree = jax.device_put(_map(partial(_on, devices[number]), tree), devices[0])
        return _slice(tree, lane)


def lanes_of(how: sharding.How, count: int) -> Lanes | None:
    """For `count` runs, a few more where they do not divide evenly; None for a single one."""
    if count == 1:
        return None
    each = -(-count // max(1, len(how.lanes)))
    devices = how.lanes[: -(-count // each)]
    return Lanes(Mesh(np.array(devices), ("lanes",)) if len(devices) > 1 else how.mesh, each)


def _on(device: Any, leaf: jax.Array) -> jax.Array:
    return next(shard.data for shard in leaf.addressable_shards if shard.device == device)


_map = jax.tree.map
_slice = jax.jit(lambda tree, lane: _map(lambda leaf: leaf[lane], tree))
