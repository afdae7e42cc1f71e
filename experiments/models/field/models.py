"""Architectures of the field, in small configurations with random weights: each a callable for a `torch:` source.

The language, vision and speech models are those of the `transformers` package; what it lacks is in modules.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiments.models.field import modules

Example = tuple[nn.Module, Any]

MODELS: dict[str, Callable[[], Example]] = {}
"""By name, in the order of this file."""


def _model(make: Callable[[], Example]) -> Callable[[], Example]:
    MODELS[make.__name__] = make
    return make


def _made(name: str, **config: Any) -> nn.Module:
    """The class `name` of transformers, from its own configuration class with these settings."""
    import transformers

    kind = getattr(transformers, name)
    return kind(kind.config_class(**config))  # type: ignore[no-any-return]


def _ids(length: int = 24, vocabulary: int = 200) -> Tensor:
    return torch.randint(3, vocabulary, (1, length), generator=torch.Generator().manual_seed(0))


def _image(size: int = 64) -> dict[str, Tensor]:
    return {"pixel_values": torch.zeros(1, 3, size, size)}


_SMALL = {
    "vocab_size": 200, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64,
}  # fmt: skip
_DECODER = {**_SMALL, "use_cache": False}
_GROUPED = {**_DECODER, "num_key_value_heads": 2}

# --- decoders ---------------------------------------------------------------------------------


@_model
def llama_with_cache() -> Example:
    """One step of decoding: a token, and the keys and values of those before it."""
    model = _made("LlamaForCausalLM", **{**_GROUPED, "use_cache": True})
    past = [(torch.randn(1, 2, 16, 16), torch.randn(1, 2, 16, 16)) for _ in range(2)]
    return modules.Step(model), (_ids(1), past)


@_model
def gpt_neox() -> Example:
    return _made("GPTNeoXForCausalLM", **_DECODER), {"input_ids": _ids()}


@_model
def opt() -> Example:
    settings = {k: v for k, v in _DECODER.items() if k != "intermediate_size"}
    return _made("OPTForCausalLM", **settings, ffn_dim=128, word_embed_proj_dim=64), {"input_ids": _ids()}


@_model
def qwen3() -> Example:
    return _made("Qwen3ForCausalLM", **_GROUPED, head_dim=16), {"input_ids": _ids()}


@_model
def gemma2() -> Example:
    return _made("Gemma2ForCausalLM", **_GROUPED, head_dim=16, sliding_window=8), {"input_ids": _ids()}


@_model
def phi() -> Example:
    return _made("PhiForCausalLM", **_DECODER), {"input_ids": _ids()}


@_model
def mixtral() -> Example:
    model = _made("MixtralForCausalLM", **_GROUPED, num_local_experts=4, num_experts_per_tok=2)
    return model, {"input_ids": _ids()}


@_model
def mamba() -> Example:
    settings = {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "use_cache": False}
    return _made("MambaForCausalLM", **settings), {"input_ids": _ids(12)}


@_model
def rwkv() -> Example:
    settings = {"vocab_size": 200, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 64, "use_cache": False}
    return _made("RwkvForCausalLM", **settings), {"input_ids": _ids(12)}


# --- encoders, and encoders with decoders ------------------------------------------------------


@_model
def t5() -> Example:
    model = _made("T5ForConditionalGeneration", vocab_size=200, d_model=64, d_kv=16, d_ff=128, num_layers=2,
                  num_heads=4, use_cache=False)  # fmt: skip
    return model, {"input_ids": _ids(), "decoder_input_ids": _ids(8)}


@_model
def bart() -> Example:
    model = _made("BartModel", vocab_size=200, d_model=64, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=128,
                  decoder_ffn_dim=128, encoder_attention_heads=4, decoder_attention_heads=4, use_cache=False,
                  max_position_embeddings=64)  # fmt: skip
    return model, {"input_ids": _ids(), "decoder_input_ids": _ids(8)}


@_model
def deberta() -> Example:
    model = _made("DebertaV2Model", **_SMALL, relative_attention=True, pos_att_type=["p2c", "c2p"],
                  position_buckets=16, share_att_key=True, norm_rel_ebd="layer_norm")  # fmt: skip
    return model, {"input_ids": _ids()}


@_model
def albert() -> Example:
    return _made("AlbertModel", **_SMALL, embedding_size=32), {"input_ids": _ids()}


@_model
def longformer() -> Example:
    model = _made("LongformerModel", **_SMALL, attention_window=8)
    return model, {"input_ids": _ids(), "attention_mask": torch.ones(1, 24, dtype=torch.int64)}


@_model
def big_bird() -> Example:
    model = _made("BigBirdModel", **_SMALL, attention_type="original_full")
    return model, {"input_ids": _ids(), "attention_mask": torch.ones(1, 24, dtype=torch.int64)}


@_model
def perceiver() -> Example:
    model = _made("PerceiverModel", d_model=32, num_latents=8, d_latents=32, num_blocks=1,
                  num_self_attends_per_block=2, num_self_attention_heads=2, num_cross_attention_heads=2)  # fmt: skip
    return model, {"inputs": torch.zeros(1, 24, 32)}


# --- vision -----------------------------------------------------------------------------------


@_model
def yolos() -> Example:
    """Detection with a transformer alone."""
    model = _made("YolosForObjectDetection", hidden_size=64, num_hidden_layers=2, num_attention_heads=4,
                  intermediate_size=128, image_size=[64, 64], num_detection_tokens=10)  # fmt: skip
    return model, _image()


@_model
def deformable_detr() -> Example:
    """Detection with samples of feature maps at computed places."""
    import transformers

    settings: dict[str, Any] = {"embedding_size": 16, "hidden_sizes": [16, 32, 48, 64], "depths": [1, 1, 1, 1],
                                "layer_type": "basic", "out_features": ["stage3", "stage4"]}  # fmt: skip
    backbone = transformers.ResNetConfig(**settings)
    model = _made("DeformableDetrForObjectDetection", use_timm_backbone=False, use_pretrained_backbone=False,
                  backbone=None, backbone_config=backbone, d_model=32, encoder_layers=1, decoder_layers=2,
                  encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
                  num_queries=10, num_feature_levels=2)  # fmt: skip
    return model, _image()


@_model
def segformer() -> Example:
    model = _made("SegformerForSemanticSegmentation", hidden_sizes=[16, 32, 40, 64], depths=[1, 1, 1, 1],
                  num_attention_heads=[1, 2, 4, 8], decoder_hidden_size=32, num_labels=5)  # fmt: skip
    return model, _image()


@_model
def mask_former_head() -> Example:
    """Queries that become masks and classes, over the features of a small pyramid."""
    return modules.MaskHead(), torch.zeros(1, 3, 64, 64)


@_model
def dinov2() -> Example:
    model = _made(
        "Dinov2Model", hidden_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=56, patch_size=14
    )
    return model, _image(56)


@_model
def swin() -> Example:
    model = _made("SwinForImageClassification", image_size=64, embed_dim=16, depths=[2, 2], num_heads=[2, 4],
                  window_size=4, num_labels=10)  # fmt: skip
    return model, _image()


@_model
def convnextv2() -> Example:
    return _made("ConvNextV2ForImageClassification", hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1],
                 num_labels=10), _image()  # fmt: skip


@_model
def mobilevit() -> Example:
    model = _made("MobileViTForImageClassification", image_size=64, hidden_sizes=[24, 32, 40],
                  neck_hidden_sizes=[8, 16, 24, 32, 40, 48, 96], num_attention_heads=4, num_labels=10)  # fmt: skip
    return model, _image()


@_model
def regnet() -> Example:
    return _made("RegNetForImageClassification", embedding_size=16, hidden_sizes=[16, 32, 48, 64], depths=[1, 1, 2, 1],
                 groups_width=8, num_labels=10), _image()  # fmt: skip


@_model
def siglip() -> Example:
    """Images and texts side by side."""
    text = {**_SMALL, "projection_size": 64}
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    return _made("SiglipModel", text_config=text, vision_config=vision), {"input_ids": _ids(16), **_image(32)}


# --- speech, series, graphs, diffusion ---------------------------------------------------------


@_model
def whisper() -> Example:
    model = _made("WhisperModel", vocab_size=200, d_model=64, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=128,
                  decoder_ffn_dim=128, encoder_attention_heads=4, decoder_attention_heads=4, num_mel_bins=16,
                  max_source_positions=32, max_target_positions=32, use_cache=False, pad_token_id=0, bos_token_id=1,
                  eos_token_id=2, decoder_start_token_id=1)  # fmt: skip
    return model, {"input_features": torch.zeros(1, 16, 64), "decoder_input_ids": _ids(8)}


_SPEECH = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "conv_dim": (16, 16, 32), "conv_kernel": (10, 3, 3), "conv_stride": (5, 2, 2), "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}  # fmt: skip


@_model
def wav2vec2() -> Example:
    return _made("Wav2Vec2ForCTC", **_SPEECH, vocab_size=32), {"input_values": torch.zeros(1, 1600)}


@_model
def hubert() -> Example:
    return _made("HubertModel", **_SPEECH, feat_extract_norm="layer", do_stable_layer_norm=True), {
        "input_values": torch.zeros(1, 1600)
    }


@_model
def patchtst() -> Example:
    model = _made("PatchTSTForPrediction", num_input_channels=3, context_length=32, patch_length=8, patch_stride=8,
                  prediction_length=8, d_model=32, num_attention_heads=4, num_hidden_layers=2, ffn_dim=64)  # fmt: skip
    return model, {"past_values": torch.zeros(1, 32, 3)}


@_model
def graph_network() -> Example:
    """Messages along edges, summed at their ends."""
    edges = torch.randint(0, 20, (2, 60), generator=torch.Generator().manual_seed(0))
    return modules.GraphNetwork(), {"nodes": torch.zeros(20, 16), "edges": edges}


@_model
def transducer() -> Example:
    """An RNN transducer: an encoder and a predictor of LSTM layers, joined."""
    return modules.Transducer(), (torch.zeros(1, 24, 40), _ids(6, 32))


@_model
def diffusion_unet() -> Example:
    """Noise from an image, a time step and the tokens of a text."""
    return modules.DiffusionUNet(), {
        "sample": torch.zeros(1, 4, 16, 16), "timestep": torch.tensor([7]), "context": torch.zeros(1, 8, 32)
    }  # fmt: skip


@_model
def vae_decoder() -> Example:
    return modules.VaeDecoder(), torch.zeros(1, 4, 8, 8)


@_model
def unet() -> Example:
    """Segmentation by a U-Net with transposed convolutions."""
    return modules.UNet(), torch.zeros(1, 3, 32, 32)
