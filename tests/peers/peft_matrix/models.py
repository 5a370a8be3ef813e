"""Tiny models of transformers: their configurations and what they are called with."""

import torch
import transformers as hf

from .case import Hub

VOCABULARY, HIDDEN = 48, 32


def text(**more):
    """Token ids, the same at every call."""
    torch.manual_seed(1)
    return {"input_ids": torch.randint(4, VOCABULARY, (2, 9))} | more


def tokens(_dtype):
    return text()


def pairs(_dtype):
    return text(decoder_input_ids=torch.arange(4, 18).reshape(2, 7))


def pixels(dtype):
    torch.manual_seed(1)
    return {"pixel_values": torch.randn(2, 3, 16, 16).to(dtype)}


COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = COMMON | {"num_key_value_heads": 2}
GPT2 = {"vocab_size": VOCABULARY, "n_embd": HIDDEN, "n_layer": 2, "n_head": 4, "n_positions": 64}
EDGES = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def causal(name, config, inputs=tokens, head="ForCausalLM", **options):
    """A model by the stem of its class, with the options of its configuration."""
    return Hub(getattr(hf, name + head), lambda: getattr(hf, config)(**options), inputs)


def sparse(name, **options):
    """A model with experts. Their fast implementations do not know f64."""
    model = causal(name, f"{name}TextConfig" if name == "Llama4" else f"{name}Config", **options)
    model.options["experts_implementation"] = "eager"
    return model


DECODERS = {
    "llama": causal("Llama", "LlamaConfig", **GROUPED),
    "llama-tied": causal("Llama", "LlamaConfig", **GROUPED, tie_word_embeddings=True),
    "mistral": causal("Mistral", "MistralConfig", **GROUPED),
    "qwen2": causal("Qwen2", "Qwen2Config", **GROUPED),
    "gemma3": causal(
        "Gemma3", "Gemma3TextConfig", **GROUPED, head_dim=8, layer_types=["full_attention", "full_attention"]
    ),
    "opt": causal(
        "OPT", "OPTConfig", **COMMON | {"pad_token_id": 1}, ffn_dim=40, word_embed_proj_dim=HIDDEN
    ),
    "opt-projected": causal(
        "OPT", "OPTConfig", **COMMON | {"pad_token_id": 1}, ffn_dim=40, word_embed_proj_dim=16
    ),
    "gpt2": causal("GPT2", "GPT2Config", head="LMHeadModel", **GPT2, **EDGES),
    "gptj": causal("GPTJ", "GPTJConfig", **GPT2, **EDGES, rotary_dim=4, tie_word_embeddings=False),
    "gpt-neox": causal("GPTNeoX", "GPTNeoXConfig", **COMMON),
    "bloom": causal("Bloom", "BloomConfig", vocab_size=VOCABULARY, hidden_size=HIDDEN, n_layer=2, n_head=4, **EDGES),
    "falcon": causal("Falcon", "FalconConfig", **COMMON),
    "phi": causal("Phi", "PhiConfig", **COMMON),
}

BERT = COMMON | {"type_vocab_size": 2}
DEBERTA = BERT | {
    "relative_attention": True,
    "pos_att_type": ["c2p", "p2c"],
    "position_biased_input": False,
    "type_vocab_size": 0,
}
ENCODERS = {
    "bert": causal("Bert", "BertConfig", head="Model", **BERT),
    "roberta": causal("Roberta", "RobertaConfig", head="Model", **BERT | {"pad_token_id": 1}),
    "deberta": causal("Deberta", "DebertaConfig", head="Model", **DEBERTA),
    "deberta-v2": causal("DebertaV2", "DebertaV2Config", head="Model", **DEBERTA),
}
CLASSIFIERS = {
    "bert-cls": causal("Bert", "BertConfig", head="ForSequenceClassification", **BERT),
    "roberta-cls": causal(
        "Roberta", "RobertaConfig", head="ForSequenceClassification", **BERT | {"pad_token_id": 1}
    ),
    "llama-cls": causal("Llama", "LlamaConfig", head="ForSequenceClassification", **GROUPED),
}
MASKED = {
    "bert-mlm": causal("Bert", "BertConfig", head="ForMaskedLM", **BERT),
}

T5 = {"vocab_size": VOCABULARY, "d_model": HIDDEN, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4}
BART = {"vocab_size": VOCABULARY, "d_model": HIDDEN, "max_position_embeddings": 64} | {
    f"{side}_{what}": number
    for side in ("encoder", "decoder")
    for what, number in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 40))
}
SEQ2SEQ = {
    "t5": causal("T5", "T5Config", pairs, "ForConditionalGeneration", **T5, **EDGES, decoder_start_token_id=0),
    "t5-untied": causal(
        "T5",
        "T5Config",
        pairs,
        "ForConditionalGeneration",
        **T5,
        **EDGES,
        decoder_start_token_id=0,
        tie_word_embeddings=False,
        feed_forward_proj="gated-gelu",
    ),
    "bart": causal("Bart", "BartConfig", pairs, "ForConditionalGeneration", **BART, **EDGES, decoder_start_token_id=2),
}

VISION = {
    "resnet": causal(
        "ResNet",
        "ResNetConfig",
        pixels,
        "ForImageClassification",
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        num_labels=3,
    ),
    "vit": causal(
        "ViT",
        "ViTConfig",
        pixels,
        "ForImageClassification",
        hidden_size=HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=40,
        image_size=16,
        patch_size=8,
        num_labels=3,
    ),
}

SPARSE = GROUPED | {"num_local_experts": 4, "num_experts_per_tok": 2}
EXPERTS = {
    "llama4": sparse(
        "Llama4", **SPARSE, intermediate_size_mlp=40, head_dim=8, interleave_moe_layer_step=1, attention_chunk_size=32
    ),
    "gpt-oss": sparse("GptOss", **SPARSE, head_dim=8, sliding_window=32),
    "mixtral": sparse("Mixtral", **SPARSE),
    "qwen3-moe": sparse(
        "Qwen3Moe", **GROUPED, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, head_dim=8
    ),
    "granite-moe": sparse("GraniteMoe", **SPARSE),
}
