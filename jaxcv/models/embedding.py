"""Networks that map pictures to vectors to be compared: of one identity close together, of two apart."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxcv.models.cells import feature_maps
from jaxcv.models.layers import BatchNorm, Dense, Dropout, Flatten, global_avg_pool, parameter
from jaxcv.ops import cosine_similarity, pairwise_cosine_similarity
from jaxcv.ops.initializers import lecun_normal
from jaxcv.types import Scalar

Similarity = Literal["weighted", "chi_square", "cosine"]


class EmbeddingNet(nn.Module):
    """A backbone and a linear layer `head` to an embedding of length one.

    Takes [b h w c] in [0, 1]; returns [b dimensions]. Features: the backbone's maps, and `pool` before the head.

    Schroff, Kalenichenko, Philbin: FaceNet. https://arxiv.org/abs/1503.03832, section 3: 128 dimensions, on the sphere.
    """

    backbone: nn.Module
    """Any classifier of `jaxcv.models`; its fully connected layers are left out."""
    dimensions: int = 128
    normalize: bool = True
    """Whether the embedding is divided by its length; one of zeros stays so."""
    pool: Literal["average", "flatten"] = "average"
    """The last map's mean over all positions; or all of it, where things are always at the same positions."""
    dropout: Scalar = 0.0
    standardize: bool = True
    """Whether batch normalisation comes before the division. Without it all pictures have cosines near 1 at first, and
    the hardest triplets pull them together for good; a deviation from FaceNet, whose batches held 1,800 pictures."""
    mirror: bool = False
    """Whether a picture is evaluated together with its mirror image, the sum of whose embeddings is its own."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b d"], dict[str, Array]]:
        """`train` selects batch statistics over running ones, and turns dropout on."""
        count, twice = len(images), self.mirror and not train
        if twice:
            images = jnp.concatenate([images, images[:, :, ::-1]])
        features = feature_maps(self.backbone, images, train=train)
        x = list(features.values())[-1]
        x = features["pool"] = Flatten()(x) if self.pool == "flatten" else global_avg_pool(x)
        x = Dropout(self.dropout)(x, train=train)
        x = Dense(self.dimensions, kernel_init=lecun_normal, name="head")(x)
        if self.standardize:
            x = BatchNorm(name="norm")(x, train=train)
        if twice:
            x, features = x[:count] + x[count:], {name: value[:count] for name, value in features.items()}
        return _directions(x) if self.normalize else x, features


class EmbeddingEnsemble(nn.Module):
    """Embedding networks side by side: on a small set, which people one network confuses is a matter of luck.

    The embedding [b d] is all of theirs, divided by the square root of their number, so that its length is one if
    theirs are. `losses.triplet` trains each by itself with as many `members`. Features: all of theirs, numbered.
    """

    networks: Sequence[EmbeddingNet]
    """Each with a backbone of its own: one object in two of them is one set of parameters."""

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b d"], dict[str, Array]]:
        """`train` as in `EmbeddingNet`."""
        found = [network(images, train=train) for network in self.networks]
        features = {f"{name}_{i}": value for i, (_, all_) in enumerate(found) for name, value in all_.items()}
        return jnp.concatenate([x for x, _ in found], axis=-1) / len(found) ** 0.5, features


class Siamese(nn.Module):
    """Two pictures through one network, and a logistic unit on a learned similarity of their embeddings.

    Takes two [b h w c] in [0, 1], and returns logits [b] of their showing the same. Or one, and returns logits [b b] of
    every picture with every other: all pairs for one pass of the network. Features: the network's, and `embedding`.

    With f and g the embeddings and w, v trained: `weighted` sum w |f - g| + v (Koch et al.), f and g after a logistic
    function; `chi_square` sum w (f - g)^2 / (f + g) + v, likewise (DeepFace); `cosine` w cos(f, g) + v.

    Koch, Zemel, Salakhutdinov: Siamese neural networks for one-shot image recognition, 2015, section 3.1.
    Taigman et al.: DeepFace, 2014, sections 4.1 and 4.2.
    """

    backbone: nn.Module
    """Any classifier of `jaxcv.models`; its fully connected layers are left out."""
    similarity: Similarity = "weighted"
    dimensions: int = 128
    pool: Literal["average", "flatten"] = "average"
    dropout: Scalar = 0.0

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], others: Float[Array, "b h w c"] | None = None, *, train: bool = False
    ) -> tuple[Float[Array, "b *b"], dict[str, Array]]:
        """`train` selects batch statistics over running ones, and turns dropout on."""
        if self.similarity not in ("weighted", "chi_square", "cosine"):
            raise ValueError(f"similarity={self.similarity!r}: expected weighted, chi_square or cosine")
        network = EmbeddingNet(
            self.backbone, self.dimensions, normalize=False, pool=self.pool, dropout=self.dropout, name="network"
        )
        both = images if others is None else jnp.concatenate([images, others])
        embedding, features = network(both, train=train)
        if self.similarity != "cosine":
            embedding = nn.sigmoid(embedding)
        features["embedding"] = embedding
        count = 1 if self.similarity == "cosine" else self.dimensions
        first = 10.0 if self.similarity == "cosine" else -32.0 / self.dimensions
        weight = parameter(self, "weight", nn.initializers.constant(first), (count,)).astype(embedding.dtype)
        # Initially, pictures as similar as two random ones are are as likely the same as not.
        start = {"weighted": 7.5, "chi_square": 2.8, "cosine": -5.0}[self.similarity]
        bias = parameter(self, "bias", nn.initializers.constant(start), ()).astype(embedding.dtype)
        if others is None:
            f, g = embedding[:, None], embedding[None]
        else:
            f, g = jnp.split(embedding, 2)
        if self.similarity == "cosine":
            cosine = pairwise_cosine_similarity(embedding, embedding) if others is None else cosine_similarity(f, g)
            return weight[0] * cosine + bias, features
        apart = jnp.abs(f - g)
        if self.similarity == "chi_square":
            apart = jnp.square(f - g) / (f + g + 1e-6)
        return apart @ weight + bias, features


class Identified(NamedTuple):
    """What `IdentityClassifier` returns."""

    embedding: Float[Array, "b d"]
    logits: Float[Array, "b k"]
    """Or cosines, of the embedding with each identity's weights."""


class IdentityClassifier(nn.Module):
    """Softmax over the identities that are known in training, on an embedding that serves for those that are not.

    Takes [b h w c] in [0, 1]; returns `Identified`. With `cosine`, the weights of each identity are a direction and the
    outputs cosines, for `losses.margin_cross_entropy` with or without a margin; else logits of a linear layer.
    """

    embedding: nn.Module
    """An `EmbeddingNet`."""
    num_classes: int
    cosine: bool = False

    @nn.compact
    def __call__(self, images: Float[Array, "b h w c"], *, train: bool = False) -> tuple[Identified, dict[str, Array]]:
        """`train` is given to the network."""
        x, features = self.embedding(images, train=train)  # pyright: ignore[reportCallIssue]
        if not self.cosine:
            return Identified(x, Dense(self.num_classes, kernel_init=lecun_normal, name="identities")(x)), features
        kernel = parameter(self, "identities", lecun_normal, (x.shape[-1], self.num_classes)).astype(x.dtype)
        return Identified(x, pairwise_cosine_similarity(x, kernel.T)), features


def _directions(x: Array) -> Array:
    squares = jnp.square(x.astype(jnp.float32)).sum(-1, keepdims=True)
    return x / jnp.sqrt(jnp.maximum(squares, 1e-16)).astype(x.dtype)
