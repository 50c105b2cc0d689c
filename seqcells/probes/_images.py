"""The base of image tasks: one pixel per step, in order or in a fixed random order."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from seqcells import _check
from seqcells.probes import _draw
from seqcells.probes._probe import Classes, Sample, Success


@dataclasses.dataclass(frozen=True)
class SequentialImages(Classes):
    """Classify an image at the last step, after it was shown one pixel per step.

    The images are arguments of `sample`, not fields: they pass into a jitted function as arrays.
    """

    SIDE: ClassVar[int]  # pixels
    WHITE: ClassVar[int]  # the largest value of a pixel

    permutation_seed: int | None = None

    input_size = 1  # one pixel
    output_size = 10  # one logit per digit
    success = Success("accuracy", 0.95)

    def __post_init__(self) -> None:
        if self.permutation_seed is not None:
            self._size("permutation_seed", least=0)
            _check.seed("permutation_seed", self.permutation_seed)

    @property
    def order(self) -> np.ndarray:
        """int[T], the pixel that is shown at each step, counted along the rows of the image."""
        pixels = np.arange(self.SIDE**2)
        if self.permutation_seed is None:
            return pixels
        # RandomState gives the same numbers in every version of NumPy; newer generators may not.
        return np.random.RandomState(self.permutation_seed).permutation(pixels)

    def sample(
        self, key: jax.Array, batch_size: int, images: ArrayLike, labels: ArrayLike
    ) -> Sample:
        """Draw images with replacement: inputs [T, N, 1] with one answer each.

        Args:
            key: one random key.
            batch_size: N.
            images: int[M, side, side], raw pixels of the file.
            labels: int[M], 0 to 9.
        """
        _draw.check(key, batch_size)
        images, labels = self._check_data(images, labels)
        chosen = _draw.integers(key, (batch_size,), 0, len(labels))
        return self._show(images[chosen], labels[chosen])

    def whole(self, images: ArrayLike, labels: ArrayLike) -> Sample:
        """Show every image once, in order, for instance a test set.

        Args:
            images: int[M, side, side], raw pixels of the file.
            labels: int[M], 0 to 9.
        """
        return self._show(*self._check_data(images, labels))

    def _show(self, images: jax.Array, labels: jax.Array) -> Sample:
        pixels = images.reshape(len(labels), -1).T[self.order]
        xs = pixels.astype(jnp.float32)[..., None] / self.WHITE
        return Sample.at_one_step(xs, labels.astype(jnp.int32), len(xs) - 1)

    def _check_data(self, images: ArrayLike, labels: ArrayLike) -> tuple[jax.Array, jax.Array]:
        side = (self.SIDE, self.SIDE)
        if not _is_integer(images) or jnp.shape(images)[1:] != side:
            raise ValueError(
                f"images: expected integers [M, {self.SIDE}, {self.SIDE}], the raw pixels of "
                f"the file, got {_check.describe_one(jnp.asarray(images))}"
            )
        count = jnp.shape(images)[0]
        if not _is_integer(labels) or jnp.shape(labels) != (count,) or not count:
            got = _check.describe_one(jnp.asarray(labels))
            raise ValueError(
                f"labels: expected integers [{max(count, 1)}], one per image, got {got}"
            )
        _check.within("labels", labels, 0, 9, "0 to 9")
        return jnp.asarray(images), jnp.asarray(labels)


def _is_integer(array: ArrayLike) -> bool:
    return jnp.issubdtype(jnp.result_type(array), jnp.integer)
