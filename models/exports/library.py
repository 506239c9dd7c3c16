"""Architectures from transformers and timm, made small by configuration; nothing is downloaded."""
# ruff: noqa: PLC0415  # each network imports only what it needs

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import tempfile
import types
from functools import partial
from typing import Any

import onnx
from torch import Tensor, nn


class _Any(type):
    """A class that has every attribute."""

    def __getattr__(cls, name: str) -> Any:
        return name


class _Stub(types.ModuleType):
    """Stands in for torchvision, which timm imports for its data loading only."""

    __path__: list[str] = []  # noqa: RUF012

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Any(name, (), {})


def import_timm() -> None:
    """Imports timm without torchvision, which is not left behind: transformers would believe in it."""
    names = "", ".transforms", ".transforms.functional", ".datasets", ".datasets.folder", ".ops", ".ops.misc"
    stubs = [f"torchvision{tail}" for tail in (*names, ".models", ".models.feature_extraction", ".utils")]
    for name in stubs:
        module = sys.modules[name] = _Stub(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    importlib.import_module("timm")
    for name in stubs:
        del sys.modules[name]


class Only(nn.Module):
    """A model of transformers that takes tensors by position and gives one tensor back."""

    def __init__(self, model: nn.Module, names: tuple[str, ...], output: str = "logits", **more: Any) -> None:
        super().__init__()
        self.model, self.names, self.output, self.more = model, names, output, more

    def forward(self, *given: Tensor) -> Tensor:
        """The output named at construction."""
        return getattr(self.model(**dict(zip(self.names, given, strict=True)), **self.more), self.output)


class Pair(Only):
    """The same for two inputs, since exporters read the signature."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """The output named at construction."""
        return super().forward(first, second)


class One(Only):
    """The same for one input."""

    def forward(self, first: Tensor) -> Tensor:
        """The output named at construction."""
        return super().forward(first)


class Cached(nn.Module):
    """A decoder of two layers that takes its keys and values as tensors and gives back all of them, old and new."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, mask: Tensor, k0: Tensor, v0: Tensor, k1: Tensor, v1: Tensor) -> tuple[Tensor, ...]:
        """Scores, and for each layer keys and values."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer, (keys, values) in enumerate(((k0, v0), (k1, v1))):
            cache.update(keys, values, layer)
        made = self.model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True)
        kept = (tensor for layer in made.past_key_values.layers for tensor in (layer.keys, layer.values))
        return made.logits, *kept


OPTIMUM = {
    "bert.optimum": ("bert", "text-classification"),
    "gpt2.optimum": ("gpt2", "text-generation"),
    "llama.optimum": ("llama", "text-generation"),
    "gpt2_cache.optimum": ("gpt2", "text-generation-with-past"),
    "llama_cache.optimum": ("llama", "text-generation-with-past"),
}
"""By file name, the network and the task that optimum exports it for."""


def from_optimum(build: Any, task: str) -> onnx.ModelProto:
    """What optimum makes of a network of transformers; all that it makes dynamic stays so."""
    from optimum.exporters.onnx import onnx_export_from_model

    with tempfile.TemporaryDirectory() as folder:
        sizes = {"batch_size": 2, "sequence_length": 8}
        onnx_export_from_model(build().model, folder, task=task, opset=18, do_validation=False, **sizes)
        return onnx.load(f"{folder}/model.onnx")


SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
EAGER = {"attn_implementation": "eager"}


def bert() -> nn.Module:
    """BERT with a classifier."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(vocab_size=60, max_position_embeddings=24, num_labels=5, **SIZES, **EAGER)
    return Pair(BertForSequenceClassification(config), ("input_ids", "attention_mask"))


def gpt2() -> nn.Module:
    """GPT-2 with its language head, which shares the embedding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=60, n_positions=24, n_embd=32, n_layer=2, n_head=4, **EAGER)
    return Pair(GPT2LMHeadModel(config), ("input_ids", "attention_mask"), use_cache=False)


def llama() -> nn.Module:
    """Llama: RMSNorm, rotary embedding, grouped keys, gated MLP."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=60, max_position_embeddings=24, num_key_value_heads=2, **SIZES, **EAGER)
    return Pair(LlamaForCausalLM(config), ("input_ids", "attention_mask"), use_cache=False)


def gpt2_cache() -> nn.Module:
    """GPT-2 that goes on from a cache."""
    return Cached(gpt2().model)


def llama_cache() -> nn.Module:
    """Llama that goes on from a cache: rotated keys of two heads for four of queries."""
    return Cached(llama().model)


def qwen3() -> nn.Module:
    """Qwen 3: as Llama, with norms of queries and keys."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=60, max_position_embeddings=24, num_key_value_heads=2, head_dim=8, **SIZES, **EAGER
    )  # fmt: skip
    return Pair(Qwen3ForCausalLM(config), ("input_ids", "attention_mask"), use_cache=False)


def gemma() -> nn.Module:
    """Gemma: scaled embeddings that the language head shares, one head of keys, heads wider than hidden / heads."""
    from transformers import GemmaConfig, GemmaForCausalLM

    config = GemmaConfig(
        vocab_size=60, max_position_embeddings=24, num_key_value_heads=1, head_dim=16, **SIZES, **EAGER
    )  # fmt: skip
    return Pair(GemmaForCausalLM(config), ("input_ids", "attention_mask"), use_cache=False)


def mixtral() -> nn.Module:
    """Mixtral: a router sends each token to two of four experts, whose weights are picked by index."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=60, max_position_embeddings=24, num_key_value_heads=2, num_local_experts=4,
        experts_implementation="batched_mm", **SIZES, **EAGER,
    )  # fmt: skip
    return Pair(MixtralForCausalLM(config), ("input_ids", "attention_mask"), use_cache=False)


def mamba() -> nn.Module:
    """Mamba: a convolution and a scan, step by step, in place of attention."""
    from transformers import MambaConfig, MambaForCausalLM

    config = MambaConfig(vocab_size=60, hidden_size=32, state_size=5, time_step_rank=3, num_hidden_layers=2)
    return One(MambaForCausalLM(config), ("input_ids",), use_cache=False)


def t5() -> nn.Module:
    """T5: encoder and decoder, relative positions, no scale of scores."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=60, d_model=32, d_kv=8, d_ff=48, num_layers=1, num_heads=4, relative_attention_num_buckets=8,
        decoder_start_token_id=0, **EAGER,
    )  # fmt: skip
    return Pair(T5ForConditionalGeneration(config), ("input_ids", "decoder_input_ids"), use_cache=False)


def whisper() -> nn.Module:
    """Whisper: convolutions into an encoder, a decoder that attends to it."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    config = WhisperConfig(
        vocab_size=60, num_mel_bins=8, encoder_layers=1, decoder_layers=1, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, d_model=32, max_source_positions=10,
        max_target_positions=24, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1, **EAGER,
    )  # fmt: skip
    names = ("input_features", "decoder_input_ids")
    return Pair(WhisperForConditionalGeneration(config), names, use_cache=False)


def vit() -> nn.Module:
    """Vision transformer."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(image_size=32, patch_size=8, num_labels=5, **SIZES)
    return One(ViTForImageClassification(config), ("pixel_values",))


def segformer() -> nn.Module:
    """SegFormer: attention over reduced maps, depthwise convolutions in the MLP, a decoder that resizes."""
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        hidden_sizes=[8, 16], num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], num_attention_heads=[1, 2],
        patch_sizes=[7, 3], strides=[4, 2], mlp_ratios=[2, 2], decoder_hidden_size=16, num_labels=3,
    )  # fmt: skip
    return One(SegformerForSemanticSegmentation(config), ("pixel_values",))


def mobilenet_v2() -> nn.Module:
    """MobileNet v2."""
    import_timm()
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNet

    blocks = decode_arch_def([["ds_r1_k3_s1_c8"], ["ir_r2_k3_s2_e4_c12"], ["ir_r1_k3_s2_e4_c16"]])
    return EfficientNet(blocks, num_classes=10, num_features=48, stem_size=8, act_layer=nn.ReLU6)


def mobilenet_v3() -> nn.Module:
    """MobileNet v3: squeeze and excitation with hard sigmoid, hard swish."""
    import_timm()
    from timm.models._efficientnet_blocks import SqueezeExcite
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.mobilenetv3 import MobileNetV3

    stages = [["ds_r1_k3_s2_e1_c8_se0.25_nre"], ["ir_r2_k5_s2_e3_c12_se0.25"], ["cn_r1_k1_s1_c32"]]
    gate = partial(SqueezeExcite, gate_layer="hard_sigmoid", force_act_layer=nn.ReLU)
    act = nn.Hardswish
    return MobileNetV3(
        decode_arch_def(stages), num_classes=10, num_features=48, stem_size=8, act_layer=act, se_layer=gate
    )


def efficientnet() -> nn.Module:
    """EfficientNet: squeeze and excitation, SiLU."""
    import_timm()
    from timm.models._efficientnet_builder import decode_arch_def
    from timm.models.efficientnet import EfficientNet

    stages = [["ds_r1_k3_s1_e1_c8_se0.25"], ["ir_r2_k3_s2_e3_c12_se0.25"], ["ir_r1_k5_s2_e3_c16_se0.25"]]
    return EfficientNet(decode_arch_def(stages), num_classes=10, num_features=48, stem_size=8, act_layer=nn.SiLU)


def regnet() -> nn.Module:
    """RegNet Y: grouped convolutions, squeeze and excitation."""
    import_timm()
    from timm.models.regnet import RegNet, RegNetCfg

    return RegNet(RegNetCfg(depth=4, w0=8, wa=8.0, wm=1.6, group_size=8, se_ratio=0.25, stem_width=8), num_classes=10)


def convnext() -> nn.Module:
    """ConvNeXt: depthwise 7x7, LayerNorm over permuted channels, layer scale."""
    import_timm()
    from timm.models.convnext import ConvNeXt

    return ConvNeXt(num_classes=10, depths=(1, 1, 1, 1), dims=(8, 12, 16, 24))


def mixer() -> nn.Module:
    """MLP-Mixer."""
    import_timm()
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(num_classes=10, img_size=32, patch_size=8, num_blocks=2, embed_dim=32)


def swin() -> nn.Module:
    """Swin transformer: shifted windows."""
    import_timm()
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=32, patch_size=2, window_size=4, embed_dim=8, depths=(2, 2), num_heads=(2, 4), num_classes=10
    )
