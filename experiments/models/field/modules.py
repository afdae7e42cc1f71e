"""Modules of kinds that `transformers` does not have, or has only in large."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Step(nn.Module):
    """One step of a language model with the keys and values of earlier steps as tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, past: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer, (keys, values) in enumerate(past):
            cache.update(keys, values, layer)
        result = self.model(input_ids=input_ids, past_key_values=cache, use_cache=True)
        return {"logits": result.logits, "present": [(keys, values) for keys, values, *_ in cache]}


class Residual(nn.Module):
    """Two convolutions with group norms, and the embedding of a time step between them."""

    def __init__(self, inputs: int, outputs: int, embedding: int | None = None) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(8, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.time = nn.Linear(embedding, outputs) if embedding else None
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, embedded: Tensor | None = None) -> Tensor:
        y = self.conv1(functional.silu(self.norm1(x)))
        if self.time is not None:
            assert embedded is not None
            y = y + self.time(functional.silu(embedded))[:, :, None, None]
        y = self.conv2(functional.silu(self.norm2(y)))
        added: Tensor = self.skip(x) + y
        return added


class ImageAttention(nn.Module):
    """Attention of an image to itself, or to the tokens of a text."""

    def __init__(self, channels: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(8, channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key, self.value = (nn.Linear(context or channels, channels, bias=False) for _ in range(2))
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        batch, channels, height, width = x.shape
        rows = self.norm(x).flatten(2).transpose(1, 2)
        other = rows if context is None else context

        def split(values: Tensor) -> Tensor:
            return values.reshape(*values.shape[:2], self.heads, -1).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            split(self.query(rows)), split(self.key(other)), split(self.value(other))
        )
        result = self.out(mixed.transpose(1, 2).flatten(2))
        added: Tensor = x + result.transpose(1, 2).reshape(batch, channels, height, width)
        return added


class DiffusionUNet(nn.Module):
    """Two levels; what one of a latent diffusion model has, in small."""

    def __init__(self, channels: int = 32, context: int = 32) -> None:
        super().__init__()
        wide = 2 * channels
        self.channels = channels
        self.time = nn.Sequential(nn.Linear(channels, wide), nn.SiLU(), nn.Linear(wide, wide))
        self.first = nn.Conv2d(4, channels, 3, padding=1)
        self.down1, self.attend1 = Residual(channels, channels, wide), ImageAttention(channels, 4, context)
        self.smaller = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        self.down2, self.attend2 = Residual(channels, wide, wide), ImageAttention(wide, 4, context)
        self.middle, self.attend = Residual(wide, wide, wide), ImageAttention(wide, 4)
        self.up2, self.larger = Residual(2 * wide, channels, wide), nn.Conv2d(channels, channels, 3, padding=1)
        self.up1 = Residual(wide, channels, wide)
        self.norm, self.last = nn.GroupNorm(8, channels), nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, sample: Tensor, timestep: Tensor, context: Tensor) -> Tensor:
        half = self.channels // 2
        rates = torch.exp(-math.log(10000.0) * torch.arange(half, device=sample.device) / half)
        angles = timestep[:, None].float() * rates
        embedded = self.time(torch.cat([angles.cos(), angles.sin()], -1))
        x1 = self.attend1(self.down1(self.first(sample), embedded), context)
        x2 = self.attend2(self.down2(self.smaller(x1), embedded), context)
        x = self.attend(self.middle(x2, embedded))
        x = self.up2(torch.cat([x, x2], 1), embedded)
        x = self.larger(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        x = self.up1(torch.cat([x, x1], 1), embedded)
        noise: Tensor = self.last(functional.silu(self.norm(x)))
        return noise


class VaeDecoder(nn.Module):
    """From latents of 8 x 8 to an image of 32 x 32."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.first = nn.Conv2d(4, channels, 3, padding=1)
        self.middle = nn.ModuleList([Residual(channels, channels), ImageAttention(channels, 1)])
        self.levels = nn.ModuleList([Residual(channels, channels), Residual(channels, channels // 2)])
        self.larger = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1),
                                     nn.Conv2d(channels // 2, channels // 2, 3, padding=1)])  # fmt: skip
        self.norm, self.last = nn.GroupNorm(8, channels // 2), nn.Conv2d(channels // 2, 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        x = self.first(latents / 0.18215)
        for layer in self.middle:
            x = layer(x)
        for level, larger in zip(self.levels, self.larger, strict=True):
            x = larger(functional.interpolate(level(x), scale_factor=2.0, mode="nearest"))
        image: Tensor = self.last(functional.silu(self.norm(x))).clamp(-1.0, 1.0)
        return image


class UNet(nn.Module):
    """Two levels, batch norms, transposed convolutions on the way up."""

    def __init__(self, channels: int = 16, classes: int = 4) -> None:
        super().__init__()

        def level(inputs: int, outputs: int) -> nn.Sequential:
            layers = [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(),
                      nn.Conv2d(outputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]  # fmt: skip
            return nn.Sequential(*layers)

        self.down1, self.down2, self.middle = (
            level(3, channels), level(channels, 2 * channels), level(2 * channels, 4 * channels)
        )  # fmt: skip
        self.up2, self.level2 = nn.ConvTranspose2d(4 * channels, 2 * channels, 2, 2), level(4 * channels, 2 * channels)
        self.up1, self.level1 = nn.ConvTranspose2d(2 * channels, channels, 2, 2), level(2 * channels, channels)
        self.last = nn.Conv2d(channels, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        x1 = self.down1(image)
        x2 = self.down2(functional.max_pool2d(x1, 2))
        x = self.middle(functional.max_pool2d(x2, 2))
        x = self.level2(torch.cat([self.up2(x), x2], 1))
        logits: Tensor = self.last(self.level1(torch.cat([self.up1(x), x1], 1)))
        return logits


class MaskHead(nn.Module):
    """A pyramid of three levels, a decoder of queries, and a mask from each query's product with the pixels."""

    def __init__(self, channels: int = 32, queries: int = 12, classes: int = 5) -> None:
        super().__init__()
        sizes = (16, 24, channels)
        strided = [nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip((3, *sizes[:-1]), sizes, strict=True)]
        self.levels = nn.ModuleList(strided)
        self.lateral = nn.ModuleList([nn.Conv2d(size, channels, 1) for size in sizes])
        self.pixels = nn.Conv2d(channels, channels, 3, padding=1)
        self.queries = nn.Parameter(torch.randn(1, queries, channels))
        self.decoder = nn.ModuleList([
            nn.TransformerDecoderLayer(channels, 4, 64, batch_first=True) for _ in range(2)
        ])  # fmt: skip
        self.classes, self.masks = nn.Linear(channels, classes + 1), nn.Linear(channels, channels)

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        x, features = image, []
        for level in self.levels:
            x = torch.relu(level(x))
            features.append(x)
        fused = self.lateral[-1](features[-1])
        for lateral, feature in zip(list(self.lateral)[-2::-1], features[-2::-1], strict=True):
            fused = lateral(feature) + functional.interpolate(fused, size=feature.shape[-2:], mode="bilinear")
        queries = self.queries.expand(image.shape[0], -1, -1)
        memory = features[-1].flatten(2).transpose(1, 2)
        for layer in self.decoder:
            queries = layer(queries, memory)
        masks = torch.einsum("bqc,bchw->bqhw", self.masks(queries), self.pixels(fused))
        return {"classes": self.classes(queries), "masks": masks.sigmoid()}


class GraphNetwork(nn.Module):
    """Two rounds of messages: gather at the sources of edges, add up at their targets, divide by their number."""

    def __init__(self, features: int = 16, hidden: int = 32) -> None:
        super().__init__()
        self.enter = nn.Linear(features, hidden)
        self.message = nn.ModuleList([nn.Linear(2 * hidden, hidden) for _ in range(2)])
        self.update = nn.ModuleList([nn.GRUCell(hidden, hidden) for _ in range(2)])
        self.leave = nn.Linear(hidden, 3)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        source, target = edges[0], edges[1]
        x = torch.relu(self.enter(nodes))
        ones = torch.ones(edges.shape[1], 1, dtype=x.dtype)
        degree = torch.zeros(nodes.shape[0], 1, dtype=x.dtype).index_add(0, target, ones).clamp(min=1.0)
        for message, update in zip(self.message, self.update, strict=True):
            sent = torch.relu(message(torch.cat([x[source], x[target]], -1)))
            received = torch.zeros_like(x).scatter_add(0, target[:, None].expand_as(sent), sent) / degree
            x = update(received, x)
        result: Tensor = self.leave(x)
        return result


class Transducer(nn.Module):
    """Every frame of the encoder with every token of the predictor."""

    def __init__(self, features: int = 40, hidden: int = 32, vocabulary: int = 32) -> None:
        super().__init__()
        self.encoder = nn.LSTM(features, hidden, num_layers=2, batch_first=True, bidirectional=True)
        self.embed = nn.Embedding(vocabulary, hidden)
        self.predictor = nn.LSTM(hidden, hidden, batch_first=True)
        self.left, self.right = nn.Linear(2 * hidden, hidden), nn.Linear(hidden, hidden)
        self.joint = nn.Linear(hidden, vocabulary)

    def forward(self, frames: Tensor, tokens: Tensor) -> Tensor:
        heard, _ = self.encoder(frames)
        said, _ = self.predictor(self.embed(tokens))
        both = torch.tanh(self.left(heard)[:, :, None] + self.right(said)[:, None])
        scores: Tensor = self.joint(both).log_softmax(-1)
        return scores
