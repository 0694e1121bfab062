"""A linear classifier, to be trained on the features of a frozen network."""

import flax.linen as nn
from jaxtyping import Array, Float

from jaxcv.models.layers import Dense


class Classifier(nn.Module):
    """A linear layer `head` from features to logits, initialised with zeros: all classes equally probable.

    Takes [b d], returns logits [b num_classes] and no features.
    """

    num_classes: int

    @nn.compact
    def __call__(
        self, features: Float[Array, "b d"], *, train: bool = False
    ) -> tuple[Float[Array, "b k"], dict[str, Array]]:
        """Nothing here depends on `train`."""
        return Dense(self.num_classes, kernel_init=nn.initializers.zeros_init(), name="head")(features), {}
