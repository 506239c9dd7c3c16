"""The task: digits that are moved and covered by noise, so that small networks are well below the ceiling."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from sklearn.datasets import load_digits
from torch import Tensor

TRAIN = 900
"""Digits to train on; the other 897 validate, moved and covered once and for all."""
NOISE = 0.5
"""Standard deviation of the noise, relative to that of all pixels."""
SHIFT = 1
"""By how many pixels digits are moved, at most, each way."""
SPLIT = 0


@dataclass(frozen=True, slots=True)
class Data:
    """Images [n, 1, 8, 8] and labels [n]: those to train on as they are, those to validate on moved and covered."""

    images: Tensor
    labels: Tensor
    seen: Tensor
    answers: Tensor


def load() -> Data:
    """The same split and the same validation set each time."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None]
    images = (images - images.mean()) / images.std()
    labels = torch.tensor(digits.target)
    generator = torch.Generator().manual_seed(SPLIT)
    order = torch.randperm(len(images), generator=generator)
    train, held = order[:TRAIN], order[TRAIN:]
    return Data(images[train], labels[train], disturbed(images[held], generator), labels[held])


def disturbed(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by up to `SHIFT` pixels each way, with noise on top; blank pixels move in."""
    blank = float(images.min())
    padded = torch.nn.functional.pad(images, (SHIFT,) * 4, value=blank)
    down, right = torch.randint(0, 2 * SHIFT + 1, (2, len(images)), generator=generator)
    rows = down[:, None, None] + torch.arange(8)[None, :, None]
    columns = right[:, None, None] + torch.arange(8)[None, None, :]
    moved = padded[torch.arange(len(images))[:, None, None], 0, rows, columns][:, None]
    return moved + NOISE * torch.randn(moved.shape, generator=generator)
