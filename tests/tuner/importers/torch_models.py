"""Callables that the tests import by name, as a user's `torch:` source would be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.first(image)))
        x = torch.relu(x + self.second(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class Encoder(nn.Module):
    """A transformer layer over token ids with a mask; returns a mapping, as `transformers` does."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
        self.norm = nn.LayerNorm(16)
        self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)

    def forward(self, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        x = self.table(ids)
        scores = self.query(x) @ self.key(x).transpose(1, 2) / 4.0 + (1.0 - mask.float())[:, None, :] * -1e4
        x = self.norm(x + scores.softmax(-1) @ self.value(x))
        x = x + self.down(nn.functional.gelu(self.up(x)))
        return {"last": x, "pooled": x[:, 0]}


def conv_net() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return ConvNet(), (torch.zeros(1, 3, 12, 12),)


def conv_net_alone() -> nn.Module:
    return ConvNet()


def encoder() -> tuple[nn.Module, tuple[Tensor, ...]]:
    ids = torch.arange(6).reshape(1, 6) + 40
    return Encoder(), (ids, torch.ones(1, 6, dtype=torch.int64))


def fails() -> nn.Module:
    raise OSError("no weights here")


def not_a_module() -> str:
    return "a module"


def wrong_example() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return ConvNet(), (torch.zeros(1, 4, 12, 12),)


def branches() -> tuple[nn.Module, tuple[Tensor, ...]]:
    class Branching(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1 if x.sum() > 0 else x - 1

    return Branching(), (torch.ones(1, 2),)


def exotic() -> tuple[nn.Module, tuple[Tensor, ...]]:
    class Exotic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            orthogonal: Tensor = torch.linalg.qr(x)[0]
            return orthogonal

    return Exotic(), (torch.eye(3)[None],)


def packed() -> tuple[nn.Module, tuple[Tensor, ...]]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, and in use
        quantize: Any = torch.ao.quantization.quantize_dynamic
        return quantize(nn.Sequential(nn.Linear(4, 4)), {nn.Linear}, dtype=torch.qint8), (torch.ones(1, 4),)


constant = 3
