"""Models of kinds that the run files do not have: half precision, recurrence, a peaked softmax."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Half(nn.Module):
    """Two layers in float16; float32 outside."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 128).half(), nn.Linear(128, 40).half()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x.half()))).float()  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """An unrolled gated cell over twelve steps."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.gate = nn.Linear(48, 32), nn.Linear(48, 32)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 32)
        states = []
        for step in range(12):
            joined = torch.cat([x[:, step], state], -1)
            gate = torch.sigmoid(self.gate(joined))
            state = gate * torch.tanh(self.inner(joined)) + (1 - gate) * state
            states.append(state)
        return torch.stack(states, 1)


class Classifier(nn.Module):
    """A softmax so peaked that most shares are tiny."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 16, 3, 2), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 32, 3, 2))
        self.head = nn.Linear(32, 300)

    def forward(self, x: Tensor) -> Tensor:
        return torch.softmax(80 * self.head(self.body(x).mean((2, 3))), -1)


def half() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _seeded(Half), (torch.zeros(4, 64),)


def recurrent() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _seeded(Recurrent), (torch.zeros(2, 12, 16),)


def classifier() -> tuple[nn.Module, tuple[Tensor, ...]]:
    return _seeded(Classifier), (torch.zeros(1, 3, 47, 47),)


def _seeded(kind: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind().eval()
