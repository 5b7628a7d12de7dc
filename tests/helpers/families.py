"""Tiny networks of every family that the model is known to work with."""

from transformers import (
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    Llama4TextConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    MPNetConfig,
    OPTConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

VOCAB_SIZE = 60
POSITIONS = 32

_SHARED = {"vocab_size": VOCAB_SIZE, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_BERT = {
    **_SHARED,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": POSITIONS,
}
# Fewer heads for keys and values than for queries. In the second, heads wider than hidden_size / num_attention_heads.
_GROUPED = {**_BERT, "num_attention_heads": 4, "num_key_value_heads": 2}
_WIDE_HEADS = {**_GROUPED, "head_dim": 16}
_HALF_SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 5}

ENCODERS: dict[str, PreTrainedConfig] = {
    "bert": BertConfig(**_BERT),
    "roberta": RobertaConfig(**{**_BERT, "max_position_embeddings": POSITIONS + 1}),
    "distilbert": DistilBertConfig(
        **_SHARED, dim=32, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=POSITIONS
    ),
    "electra": ElectraConfig(**_BERT, embedding_size=16),
    "mpnet": MPNetConfig(**{**_BERT, "max_position_embeddings": POSITIONS + 1}),
    # The window is as wide as the texts. Eager attention in float64 gives NaN where a window holds padding only.
    "modernbert": ModernBertConfig(**_BERT, cls_token_id=1, sep_token_id=2, local_attention=POSITIONS),
}

DECODERS: dict[str, PreTrainedConfig] = {
    "gpt2": GPT2Config(**_SHARED, n_embd=32, n_layer=2, n_head=2, n_positions=POSITIONS),
    "opt": OPTConfig(
        **_SHARED,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=64,
        max_position_embeddings=POSITIONS,
        word_embed_proj_dim=16,
        dropout=0.0,
    ),
    "gpt_neox": GPTNeoXConfig(**_BERT),
    "llama": LlamaConfig(**_GROUPED),
    "qwen2": Qwen2Config(**_GROUPED),
    "qwen3": Qwen3Config(**_WIDE_HEADS),
    "gemma": GemmaConfig(**_WIDE_HEADS),
    "gemma2": Gemma2Config(**_WIDE_HEADS, **_HALF_SLIDING),
    "gemma3": Gemma3TextConfig(**_WIDE_HEADS, **_HALF_SLIDING),
    # Every layer sees the last five positions only.
    "mistral": MistralConfig(**_GROUPED, sliding_window=5),
    "qwen2_sliding": Qwen2Config(**_GROUPED, use_sliding_window=True, sliding_window=5, max_window_layers=0),
}

# With memory, a text for these decoders may be at most as long as the window of 8.
SHORT_DECODERS: dict[str, PreTrainedConfig] = {
    "gpt_neo": GPTNeoConfig(
        **_SHARED,
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        attention_types=[[["global", "local"], 1]],
        window_size=8,
        max_position_embeddings=POSITIONS,
    ),
    "llama4": Llama4TextConfig(
        **_GROUPED,
        attention_chunk_size=8,
        head_dim=16,
        num_local_experts=2,
        intermediate_size_mlp=64,
        no_rope_layers=[1, 0],
    ),
}

# Transformers computes their attention in one way only.
EAGER_ONLY = ("mpnet", "gemma2")
SLIDING = ("gemma2", "gemma3", "mistral", "qwen2_sliding")
