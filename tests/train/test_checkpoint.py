import json

import jax
import jax.numpy as jnp
import numpy as np
import problems
import pytest
from flax import struct

from jaxcv.errors import UserError
from jaxcv.train.checkpoint import Checkpoints, DamagedCheckpoint


@struct.dataclass
class State:
    step: jax.Array
    params: dict
    key: jax.Array


def state_at(step, size=1000):
    params = {"kernel": jnp.arange(float(size)) * step, "bias": (jnp.ones(3, jnp.bfloat16), jnp.zeros(0))}
    return State(jnp.asarray(step, jnp.int32), params, jax.random.key(step))


def spec_of(state):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state)


def newest(checkpoints, like):
    restored = checkpoints.restore_newest(spec_of(like))
    assert restored is not None
    return restored


def damage(checkpoints, step):
    """Turn one bit in the largest file of a checkpoint."""
    files = [f for f in (checkpoints / str(step)).rglob("*") if f.is_file()]
    largest = max(files, key=lambda f: f.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(bytes(content))


def test_what_is_saved_comes_back_to_the_bit(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        assert checkpoints.restore_newest(spec_of(state_at(3))) is None
        checkpoints.save(state_at(3), {"data": {"next_batch": 3}, "pending": [{"loss": 0.1}]})
    with Checkpoints(tmp_path / "c") as checkpoints:
        state, position, warnings = newest(checkpoints, state_at(3))
    assert problems.leaves(state) == problems.leaves(state_at(3))
    assert position == {"data": {"next_batch": 3}, "pending": [{"loss": 0.1}]}
    assert warnings == []


def test_saving_copies_so_that_buffers_may_be_overwritten(tmp_path):
    step = jax.jit(lambda s: jax.tree.map(lambda x: x if x.dtype == s.key.dtype else x * 0, s), donate_argnums=0)
    position: dict = {"pending": [1]}
    state = state_at(5, size=500_000)
    wanted = problems.leaves(state)
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state, position)
        position["pending"].append("added later")
        jax.block_until_ready(step(state).params)
    with Checkpoints(tmp_path / "c") as checkpoints:
        restored, position, _ = newest(checkpoints, state_at(5, size=500_000))
    assert problems.leaves(restored) == wanted
    assert position == {"pending": [1]}


def test_the_two_newest_and_the_best_are_kept(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        for step, rank in ((1, None), (2, 0.9), (3, None), (4, 0.5), (5, 0.6), (6, None)):
            checkpoints.save(state_at(step), {}, rank=rank)
        checkpoints.wait()
        assert checkpoints.steps() == [2, 5, 6]
        assert checkpoints.best_step() == 2


@pytest.mark.parametrize("rank", [None, 0.5])
def test_a_damaged_newest_falls_back_loudly(tmp_path, rank):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state_at(1), {"at": 1}, rank=rank)
        checkpoints.save(state_at(2), {"at": 2}, rank=rank)
    damage(tmp_path / "c", 2)
    with Checkpoints(tmp_path / "c") as checkpoints:
        state, position, warnings = newest(checkpoints, state_at(1))
        assert int(state.step) == 1
        assert position == {"at": 1}
        assert len(warnings) == 1
        assert "damaged checkpoint" in warnings[0]
        assert (tmp_path / "damaged-checkpoints" / "2-0").exists()
        checkpoints.save(state_at(2), {"at": 2})  # the place is free again
        checkpoints.wait()
        assert checkpoints.steps() == [1, 2]


def test_when_all_are_damaged_it_says_so(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state_at(1), {})
    damage(tmp_path / "c", 1)
    with Checkpoints(tmp_path / "c") as checkpoints:
        with pytest.raises(DamagedCheckpoint, match="not what was written"):
            checkpoints.restore(1, spec_of(state_at(1)))
        with pytest.raises(UserError, match="no checkpoint could be read"):
            checkpoints.restore_newest(spec_of(state_at(1)))


def test_a_checkpoint_whose_writing_was_cut_off_is_not_there(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state_at(1), {})
        checkpoints.save(state_at(2), {})
    (tmp_path / "c" / "2").rename(tmp_path / "c" / "2.orbax-checkpoint-tmp")  # its name until it is committed
    with Checkpoints(tmp_path / "c") as checkpoints:
        state, _, _ = newest(checkpoints, state_at(1))
    assert int(state.step) == 1


def test_another_tree_is_refused_by_name(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state_at(1), {})
        checkpoints.wait()
        good = spec_of(state_at(1))
        params = good.params
        other = good.replace(params={"kernel": jax.ShapeDtypeStruct((7,), np.float32), "gamma": params["bias"]})
        with pytest.raises(UserError) as error:
            checkpoints.restore_newest(other)
    for part in ("params.gamma.0 is missing", "params.bias.0 is left over", "float32[1000], expected float32[7]"):
        assert part in str(error.value)


def test_a_second_process_only_reads(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state_at(1), {}, rank=0.5)
        checkpoints.wait()
        before = sorted(tmp_path.rglob("*"))
        with Checkpoints(tmp_path / "c", read_only=True) as other:
            assert other.steps() == [1]
            assert other.best_step() == 1
            assert int(other.restore(1, spec_of(state_at(1)))[0].step) == 1
        assert sorted(tmp_path.rglob("*")) == before


def test_position_is_plain_json(tmp_path):
    with Checkpoints(tmp_path / "c") as checkpoints:
        checkpoints.save(state_at(1), {"data": {"next_batch": 1}})
    stored = json.loads((tmp_path / "c" / "1" / "position" / "metadata").read_text())
    assert stored["position"] == {"data": {"next_batch": 1}}
    assert stored["arrays"]["params.kernel"][:2] == [[1000], "float32"]
