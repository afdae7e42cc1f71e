"""Single kernels as models of one operator, for the cells of a night: `torch:configs.kernels:matmul`.

Each callable takes nothing and returns a module in eval mode and its example inputs; two calls give the same weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, tuple[Tensor, ...]]


def matmul() -> Made:
    """A product of 128 x 512 by 512 x 512."""
    torch.manual_seed(0)
    return nn.Linear(512, 512, bias=False).eval(), (torch.randn(128, 512),)


def convolution() -> Made:
    """A 3x3 convolution of 64 channels on 28 x 28."""
    torch.manual_seed(0)
    return nn.Conv2d(64, 64, 3, padding=1, bias=False).eval(), (torch.randn(1, 64, 28, 28),)


def depthwise() -> Made:
    """A 3x3 convolution of each of 96 channels on 28 x 28."""
    torch.manual_seed(0)
    return nn.Conv2d(96, 96, 3, padding=1, groups=96, bias=False).eval(), (torch.randn(1, 96, 28, 28),)


def softmax() -> Made:
    """A softmax over the rows of 512 x 512."""
    torch.manual_seed(0)
    return nn.Softmax(dim=-1).eval(), (torch.randn(512, 512),)
