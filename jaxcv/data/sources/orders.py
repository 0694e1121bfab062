"""Orders of the examples of a labelled set in which identities meet: for training on pairs and triplets, and episodes.

An order gives the rows of a whole epoch, a function of `(seed, epoch)` alone. Its batches are rows of single pictures,
so that a set which lives on the device is gathered there: in pairs, the rows 2 i and 2 i + 1 belong together; in
triplets, 3 i, 3 i + 1 and 3 i + 2 are anchor, positive and negative. Only `random` and `argsort` of numpy draw, whose
numbers do not change from version to version.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from jaxcv.errors import UserError

Rows = Int[np.ndarray, "k b"]


@runtime_checkable
class Order(Protocol):
    """The rows of batches; made of a source's labels when the first batch is asked for."""

    def __call__(self, length: int, *, seed: int, epoch: int) -> Rows:
        """`[length, b]`: the rows of an epoch of so many batches. Raises UserError where the labels do not allow it."""
        ...

    def length(self, examples: int) -> int:
        """Batches in an epoch of a set of so many examples."""
        ...


class Members:
    """The examples of each identity that has any."""

    def __init__(self, labels: Int[np.ndarray, "n"], names: tuple[str, ...] = ()):
        """`names`, of each label, say which identities are drawn together: those with the same text before a `/`."""
        self.present, self.of = np.unique(labels, return_inverse=True)
        """Labels, sorted; and the position in them of each example's."""
        self.count = np.bincount(self.of)
        self.start = np.cumsum(self.count) - self.count
        """Where each identity begins among the examples sorted by label."""
        groups = [names[label].rpartition("/")[0] if label < len(names) else "" for label in self.present.tolist()]
        self.groups = [np.flatnonzero(np.array(groups) == group) for group in dict.fromkeys(groups)]

    def shuffled(self, random: np.random.Generator) -> Int[np.ndarray, "n"]:
        """Examples sorted by label, those of one label at random."""
        return np.lexsort((random.random(len(self.of)), self.of))


@dataclass(frozen=True, eq=False)
class Identities:
    """P identities and K pictures of each in every batch, identity after identity.

    In an epoch all identities have their turn before any has another one, those of a group each before the batches are
    shuffled; so have the pictures of each. An identity with fewer than K pictures repeats them.
    """

    members: Callable[[], Members]
    identities: int
    pictures: int
    grouped: bool = False
    """Whether the identities of a batch are of one group, such as the characters of an alphabet."""

    def length(self, examples: int) -> int:
        """As many batches as hold all examples once."""
        return math.ceil(examples / (self.identities * self.pictures))

    def __call__(self, length: int, *, seed: int, epoch: int) -> Rows:
        """See `Order`."""
        members, random = self.members(), np.random.default_rng([seed % 2**64, epoch, 2])
        groups = members.groups if self.grouped else [np.arange(len(members.present))]
        groups = [group for group in groups if len(group) >= self.identities]
        if not groups:
            where = " in a group" if self.grouped and len(members.groups) > 1 else ""
            raise UserError(
                f"a batch of {self.identities} identities: the set has {len(members.present)}{where}; "
                "take a smaller batch_size or more pictures of each"
            )
        chosen: list[np.ndarray] = []
        left = [group[:0] for group in groups]
        while sum(map(len, chosen)) < length:
            turns = []
            for i, group in enumerate(groups):
                order = group[np.argsort(random.random(len(group)), kind="stable")]
                # Those left over from the turn before come first, with others than themselves.
                others = order[~np.isin(order, left[i])][: self.identities - len(left[i])]
                order = np.concatenate([left[i], others, order[~np.isin(order, others)]])
                whole = len(order) // self.identities * self.identities
                turns.append(order[:whole].reshape(-1, self.identities))
                left[i] = order[whole:]
            batches = np.concatenate(turns)
            chosen.append(batches[np.argsort(random.random(len(batches)), kind="stable")])
        flat = np.concatenate(chosen)[:length].ravel()
        position = _occurrence(flat)[:, None] * self.pictures + np.arange(self.pictures)
        rows = members.shuffled(random)[members.start[flat, None] + position % members.count[flat, None]]
        return rows.reshape(length, -1)


def _occurrence(values: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """How many equal ones come before each."""
    order = np.argsort(values, kind="stable")
    first = np.searchsorted(values[order], values[order], "left")
    occurrence = np.empty_like(values)
    occurrence[order] = np.arange(len(values)) - first
    return occurrence


@dataclass(frozen=True, eq=False)
class Tuples:
    """Pairs, in turn of one identity and of two; or triplets: anchor, positive, negative.

    Every picture of an identity with several is an anchor once in as many tuples as there are such pictures.
    """

    members: Callable[[], Members]
    rows: int
    """Of a batch: a multiple of `size`."""
    size: int
    """2 or 3."""

    def length(self, examples: int) -> int:
        """As many batches as hold all examples once."""
        return math.ceil(examples / self.rows)

    def __call__(self, length: int, *, seed: int, epoch: int) -> Rows:
        """See `Order`."""
        members, random = self.members(), np.random.default_rng([seed % 2**64, epoch, 3])
        anchors = np.flatnonzero(members.count[members.of] > 1)
        if len(members.present) < 2 or not len(anchors):
            raise UserError("pairs and triplets need two identities, and two pictures of one of them")
        count, chosen = length * self.rows // self.size, []
        while sum(map(len, chosen)) < count:
            chosen.append(anchors[np.argsort(random.random(len(anchors)), kind="stable")])
        first, ordered = np.concatenate(chosen)[:count], members.shuffled(random)
        place = np.empty_like(ordered)
        place[ordered] = np.arange(len(ordered))
        whose = members.of[first]
        start, size = members.start[whose], members.count[whose]
        step = 1 + (random.random(count) * np.maximum(size - 1, 0)).astype(np.int64)
        positive = ordered[start + (place[first] - start + step) % size]
        step = (random.random(count) * (len(ordered) - size)).astype(np.int64)
        negative = ordered[(start + size + step) % len(ordered)]
        if self.size == 3:
            return np.stack([first, positive, negative], 1).reshape(length, -1)
        second = np.where(np.arange(count) % 2 == 0, positive, negative)
        return np.stack([first, second], 1).reshape(length, -1)


@dataclass(frozen=True, eq=False)
class Episodes:
    """N-way k-shot episodes, one a batch: `way * shot` pictures to know the identities by, then the queries.

    Both are sorted by identity, so that row r of the first is of the r // shot th identity of the episode.
    """

    members: Callable[[], Members]
    way: int
    shot: int
    queries: int
    """Of each identity."""
    count: int
    hands: Callable[[], Int[np.ndarray, "n"] | None]
    """Who drew each picture: all that the identities are known by is then by some hands, the queries by others. None:
    nobody says."""

    def length(self, examples: int) -> int:
        """The number of episodes."""
        return self.count

    def __call__(self, length: int, *, seed: int, epoch: int) -> Rows:
        """See `Order`."""
        members, random, each = (
            self.members(),
            np.random.default_rng([seed % 2**64, epoch, 4]),
            self.shot + self.queries,
        )
        usable = members.count >= each
        groups = [kept for group in members.groups if len(kept := group[usable[group]]) >= self.way]
        if not groups:
            raise UserError(
                f"episodes of {self.way} identities with {each} pictures each: the set has {int(usable.sum())} such "
                f"identities in {len(members.groups)} groups; take fewer, way=N"
            )
        hands = self.hands()
        return np.stack([self._episode(members, groups[i % len(groups)], hands, random) for i in range(length)])

    def _episode(self, members: Members, group: Any, hands: Any, random: np.random.Generator) -> Int[np.ndarray, "b"]:
        chosen = group[np.argsort(random.random(len(group)), kind="stable")[: self.way]]
        each = self.shot + self.queries
        examples = [np.flatnonzero(members.of == identity) for identity in chosen]
        order = random.random(len(members.of))
        if hands is not None:
            # The same hands in the same order for every identity; of equal ones the order of the pictures decides.
            everybody = np.unique(hands)
            order = random.random(len(everybody))[np.searchsorted(everybody, hands)]
        picked = np.stack([rows[np.argsort(order[rows], kind="stable")[:each]] for rows in examples])
        return np.concatenate([picked[:, : self.shot].ravel(), picked[:, self.shot :].ravel()])


@lru_cache(maxsize=8)
def epoch_rows(order: Order, length: int, *, seed: int, epoch: int) -> Rows:
    """The rows of an epoch, kept for the batches after the first."""
    rows = order(length, seed=seed, epoch=epoch)
    rows.flags.writeable = False
    return rows
