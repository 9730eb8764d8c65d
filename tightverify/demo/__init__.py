"""The demonstration: two small networks that the project trained, and the digits that they read row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).resolve().parent
NETWORKS = {"LSTM": FOLDER / "digits_lstm.onnx", "GRU": FOLDER / "digits_gru.onnx"}
"""The networks by name; `experiments/train_demo.py` trains them."""

Digits = tuple[NDArray[np.float32], NDArray[np.int64]]


def digits() -> Digits:
    """scikit-learn's 1,797 handwritten digits, (N, 8, 8) in [0, 1], and what they show."""
    from sklearn.datasets import load_digits

    images, shown = load_digits(return_X_y=True)
    return (images.reshape(-1, 8, 8) / 16).astype(np.float32), shown.astype(np.int64)


def held_out() -> Digits:
    """Every fifth image, which no network of the demonstration was trained on."""
    images, shown = digits()
    return images[::5], shown[::5]


def rest() -> Digits:
    """The images to train on."""
    images, shown = digits()
    kept = np.arange(len(images)) % 5 != 0
    return images[kept], shown[kept]
