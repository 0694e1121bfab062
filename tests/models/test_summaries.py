import flax.linen as nn
import jax.numpy as jnp

from jaxcv import models
from jaxcv.models.layers import BatchNorm, Conv, MaxPool


def test_the_course_table():
    """Activation shape, size and parameters of the course's Figure 5; multiply-adds by hand."""
    table = models.summary(models.lenet5(), (32, 32, 3))
    assert [(r.path, r.shape, r.size, r.parameters) for r in table.rows] == [
        ("conv1", (28, 28, 6), 4_704, 456),
        ("pool1", (14, 14, 6), 1_176, 0),
        ("conv2", (10, 10, 16), 1_600, 2_416),
        ("pool2", (5, 5, 16), 400, 0),
        ("fc3", (120,), 120, 48_120),
        ("fc4", (84,), 84, 10_164),
        ("head", (10,), 10, 850),
    ]
    work = [r.multiply_adds for r in table.rows if r.multiply_adds]
    assert work == [28 * 28 * 5 * 5 * 3 * 6, 10 * 10 * 5 * 5 * 6 * 16, 400 * 120, 120 * 84, 84 * 10]
    assert table.parameters == 62_006
    text = str(table).splitlines()
    assert "(28, 28, 6)  4,704         456" in text[3]
    assert text[-1].split() == ["LeNet", "62,006", "651,720"]


class Odd(nn.Module):
    """Groups, dilation, one layer used twice, one that evaluation does not need, and a normalisation."""

    @nn.compact
    def __call__(self, images, *, train=False):
        x = Conv(4, 3, groups=2, use_bias=False, name="grouped")(images)
        twice = Conv(4, 1, name="twice")
        x = MaxPool(2, name="pool")(twice(twice(x)))
        x = BatchNorm(name="norm")(x, train=train)
        if train or self.is_initializing():
            nn.Dense(3, name="extra")(x)
        return x, {}


def test_groups_shared_layers_and_what_evaluation_leaves_out():
    table = models.summary(Odd(), (6, 8, 2))
    rows = [(r.path, r.shape, r.parameters, r.multiply_adds) for r in table.rows]
    assert rows == [
        ("grouped", (6, 8, 4), 36, 36 * 48),
        ("twice", (6, 8, 4), 20, 16 * 48),
        ("twice", (6, 8, 4), 0, 16 * 48),
        ("pool", (3, 4, 4), 0, 0),
        ("norm", (3, 4, 4), 8, 0),
    ]
    assert table.parameters == 36 + 20 + 8 + 15
    assert "(not in evaluation)" in str(table)


def test_parts_made_one():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, images, *, train=False):
            x, _ = Odd(name="first")(jnp.concatenate([images] * 2, -1), train=train)
            return nn.Dense(1, name="head")(x), {}

    table = models.summary(Two(), (6, 8, 1))
    assert [r.path for r in table.rows] == [*(f"first/{n}" for n in "grouped twice twice pool norm".split()), "head"]
    short = table.shortened(3)
    assert [(r.path, r.shape) for r in short.rows] == [("first", (3, 4, 4)), ("head", (3, 4, 1))]
    assert short.multiply_adds == table.multiply_adds
    assert short.rows[0].parameters == 64
    assert len(table.shortened(6).rows) == 5
