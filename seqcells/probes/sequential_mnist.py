"""Sequential MNIST: a digit, one pixel per step."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from seqcells import _check
from seqcells.probes._idx import load_idx
from seqcells.probes._images import SequentialImages

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


@dataclasses.dataclass(frozen=True)
class SequentialMNIST(SequentialImages):
    """Classify a digit that is shown one pixel per step, T = 784 (Le, Jaitly & Hinton 2015).

    Pixels come row by row, scaled to [0, 1]; with a seed, in one random order for all images
    ("permuted MNIST"). Every paper draws its own order, so results on permuted MNIST are comparable
    only up to the order. The answer is due at the last step. Answering all digits with equal
    probability costs ln 10 = 2.3026 nats. The best constant answer costs the entropy of the labels,
    2.3012 nats for the 60,000 training images, because digits are not equally frequent. Papers
    report test accuracy without a threshold; ours is 0.95.

    The images are arguments of `sample`, not fields: they pass into a jitted function as arrays.

    >>> images, labels = probes.SequentialMNIST.load("mnist", "test")  # doctest: +SKIP
    >>> sample = probes.SequentialMNIST().sample(key, 64, images, labels)  # doctest: +SKIP

    Args:
        permutation_seed: seed of the pixel order, at least 0; None shows pixels row by row.
    """

    SIDE: ClassVar[int] = 28
    WHITE: ClassVar[int] = 255

    @staticmethod
    def load(
        folder: str | os.PathLike[str], split: Literal["train", "test"] = "train"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read images uint8[M, 28, 28] and labels uint8[M] from the files of MNIST.

        Args:
            folder: the folder of the files: train-images-idx3-ubyte, train-labels-idx1-ubyte, and
                t10k-... for the test set; with or without .gz, with a dot or a dash before idx.
            split: "train" or "test".

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, or the two do not belong together.
        """
        _check.choice("split", split, _FILES)
        parts = _FILES[split]
        images, labels = (load_idx(_find(Path(folder), part)) for part in parts)
        if images.shape != (len(labels), 28, 28):
            raise ValueError(
                f"folder: expected images [M, 28, 28] and labels [M] in {parts[0]} and {parts[1]}, "
                f"got {list(images.shape)} and {list(labels.shape)} in {str(folder)!r}"
            )
        return images, labels


def _find(folder: Path, name: str) -> Path:
    """Return the file of that name, in any of its spellings."""
    spellings = [name, name.replace("-idx", ".idx")]
    paths = [folder / (spelling + end) for spelling in spellings for end in ("", ".gz")]
    for path in paths:
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"folder: expected {name} or {name}.gz in {str(folder)!r}, got neither; "
        "download the four files of MNIST by hand"
    )
