"""Sequential digits: scikit-learn's small digits, one pixel a step."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import numpy as np

from seqcells import _check
from seqcells.probes._images import SequentialImages

_TRAIN = 1437  # of 1797: four fifths; the last fifth was written by other people


@dataclasses.dataclass(frozen=True)
class SequentialDigits(SequentialImages):
    """Name a digit of 8 x 8 pixels that is shown one pixel a step, T = 64.

    `SequentialMNIST` for small machines, with the 1,797 digits that come with scikit-learn
    (Alpaydin & Kaynak 1998, UCI): nothing to download. Pixels are scaled to [0, 1]. Guessing costs
    ln 10; an accuracy above 0.95 solves it (the bar is ours). There are 360 test images, so an
    accuracy of 0.95 on them has a standard error of 0.011: drawing 10,000 of them adds nothing.

    Args:
        permutation_seed: of the order of the pixels, at least 0; None shows them row by row.
    """

    SIDE: ClassVar[int] = 8
    WHITE: ClassVar[int] = 16

    @staticmethod
    def load(split: Literal["train", "test"] = "train") -> tuple[np.ndarray, np.ndarray]:
        """Take images uint8[M, 8, 8] and labels uint8[M] from scikit-learn.

        Args:
            split: "train", the first 1,437, or "test", the last 360.

        Raises:
            ModuleNotFoundError: scikit-learn is not installed.
        """
        _check.choice("split", split, ("train", "test"))
        digits = _check.extra("sklearn.datasets", "seqcells[data]").load_digits()
        part = slice(None, _TRAIN) if split == "train" else slice(_TRAIN, None)
        return digits.images[part].astype(np.uint8), digits.target[part].astype(np.uint8)
