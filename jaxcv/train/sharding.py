"""How a run lies on the devices: one mesh, chosen once, for training and evaluation.

The mesh has two axes, `data` and `fsdp`; `--mesh data=4,fsdp=2` is eight devices, and without it all are on `data`.

- **Batches** are split over both axes: device i has the ith of as many equal blocks of rows. A training batch that does
  not divide is refused, with the sizes that do. An evaluation takes its batches as they are; XLA pads inside the
  program, so that no prediction over a whole batch sees more rows than there are.
- **Parameters, their moving average and the optimizer's state** are the same on each device; with `fsdp` above 1, each
  array of at least 4,096 elements is split over that axis, along its largest dimension that divides (`spread`).
  The network gets them whole (`whole`): one all-gather before the forward pass, whose transpose leaves each device its
  part of the summed gradients. So the program is always data-parallel, and activations never move.
- **Examples** (`Layout` of a feed): "whole", the set on each device, where it fits into a quarter of its memory;
  "split", each device a part of the set, and a batch is exchanged at every step; "local", streamed, each device the
  rows of its blocks. A step gathers its batch by `gather` and knows nothing of this.
- **Statistics** over a batch, such as those of batch normalisation, are over the whole batch: the program computes what
  one device would, and XLA inserts the all-reduces. So losses and parameters do not depend on the mesh, up to the
  rounding of sums, and a checkpoint of one mesh goes on on any other.

`How` adds what does change a little: with `accumulate` the network takes a batch in parts (`microbatches`); the loss is
that of the whole batch, batch statistics and dropout are of a part. `remat` keeps only results of convolutions and
matrix products for the backward pass.

A mesh of one device adds nothing to a program. On several processes (`hosts`) the devices of process 0 come first, so
that each process reads a block of rows.
"""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxcv.errors import UserError, unknown_name
from jaxcv.types import Batch

Layout = Literal["whole", "split", "local"]
"""Of examples; see above."""
AXES = ("data", "fsdp")
_ROWS = PartitionSpec(AXES)
_SMALLEST = 4096
"""Elements of an array that is split over `fsdp`, at least."""


@dataclass(frozen=True)
class How:
    """How a program takes its steps, whatever it trains."""

    mesh: Mesh
    accumulate: int = 1
    """Parts in which a batch is taken."""
    remat: bool = False
    """Whether the backward pass computes again what is cheap to compute."""
    lanes: tuple[Any, ...] = ()
    """Devices among which runs side by side are divided; none: they are on that of the mesh."""


def make_mesh(text: str | None = None) -> Mesh:
    """A mesh of `data=N` or `data=N,fsdp=M`; None: all devices on `data`.

    Raises:
        UserError: it is written otherwise, or there are fewer devices.
    """
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    sizes = {"data": len(devices), "fsdp": 1}
    if text is not None:
        given = dict(re.findall(r"(\w+)=(\d+)(?:,|$)", text))
        if not given or ",".join(f"{n}={size}" for n, size in given.items()) != text or "0" in given.values():
            raise UserError(f"--mesh {text}: expected data=N or data=N,fsdp=M")
        if other := [name for name in given if name not in AXES]:
            raise UserError(unknown_name("axis of --mesh", other[0], AXES))
        sizes = {name: int(given.get(name, 1)) for name in AXES}
    count = sizes["data"] * sizes["fsdp"]
    if count > len(devices):
        raise UserError(f"--mesh {text}: {count} devices, and there are {len(devices)}")
    if jax.process_count() > 1 and count < len(devices):
        raise UserError(f"--mesh {text}: with several processes a mesh has all devices, here {len(devices)}")
    return Mesh(np.array(devices[:count]).reshape(sizes["data"], sizes["fsdp"]), AXES)


def beside(how: How) -> How:
    """For runs side by side: each has one of this process's devices to itself, and all of its batch there."""
    if how.mesh.size == 1:
        return how
    devices = tuple(how.mesh.local_devices)
    return replace(how, mesh=Mesh(np.array(devices[:1]).reshape(1, 1), AXES), lanes=devices)


_chosen: dict[str, Any] = {"mesh": None, "accumulate": 1, "remat": False}


def choose(mesh: str | None = None, *, accumulate: int = 1, remat: bool = False) -> None:
    """Take the programs of this process so from now on, where nothing else is asked for; `mesh` as of `make_mesh`.

    Raises:
        UserError: `accumulate` is below 1.
    """
    if accumulate < 1:
        raise UserError(f"--accumulate {accumulate}: expected at least 1")
    _chosen.update(mesh=mesh, accumulate=accumulate, remat=remat)


def chosen() -> How:
    """What `choose` was told; all devices on `data` where it was not. Raises UserError as `make_mesh`."""
    return How(make_mesh(_chosen["mesh"]), _chosen["accumulate"], _chosen["remat"])


def describe(how: How) -> str:
    """In words, as it is written on the command line."""
    sizes = dict(how.mesh.shape)
    text = f"data={sizes['data']}" + (f",fsdp={sizes['fsdp']}" if sizes["fsdp"] > 1 else "")
    return text + (f", batches in {how.accumulate} parts" if how.accumulate > 1 else "")


def check(how: How, rows: int, data: Any = None) -> None:
    """Refuse a training batch of so many rows that the devices cannot share equally.

    Raises:
        UserError: with the nearest sizes that they can, and the meshes that this size can have.
    """
    if how.accumulate > 1 and getattr(data, "order", None) is not None:
        raise UserError("--accumulate takes batches in parts, and rows of these batches belong together (pairs, ...)")
    if (line := _refusal(rows, how.mesh.size, how.accumulate)) is not None:
        raise UserError(line)


def _refusal(rows: int, devices: int, parts: int) -> str | None:
    unit = devices * parts
    if rows % unit == 0:
        return None
    sizes = [n for n in (rows // unit * unit, rows // unit * unit + unit) if n]
    among = f"{devices} devices" if devices > 1 else f"{parts} parts"
    among += f", each in {parts} parts" if devices > 1 and parts > 1 else ""
    fits = [n for n in range(1, devices) if rows % (n * parts) == 0]
    other = f", or --mesh data={fits[-1]}" if fits and jax.process_count() == 1 else ""
    return f"a batch of {rows} cannot be divided among {among}: take batches of {' or '.join(map(str, sizes))}{other}"


# What lies where.


def replicated(mesh: Mesh) -> NamedSharding:
    """The same on each device."""
    return NamedSharding(mesh, PartitionSpec())


def spread(mesh: Mesh, tree: Any) -> Any:
    """Shardings of parameters, optimizer's state or all of a `TrainState`, from shapes alone."""
    over = mesh.shape["fsdp"]

    def of(leaf: Any) -> NamedSharding:
        shape = np.shape(leaf)
        divisible = [axis for axis, size in enumerate(shape) if size % over == 0]
        if (
            over == 1
            or not divisible
            or np.prod(shape) < _SMALLEST
            or jnp.issubdtype(_dtype(leaf), jax.dtypes.prng_key)
        ):
            return replicated(mesh)
        axis = max(divisible, key=lambda axis: shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * axis, "fsdp"))

    return jax.tree.map(of, tree)


def _dtype(leaf: Any) -> Any:
    return getattr(leaf, "dtype", np.dtype(np.float32))


def of_function(mesh: Mesh, name: str, args: tuple[Any, ...], layout: Layout) -> dict[str, Any]:
    """Arguments of `jax.jit` for a function of a `Program`; none on a single device."""
    if name not in _STATE or mesh.size == 1:
        return {}
    whole, state = replicated(mesh), spread(mesh, args[1])
    rows = NamedSharding(mesh, _ROWS)
    examples = whole if layout == "whole" else rows
    if name == "step":
        return {"in_shardings": (whole, state, rows), "out_shardings": (state, whole)}
    if name == "evaluate_all":
        return {"in_shardings": (whole, state, examples, whole), "out_shardings": whole}
    split = PartitionSpec(AXES) if name == "one" else PartitionSpec(None, AXES)
    # Where each device has a part of the set, all need to know what the others ask for.
    indices = whole if layout == "split" else NamedSharding(mesh, split)
    rest = [whole] * (len(args) - 4)
    return {"in_shardings": (whole, state, examples, indices, *rest), "out_shardings": (state, whole)}


_STATE = ("step", "one", "chunk", "evaluate_all")
"""Functions whose second argument is the state, or the variables of the model."""


def place(mesh: Mesh, tree: Any) -> Any:
    """A state on the devices of a mesh, by the rule of `spread`."""
    return _put(mesh, tree, spread(mesh, tree))


def place_examples(mesh: Mesh, fields: Mapping[str, np.ndarray], layout: Layout) -> Batch:
    """Fields with the examples first on the devices; of "local", this process's rows."""
    if layout == "whole":
        return _put(mesh, dict(fields), replicated(mesh))
    rows = NamedSharding(mesh, _ROWS)
    if layout == "local":
        return {name: jax.make_array_from_process_local_data(rows, x) for name, x in fields.items()}
    return {name: _split(x, rows, mesh.size) for name, x in fields.items()}


def split_length(mesh: Mesh, examples: int) -> int:
    """Rows of the fields of so many examples, split over the devices: as many on each."""
    return -(-examples // mesh.size) * mesh.size


def _split(array: np.ndarray, rows: NamedSharding, devices: int) -> jax.Array:
    each = -(-len(array) // devices)

    def part(index: Any) -> np.ndarray:
        start = index[0].start or 0
        found = array[start : start + each]
        return np.concatenate([found, np.zeros((each - len(found), *array.shape[1:]), array.dtype)])

    return jax.make_array_from_callback((each * devices, *array.shape[1:]), rows, part)


def _put(mesh: Mesh, tree: Any, shardings: Any) -> Any:
    if jax.process_count() == 1:
        return jax.device_put(tree) if mesh.size == 1 else jax.device_put(tree, shardings)
    # `device_put` would compare the values of all processes.
    keys = [jnp.issubdtype(_dtype(leaf), jax.dtypes.prng_key) for leaf in jax.tree.leaves(tree)]
    plain = [np.asarray(jax.random.key_data(x) if k else x) for x, k in zip(jax.tree.leaves(tree), keys, strict=True)]

    def wrapped(*arrays: jax.Array) -> list[jax.Array]:
        return [jax.random.wrap_key_data(x) if k else x for x, k in zip(arrays, keys, strict=True)]

    where = jax.tree.leaves(shardings) if not isinstance(shardings, NamedSharding) else [shardings] * len(plain)
    return jax.tree.unflatten(jax.tree.structure(tree), jax.jit(wrapped, out_shardings=where)(*plain))


def on_all(mesh: Mesh, indices: np.ndarray, layout: Layout) -> Any:
    """The indices of a chunk's batches (rows last) as its program wants them; every process has them all."""
    if jax.process_count() == 1 or layout == "split":
        return indices
    where = NamedSharding(mesh, PartitionSpec(*[None] * (indices.ndim - 1), AXES))
    return jax.make_array_from_callback(indices.shape, where, lambda index: indices[index])


# What a program does.


def gather(
    mesh: Mesh, layout: Layout, take: Callable[[Batch, jax.Array], Batch], rows: int
) -> Callable[[Batch, jax.Array], Batch]:
    """The function `(data, indices) -> batch` of `rows` rows, split over the devices.

    Args:
        mesh: of the devices.
        layout: of the data.
        take: `(data, indices) -> batch` on one device.
        rows: of the batch. Of "local", there may be more indices: each process's rows are padded to the same number.
    """
    if mesh.size == 1:
        return take

    def whole(data: Batch, indices: jax.Array) -> Batch:
        return _over_rows(mesh, take(data, indices))

    def local(data: Batch, indices: jax.Array) -> Batch:
        batch = jax.shard_map(take, mesh=mesh, in_specs=(_ROWS, _ROWS), out_specs=_ROWS)(data, indices)
        if len(indices) != rows:
            real = _real_rows(rows, len(indices))
            batch = {name: x[: len(real)] if _is_range(real) else x[real] for name, x in batch.items()}
        return _over_rows(mesh, batch)

    def exchanged(data: Batch, indices: jax.Array) -> Batch:
        padded = jnp.pad(indices, (0, -len(indices) % mesh.size), constant_values=-1)
        batch = jax.shard_map(
            functools.partial(_exchange, take), mesh=mesh, in_specs=(_ROWS, PartitionSpec()), out_specs=_ROWS
        )(data, padded)
        return _over_rows(mesh, {name: x[: len(indices)] for name, x in batch.items()})

    return {"whole": whole, "local": local, "split": exchanged}[layout]


def _exchange(take: Callable[[Batch, jax.Array], Batch], data: Batch, indices: jax.Array) -> Batch:
    """On one device: of all indices those that lie here, summed over the devices; each keeps its block."""
    each = len(data["example_valid"])
    first = jax.lax.axis_index(AXES) * each
    mine = (indices >= first) & (indices < first + each)
    found = take(data, jnp.where(mine, indices - first, -1))

    def sent(x: jax.Array) -> jax.Array:
        number = x.astype(jnp.uint8) if x.dtype == bool else x
        number = jnp.where(mine.reshape(-1, *(1,) * (x.ndim - 1)), number, jnp.zeros((), number.dtype))
        return jax.lax.psum_scatter(number, AXES, tiled=True).astype(x.dtype)

    return {name: sent(x) for name, x in found.items()}


def _over_rows(mesh: Mesh, batch: Batch) -> Batch:
    return jax.lax.with_sharding_constraint(batch, NamedSharding(mesh, _ROWS))


def _real_rows(rows: int, padded: int) -> np.ndarray:
    """Where the rows of a batch are among those of all processes, each padded at its end."""
    hosts = jax.process_count()
    share, block = -(-rows // hosts), padded // hosts
    numbers = np.arange(rows)
    return numbers // share * block + numbers % share


def _is_range(numbers: np.ndarray) -> bool:
    return bool((numbers == np.arange(len(numbers))).all())


def whole(mesh: Mesh) -> Callable[[Any], Any]:
    """What gives the network its parameters whole; of the gradients, each device gets its part of the sum."""
    if mesh.shape["fsdp"] == 1:
        return lambda tree: tree
    constrain = jax.lax.with_sharding_constraint

    @jax.custom_vjp
    def gathered(tree: Any) -> Any:
        return constrain(tree, replicated(mesh))

    def forward(tree: Any) -> tuple[Any, None]:
        return gathered(tree), None

    def backward(_: None, cotangents: Any) -> tuple[Any]:
        return (constrain(cotangents, spread(mesh, cotangents)),)

    gathered.defvjp(forward, backward)
    return gathered
