"""Networks for sequences and pairs, small and written out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class TemporalBlock(nn.Module):
    """Two dilated causal convolutions and a residual."""

    def __init__(self, i: int, o: int, dilation: int) -> None:
        super().__init__()
        self.pad = 2 * dilation
        self.one, self.two = nn.Conv1d(i, o, 3, dilation=dilation), nn.Conv1d(o, o, 3, dilation=dilation)
        self.skip = nn.Identity() if i == o else nn.Conv1d(i, o, 1)

    def forward(self, x: Tensor) -> Tensor:
        """One step."""
        y = functional.relu(self.one(functional.pad(x, (self.pad, 0))))
        y = functional.relu(self.two(functional.pad(y, (self.pad, 0))))
        return functional.relu(y + self.skip(x))


class TCN(nn.Module):
    """Temporal convolutional network; the last step classifies."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(TemporalBlock(6, 16, 1), TemporalBlock(16, 16, 2), TemporalBlock(16, 24, 4))
        self.fc = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.fc(self.body(x)[:, :, -1])


class Recurrent(nn.Module):
    """Embedding, a recurrent layer, and the last step classified."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, both_ways: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.rnn = kind(12, 16, batch_first=True, bidirectional=both_ways)
        self.fc = nn.Sequential(nn.Linear(32 if both_ways else 16, 24), nn.ReLU(), nn.Linear(24, 5))

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits."""
        return self.fc(self.rnn(self.embed(tokens))[0][:, -1])


class Tagger(nn.Module):
    """Embedding, two recurrent layers both ways, and a class for each token."""

    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.rnn = kind(12, 16, 2, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(32, 7)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits of each token."""
        return self.fc(self.rnn(self.embed(tokens))[0])


class Towers(nn.Module):
    """Two towers with the same weights, compared by a head."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 16), nn.LayerNorm(16), nn.GELU())
        self.head = nn.Sequential(nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """How well they match."""
        a, b = self.tower(left), self.tower(right)
        return self.head(torch.cat([a, b, (a - b).abs()], 1))


class Encoder(nn.Module):
    """Torch's own TransformerEncoder on embedded tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.place = nn.Parameter(torch.randn(1, 12, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.fc = nn.Linear(16, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        """The logits, from the mean over all tokens."""
        return self.fc(self.body(self.embed(tokens) + self.place).mean(1))
