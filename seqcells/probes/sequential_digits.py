"""Sequential digits: scikit-learn's small digits, one pixel per step."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import numpy as np

from seqcells import _check
from seqcells.probes._images import SequentialImages

_TRAIN = 1437  # of 1797: four fifths; the last fifth is by other writers


@dataclasses.dataclass(frozen=True)
class SequentialDigits(SequentialImages):
    """Classify a digit of 8 x 8 pixels that is shown one pixel per step, T = 64.

    This is `SequentialMNIST` for small machines, with the 1,797 digits that scikit-learn contains
    (Alpaydin & Kaynak 1998, UCI), so there is nothing to download. Pixels are scaled to [0, 1].
    Guessing costs ln 10; an accuracy above 0.95 solves it (our threshold). There are 360 test
    images, so an accuracy of 0.95 has a standard error of 0.011, even if 10,000 are drawn.

    Args:
        permutation_seed: seed of the pixel order, at least 0; None shows pixels row by row.
    """

    SIDE: ClassVar[int] = 8
    WHITE: ClassVar[int] = 16

    @staticmethod
    def load(split: Literal["train", "test"] = "train") -> tuple[np.ndarray, np.ndarray]:
        """Load images uint8[M, 8, 8] and labels uint8[M] from scikit-learn.

        Args:
            split: "train", the first 1,437, or "test", the last 360.

        Raises:
            ModuleNotFoundError: scikit-learn is not installed.
        """
        _check.choice("split", split, ("train", "test"))
        digits = _check.extra("sklearn.datasets", "seqcells[data]").load_digits()
        part = slice(None, _TRAIN) if split == "train" else slice(_TRAIN, None)
        return digits.images[part].astype(np.uint8), digits.target[part].astype(np.uint8)
