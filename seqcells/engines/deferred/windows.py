"""Time cut into windows of one size, for any number of steps."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Tree = TypeVar("Tree")


class Windows(NamedTuple):
    """`length` steps in windows of `size`, in the order of time.

    If `size` does not divide `length`, the window that is read last overlaps the one before it, and
    the shared steps are dead in the last one. All windows thus have the same size and run the same
    program, and arrays that are only read are never copied.
    """

    length: int
    size: int
    reverse: bool = False  # whether reading begins at the end

    @property
    def number(self) -> int:
        """The number of windows."""
        return -(-self.length // self.size)

    @property
    def dead(self) -> int:
        """The number of steps that two windows have in common."""
        return self.number * self.size - self.length

    @property
    def starts(self) -> np.ndarray:
        """The first step of each window."""
        if self.reverse:
            return np.maximum(np.arange(self.number) * self.size - self.dead, 0)
        return np.minimum(np.arange(self.number) * self.size, self.length - self.size)

    @property
    def live(self) -> np.ndarray | None:
        """bool[number, size], False = dead; None if every step is live."""
        if not self.dead:
            return None
        live = np.ones((self.number, self.size), bool)
        if self.reverse:
            live[0, self.size - self.dead :] = False
        else:
            live[-1, : self.dead] = False
        return live

    def at(self, start: jax.Array, tree: Tree) -> Tree:
        """Read the window that starts at step `start` from arrays [T, ...]."""
        return jax.tree.map(lambda a: jax.lax.dynamic_slice_in_dim(a, start, self.size), tree)

    def before(self, start: jax.Array, carry: Tree, carries: Tree) -> Tree:
        """Return the carry before the first step read of a window.

        Args:
            start: the first step of the window.
            carry: the carry before all steps, [*B, ...].
            carries: the carries after them, [T, *B, ...].
        """
        if self.reverse:
            is_first, at = start == self.length - self.size, start + self.size
        else:
            is_first, at = start == 0, start - 1

        def one(carry: jax.Array, carries: jax.Array) -> jax.Array:
            previous = jax.lax.dynamic_index_in_dim(carries, at, keepdims=False)  # clamps
            return jnp.where(is_first, carry, previous)

        return jax.tree.map(one, carry, carries)

    def shifted(self, first: Tree, after: Tree) -> Tree:
        """Return the carry before each step of a window, given those after its steps."""

        def one(first: jax.Array, after: jax.Array) -> jax.Array:
            parts = (after[1:], first[None]) if self.reverse else (first[None], after[:-1])
            return jnp.concatenate(parts)

        return jax.tree.map(one, first, after)

    def cut(self, tree: Tree) -> Tree:
        """Cut arrays [T, ...] into [number, size, ...]."""
        return jax.tree.map(self._cut, tree)

    def join(self, tree: Tree) -> Tree:
        """Undo `cut`; drop the dead steps."""
        return jax.tree.map(self._join, tree)

    def _cut(self, a: jax.Array) -> jax.Array:
        if self.dead:
            own = self.size - self.dead  # the live steps of the window that overlaps
            parts = (a[: self.size], a[own:]) if self.reverse else (a[:-own], a[-self.size :])
            a = jnp.concatenate(parts)
        return a.reshape(self.number, self.size, *a.shape[1:])

    def _join(self, a: jax.Array) -> jax.Array:
        flat = a.reshape(self.number * self.size, *a.shape[2:])
        if not self.dead:
            return flat
        own = self.size - self.dead
        cut = own if self.reverse else self.number * self.size - self.size
        return jnp.concatenate([flat[:cut], flat[cut + self.dead :]])
