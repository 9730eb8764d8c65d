"""The demonstration: two small networks that the project trained, and the digits that they read row by row.

The digits are the test set of "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak (UCI Machine Learning
Repository, 1998, https://doi.org/10.24432/C50P49, CC BY 4.0), as scikit-learn has it: 8 x 8 counts of 0 to 16.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent
NETWORKS = {"LSTM": FOLDER / "digits_lstm.onnx", "GRU": FOLDER / "digits_gru.onnx"}
"""The networks by name; `experiments/train_demo.py` trains them."""
DIGITS = FOLDER / "digits.npz"

Digits = tuple[NDArray[np.float32], NDArray[np.int64]]


def digits() -> Digits:
    """1,797 handwritten digits, (N, 8, 8) in [0, 1], and what they show."""
    with np.load(DIGITS) as kept:
        return (kept["images"] / 16).astype(np.float32), kept["shown"].astype(np.int64)


def held_out() -> Digits:
    """Every fifth image, which no network of the demonstration was trained on."""
    images, shown = digits()
    return images[::5], shown[::5]


def rest() -> Digits:
    """The images to train on."""
    images, shown = digits()
    kept = np.arange(len(images)) % 5 != 0
    return images[kept], shown[kept]
