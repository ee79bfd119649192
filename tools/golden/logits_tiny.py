"""Tiny seeded models of transformers as GGUF files, with the logits transformers gets from them in float32.

Writes tests/golden/logits_tiny_NAME.gguf and tests/golden/logits_tiny.json.  All matrices are rounded to float16 first, so that
F16 and F32 tensors both hold the very weights transformers computed with.
Run: python tools/golden/logits_tiny.py    (needs torch, transformers 4.46, gguf)
"""
import json, os
import numpy as np, torch, transformers, gguf
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

here = os.path.dirname(os.path.abspath(__file__))
folder = os.path.join(here, "../../tests/golden")
D, F, H, K, E = 32, 64, 4, 2, 8
merges = ["h e", "i n", "t h", "e r", "a n"]


def byte_letters():  # GPT-2's writing of bytes as printable characters
    own = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    out, extra = [], 0
    for b in range(256):
        out.append(chr(b) if b in own else chr(256 + extra))
        extra += b not in own
    return out


vocab = byte_letters() + [m.replace(" ", "") for m in merges] + ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
llama3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
linear = {"rope_type": "linear", "factor": 4.0}
# name, architecture, layers, tied, theta, scaling, scaling written as rope_freqs.weight
cases = [("llama", "llama", 2, True, 10000.0, None, False), ("llama3", "llama", 2, False, 10000.0, llama3, False),
         ("llama3_freqs", "llama", 1, True, 10000.0, llama3, True), ("linear", "llama", 1, False, 10000.0, linear, False),
         ("qwen2", "qwen2", 2, True, 1000000.0, None, False), ("qwen2_untied", "qwen2", 1, False, 10000.0, None, False)]


def permute(w, heads):  # halves of each head to interleaved pairs, as the converter of llama files does
    return w.reshape(heads, 2, w.shape[0] // heads // 2, w.shape[1]).transpose(1, 2).reshape(w.shape)


def build(seed, arch, layers, tied, theta, scaling):
    common = dict(vocab_size=len(vocab), hidden_size=D, intermediate_size=F, num_hidden_layers=layers, num_attention_heads=H, num_key_value_heads=K,
                  max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=theta, tie_word_embeddings=tied, attn_implementation="eager")
    model = LlamaForCausalLM(LlamaConfig(rope_scaling=scaling, **common)) if arch == "llama" else Qwen2ForCausalLM(Qwen2Config(**common))
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            r = torch.randn(p.shape, generator=g)
            if "norm" in name:
                p.copy_(1 + 0.2 * r)
            elif p.dim() == 1:
                p.copy_(0.5 * r)
            elif "embed" in name:
                p.copy_(r.half().float())
            else:
                p.copy_((r * 1.5 / p.shape[1] ** 0.5).half().float())
    return model.eval()


def write(path, name, arch, layers, tied, theta, scaling, as_freqs, model, eos=263):
    w = gguf.GGUFWriter(path, arch)
    w.add_name(name)
    w.add_block_count(layers), w.add_embedding_length(D), w.add_feed_forward_length(F), w.add_head_count(H), w.add_head_count_kv(K)
    w.add_context_length(256), w.add_layer_norm_rms_eps(1e-5), w.add_rope_freq_base(theta), w.add_rope_dimension_count(E)
    if scaling and not as_freqs:
        w.add_string(f"{arch}.rope.scaling.type", scaling["rope_type"])
        w.add_float32(f"{arch}.rope.scaling.factor", scaling["factor"])
        if scaling["rope_type"] == "llama3":
            w.add_float32(f"{arch}.rope.scaling.low_freq_factor", scaling["low_freq_factor"])
            w.add_float32(f"{arch}.rope.scaling.high_freq_factor", scaling["high_freq_factor"])
            w.add_uint32(f"{arch}.rope.scaling.original_context_length", scaling["original_max_position_embeddings"])
    w.add_tokenizer_model("gpt2"), w.add_tokenizer_pre("qwen2" if arch == "qwen2" else "smollm")
    w.add_token_list(vocab), w.add_token_types([1] * 261 + [3] * 3), w.add_token_merges(merges)
    w.add_bos_token_id(261), w.add_eos_token_id(eos)
    if as_freqs:
        plain = 1.0 / (theta ** (np.arange(0, E, 2, dtype=np.float64) / E))
        w.add_tensor("rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq.double().numpy()).astype(np.float32))
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}
    for key, t in model.state_dict().items():
        if key == "lm_head.weight" and tied:
            continue
        if key.startswith("model.layers."):
            _, _, layer, rest = key.split(".", 3)
            part, kind = rest.rsplit(".", 1)
            out = f"blk.{layer}.{names[part]}.{kind}"
            if arch == "llama" and part.endswith(("q_proj", "k_proj")):
                t = permute(t, H if "q_proj" in part else K)
        else:
            out = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": "output.weight"}[key]
        a = t.contiguous().numpy()
        w.add_tensor(out, a if a.ndim == 1 or "attn_v" in out or "attn_output" in out else a.astype(np.float16))
    w.write_header_to_file(), w.write_kv_data_to_file(), w.write_tensors_to_file(), w.close()


def main():
    golden = {"made_by": "tools/golden/logits_tiny.py", "transformers": transformers.__version__, "torch": torch.__version__, "cases": []}
    for seed, (name, arch, layers, tied, theta, scaling, as_freqs) in enumerate(cases):
        model = build(seed + 1, arch, layers, tied, theta, scaling)
        write(os.path.join(folder, f"logits_tiny_{name}.gguf"), name, arch, layers, tied, theta, scaling, as_freqs, model)
        ids = torch.randint(0, 261, (1, 200), generator=torch.Generator().manual_seed(seed + 100))
        with torch.no_grad():
            z = model(ids).logits[0]
        positions = [0, 1, 2, 15, 16, 17, 63, 64, 127, 199]
        golden["cases"].append({"name": name, "tied": tied, "ids": ids[0].tolist(), "positions": positions, "z": [[round(v, 6) for v in r] for r in z[positions].tolist()]})
        print(name, "largest |logit|", z.abs().max().item())
    json.dump(golden, open(os.path.join(folder, "logits_tiny.json"), "w"), separators=(",", ":"))


if __name__ == "__main__":
    main()
