"""The default model in transformers: LlamaForCausalLM in float32 on the weights of the GGUF file, dequantised by the gguf package.

load(path) returns the model and its tokenizer.  Used by the other scripts here.
"""
import numpy as np, torch
from gguf import GGUFReader
from gguf.quants import dequantize
from transformers import LlamaConfig, LlamaForCausalLM
from tokenizers import Tokenizer, models, pre_tokenizers


def unpermute(w, heads):  # GGUF stores the halves of each head interleaved
    return w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).transpose(1, 2).reshape(w.shape)


def load(path):
    reader = GGUFReader(path)
    field = lambda k: reader.fields[k].contents()
    T = {t.name: torch.from_numpy(np.array(dequantize(t.data, t.tensor_type), dtype=np.float32)) for t in reader.tensors}
    D, L, H, K = (field("llama." + k) for k in ("embedding_length", "block_count", "attention.head_count", "attention.head_count_kv"))
    cfg = LlamaConfig(vocab_size=len(field("tokenizer.ggml.tokens")), hidden_size=D, intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=L,
                      num_attention_heads=H, num_key_value_heads=K, max_position_embeddings=field("llama.context_length"),
                      rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"), rope_theta=field("llama.rope.freq_base"), tie_word_embeddings=True)
    sd = {"model.embed_tokens.weight": T["token_embd.weight"], "model.norm.weight": T["output_norm.weight"], "lm_head.weight": T["token_embd.weight"]}
    for i in range(L):
        p, g = f"model.layers.{i}.", f"blk.{i}."
        sd[p + "self_attn.q_proj.weight"] = unpermute(T[g + "attn_q.weight"], H)
        sd[p + "self_attn.k_proj.weight"] = unpermute(T[g + "attn_k.weight"], K)
        for a, b in (("self_attn.v_proj", "attn_v"), ("self_attn.o_proj", "attn_output"), ("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"),
                     ("mlp.down_proj", "ffn_down"), ("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")):
            sd[p + a + ".weight"] = T[g + b + ".weight"]
    model = LlamaForCausalLM(cfg)
    model.load_state_dict(sd)
    vocab = {t: i for i, t in enumerate(field("tokenizer.ggml.tokens"))}
    tok = Tokenizer(models.BPE(vocab, [tuple(m.split(" ")) for m in field("tokenizer.ggml.merges")]))
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    return model.eval(), tok
