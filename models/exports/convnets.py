"""Convolutional architectures, small and written out, since torchvision has no build for the CPU here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Unit(nn.Sequential):
    """Convolution, batch normalization, activation."""

    def __init__(self, i: int, o: int, kernel: Any = 3, act: type[nn.Module] | None = nn.ReLU, **more: Any) -> None:
        pad = more.pop("padding", tuple(k // 2 for k in kernel) if isinstance(kernel, tuple) else kernel // 2)
        super().__init__(nn.Conv2d(i, o, kernel, padding=pad, bias=False, **more), nn.BatchNorm2d(o))
        if act is not None:
            self.append(act())


class Bottleneck(nn.Module):
    """ResNet's and ResNeXt's block."""

    def __init__(self, i: int, mid: int, o: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        middle = Unit(mid, mid, 3, stride=stride, groups=groups)
        self.body = nn.Sequential(Unit(i, mid, 1), middle, Unit(mid, o, 1, None))
        self.skip = nn.Identity() if i == o and stride == 1 else Unit(i, o, 1, None, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        """One step."""
        return functional.relu(self.body(x) + self.skip(x))


class Head(nn.Module):
    """Global pooling, flatten, classifier."""

    def __init__(self, features: int, classes: int = 10) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(features, classes)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.fc(torch.flatten(self.pool(x), 1))


def resnet(groups: int = 1) -> nn.Module:
    """ResNet; with groups, ResNeXt."""
    blocks = [Bottleneck(16, 16, 32, 1, groups), Bottleneck(32, 16, 32, 1, groups), Bottleneck(32, 24, 48, 2, groups)]
    return nn.Sequential(Unit(3, 16, 7, stride=2), nn.MaxPool2d(3, 2, 1), *blocks, Head(48))


class DenseLayer(nn.Module):
    """Batch normalization first, and a concatenation behind."""

    def __init__(self, i: int, growth: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.BatchNorm2d(i), nn.ReLU(), nn.Conv2d(i, 2 * growth, 1, bias=False)),
            *(nn.BatchNorm2d(2 * growth), nn.ReLU(), nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """One step."""
        return torch.cat([x, self.body(x)], 1)


def densenet() -> nn.Module:
    """DenseNet of two blocks with a transition."""
    transition = (nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 1, bias=False), nn.AvgPool2d(2))
    blocks = (DenseLayer(16, 8), DenseLayer(24, 8), *transition, DenseLayer(16, 8), DenseLayer(24, 8))
    return nn.Sequential(Unit(3, 16, 3, stride=2), *blocks, nn.BatchNorm2d(32), nn.ReLU(), Head(32))


class Inception(nn.Module):
    """Inception v3's block with asymmetric kernels."""

    def __init__(self, i: int) -> None:
        super().__init__()
        self.one = Unit(i, 8, 1)
        self.seven = nn.Sequential(Unit(i, 8, 1), Unit(8, 12, (1, 7)), Unit(12, 12, (7, 1)))
        self.stem = Unit(i, 8, 1)
        self.row, self.column = Unit(8, 8, (1, 3)), Unit(8, 8, (3, 1))
        self.pool = Unit(i, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Four branches, one of them split."""
        stem = self.stem(x)
        split = torch.cat([self.row(stem), self.column(stem)], 1)
        pooled = self.pool(functional.avg_pool2d(x, 3, 1, 1))
        return torch.cat([self.one(x), self.seven(x), split, pooled], 1)


def inception() -> nn.Module:
    """Two Inception blocks with a pooling between."""
    blocks = (Inception(16), nn.MaxPool2d(3, 2), Inception(48))
    return nn.Sequential(Unit(3, 16, 3, stride=2), *blocks, nn.Dropout(), Head(48))


def shuffled(x: Tensor, groups: int = 2) -> Tensor:
    """Channels of the groups, interleaved."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class ShuffleBlock(nn.Module):
    """ShuffleNet v2's block."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        half = o // 2
        start = i if stride > 1 else half
        middle = Unit(half, half, 3, None, stride=stride, groups=half)
        self.right = nn.Sequential(Unit(start, half, 1), middle, Unit(half, half, 1))
        self.left = nn.Sequential(Unit(i, i, 3, None, stride=stride, groups=i), Unit(i, half, 1))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Split or two branches, then shuffle."""
        if self.stride > 1:
            return shuffled(torch.cat([self.left(x), self.right(x)], 1))
        left, right = x.chunk(2, 1)
        return shuffled(torch.cat([left, self.right(right)], 1))


def shufflenet() -> nn.Module:
    """ShuffleNet v2."""
    blocks = (ShuffleBlock(8, 16, 2), ShuffleBlock(16, 16, 1), ShuffleBlock(16, 16, 1))
    return nn.Sequential(Unit(3, 8, 3, stride=2), *blocks, Unit(16, 32, 1), Head(32))


class UNet(nn.Module):
    """Two levels, transposed convolutions, skips by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Sequential(Unit(3, 8), Unit(8, 8)), nn.Sequential(Unit(8, 16), Unit(16, 16))
        self.deep = Unit(16, 32)
        self.up_two, self.up_one = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.back_two, self.back_one = Unit(32, 16), Unit(16, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """A map of classes."""
        one = self.one(x)
        two = self.two(functional.max_pool2d(one, 2))
        deep = self.deep(functional.max_pool2d(two, 2))
        two = self.back_two(torch.cat([self.up_two(deep), two], 1))
        return self.out(self.back_one(torch.cat([self.up_one(two), one], 1)))


def super_resolution() -> nn.Module:
    """ESPCN: sub-pixel convolutions, the last of them on the output."""
    first = (nn.Conv2d(1, 16, 5, padding=2), nn.Tanh(), nn.Conv2d(16, 32, 3, padding=1), nn.PixelShuffle(2))
    second = (nn.PReLU(8), nn.Conv2d(8, 12, 3, padding=1), nn.PReLU(), nn.Conv2d(12, 4, 3, padding=1))
    return nn.Sequential(*first, *second, nn.PixelShuffle(2))


class C3(nn.Module):
    """YOLO's cross-stage block, split in halves."""

    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.first, self.last = Unit(i, o, 1, nn.SiLU), Unit(3 * o // 2, o, 1, nn.SiLU)
        self.inner = nn.Sequential(Unit(o // 2, o // 2, 3, nn.SiLU), Unit(o // 2, o // 2, 3, nn.SiLU))

    def forward(self, x: Tensor) -> Tensor:
        """Halves, and what the second of them becomes."""
        left, right = self.first(x).chunk(2, 1)
        return self.last(torch.cat([left, right, right + self.inner(right)], 1))


class Yolo(nn.Module):
    """Backbone, spatial pyramid pooling, top-down neck and heads at two scales."""

    def __init__(self, anchors: int = 2, classes: int = 3) -> None:
        super().__init__()
        self.anchors, self.per_anchor = anchors, classes + 5
        self.stem = nn.Sequential(Unit(3, 8, 6, nn.SiLU, stride=2, padding=2), Unit(8, 16, 3, nn.SiLU, stride=2))
        self.small, self.down, self.big = C3(16, 16), Unit(16, 32, 3, nn.SiLU, stride=2), C3(32, 32)
        self.squeeze, self.pool, self.merge = Unit(32, 16, 1, nn.SiLU), nn.MaxPool2d(5, 1, 2), Unit(48, 16, 1, nn.SiLU)
        self.neck = C3(32, 16)
        self.head = nn.ModuleList(nn.Conv2d(16, anchors * self.per_anchor, 1) for _ in range(2))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Predictions at two scales."""
        small = self.small(self.stem(x))
        squeezed = self.squeeze(self.big(self.down(small)))
        pooled = self.pool(squeezed)
        top = self.merge(torch.cat([squeezed, pooled, self.pool(pooled)], 1))
        neck = self.neck(torch.cat([functional.interpolate(top, scale_factor=2.0, mode="nearest"), small], 1))
        return [self._predict(head(level)) for head, level in zip(self.head, (neck, top), strict=True)]

    def _predict(self, raw: Tensor) -> Tensor:
        n, _, h, w = raw.shape
        return raw.view(n, self.anchors, self.per_anchor, h, w).permute(0, 1, 3, 4, 2).contiguous().sigmoid()


def autoencoder() -> nn.Module:
    """Convolutions to a code and back by transposed convolutions."""
    encoder = (nn.Conv2d(1, 8, 3, 2, 1), nn.LeakyReLU(0.1), nn.Conv2d(8, 16, 3, 2, 1), nn.LeakyReLU(0.1))
    code = (nn.Flatten(), nn.Linear(16 * 16, 24), nn.ReLU(), nn.Linear(24, 16 * 16), nn.ReLU())
    decoder = (nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Sigmoid())
    return nn.Sequential(*encoder, *code, nn.Unflatten(1, (16, 4, 4)), *decoder)
