"""PyTorch models for the run files here: built from a configuration with seeded random weights, nothing is downloaded.

A callable takes nothing and returns a module in eval mode and its example inputs, a tuple of tensors. Run files name it
`torch:configs.models:resnet18`; two calls give the same weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertModel,
    ConvNextConfig,
    ConvNextForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
    PreTrainedModel,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)  # fmt: skip
from transformers.models.bert.modeling_bert import BertEncoder

IMAGE = (1, 3, 224, 224)
HIDDEN, LAYERS, HEADS, SEQUENCE = 256, 4, 4, 128
CLASSES = 1000


class Logits(nn.Module):
    """An image classifier of transformers, answering a plain tensor of shape (batch, 1000)."""

    def __init__(self, classifier: PreTrainedModel) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.classifier(pixel_values=pixels).logits
        return logits


class Hidden(nn.Module):
    """BERT on token ids (batch, sequence), answering the last hidden states; every token is attended to."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.bert(input_ids=tokens).last_hidden_state
        return hidden


class Prefill(nn.Module):
    """GPT-2 on a prompt of token ids (batch, sequence), answering the logits of every position; causal, no cache."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.gpt = GPT2LMHeadModel(config)

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.gpt(input_ids=tokens, use_cache=False).logits
        return logits


class Encoder(nn.Module):
    """A BERT encoder on embedded tokens: (batch, sequence, hidden) float32 in and out, no mask."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.encoder = BertEncoder(config)

    def forward(self, embedded: Tensor) -> Tensor:
        hidden: Tensor = self.encoder(embedded).last_hidden_state
        return hidden


def resnet18() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """ResNet-18 on one 224x224 image."""
    config = ResNetConfig(layer_type="basic", depths=[2, 2, 2, 2], hidden_sizes=[64, 128, 256, 512], num_labels=1000)
    return _seeded(lambda: Logits(ResNetForImageClassification(config))), (torch.zeros(IMAGE),)


def resnet50() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """ResNet-50 on one 224x224 image."""
    config = ResNetConfig(num_labels=1000)
    return _seeded(lambda: Logits(ResNetForImageClassification(config))), (torch.zeros(IMAGE),)


def resnet50_half() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """ResNet-50 in float16, for GPUs."""
    module, (image,) = resnet50()
    return module.half(), (image.half(),)


def encoder() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A transformer encoder: 4 layers, hidden size 256, 4 heads, on one sequence of 128 embedded tokens."""
    config = BertConfig(
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * HIDDEN,
        max_position_embeddings=SEQUENCE,
        attn_implementation="eager",  # written as matmul and softmax, so that every operator can be tuned
    )
    return _seeded(lambda: Encoder(config)), (torch.zeros(1, SEQUENCE, HIDDEN),)


def mobilenet_v2() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """MobileNetV2 1.0 on one 224x224 image."""
    config = MobileNetV2Config(num_labels=CLASSES)
    return _seeded(lambda: Logits(MobileNetV2ForImageClassification(config))), (torch.zeros(IMAGE),)


def vit_small() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """ViT-Small/16 on one 224x224 image: 197 tokens of 384, 12 layers, 6 heads."""
    config = ViTConfig(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536, num_labels=CLASSES,
        attn_implementation="eager",
    )  # fmt: skip
    return _seeded(lambda: Logits(ViTForImageClassification(config))), (torch.zeros(IMAGE),)


def convnext_tiny() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """ConvNeXt-T on one 224x224 image."""
    config = ConvNextConfig(num_labels=CLASSES)
    return _seeded(lambda: Logits(ConvNextForImageClassification(config))), (torch.zeros(IMAGE),)


def bert_base() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """BERT-base on 128 tokens: 12 layers of 768, 12 heads."""
    config = BertConfig(attn_implementation="eager")
    return _seeded(lambda: Hidden(config)), (torch.zeros(1, SEQUENCE, dtype=torch.int64),)


def gpt2() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """GPT-2 (124 million parameters) on a prompt of 128 tokens: 12 layers of 768, 12 heads."""
    config = GPT2Config(attn_implementation="eager")
    return _seeded(lambda: Prefill(config)), (torch.zeros(1, SEQUENCE, dtype=torch.int64),)


def _seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """The module with the same weights each time; the caller's random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().eval()


def small_convnet() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A convolutional network of 0.1 million multiply-adds on one 12x12 image, for the simulated GPU."""
    return _seeded(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Conv2d(8, 16, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10), nn.Softmax(-1),
        )
    ), (torch.zeros(1, 3, 12, 12),)  # fmt: skip


def small_half() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Two dense layers in float16 on 32 rows of 64, for tensor cores of the simulated GPU."""
    module, (rows,) = small_dense()
    return module.half(), (rows.half(),)


def small_dense() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """As `small_half`, in float32."""
    return _seeded(lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32))), (torch.zeros(32, 64),)


def small_block() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A transformer's block of 32 features and 2 heads on 16 embedded tokens, for the simulated GPU."""
    config = BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, max_position_embeddings=16,
        attn_implementation="eager",
    )  # fmt: skip
    return _seeded(lambda: Encoder(config)), (torch.zeros(1, 16, 32),)
