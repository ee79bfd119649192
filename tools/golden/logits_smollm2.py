"""Golden logits and perplexity of the default model: transformers' LlamaForCausalLM in float32 on the weights of the GGUF file,
dequantised by the gguf package.

Writes tests/golden/logits_smollm2.json: 5 prompts x 64 positions; for each position logsumexp, the 4 largest logits and 12
fixed places; and the perplexity of tests/golden/ppl_text.txt.
Run: python tools/golden/logits_smollm2.py MODEL.gguf    (needs torch, transformers 4.46, gguf)
"""
import json, math, os, sys
import numpy as np, torch, transformers, gguf
from gguf import GGUFReader
from gguf.quants import dequantize
from transformers import LlamaConfig, LlamaForCausalLM
from tokenizers import Tokenizer, models, pre_tokenizers, decoders

here = os.path.dirname(os.path.abspath(__file__))
reader = GGUFReader(sys.argv[1])
field = lambda k: reader.fields[k].contents()
T = {t.name: torch.from_numpy(np.array(dequantize(t.data, t.tensor_type), dtype=np.float32)) for t in reader.tensors}
D, L, H, K = (field("llama." + k) for k in ("embedding_length", "block_count", "attention.head_count", "attention.head_count_kv"))
cfg = LlamaConfig(vocab_size=len(field("tokenizer.ggml.tokens")), hidden_size=D, intermediate_size=field("llama.feed_forward_length"), num_hidden_layers=L,
                  num_attention_heads=H, num_key_value_heads=K, max_position_embeddings=field("llama.context_length"),
                  rms_norm_eps=field("llama.attention.layer_norm_rms_epsilon"), rope_theta=field("llama.rope.freq_base"), tie_word_embeddings=True)


def unpermute(w, heads):  # GGUF stores the halves of each head interleaved
    return w.reshape(heads, w.shape[0] // heads // 2, 2, w.shape[1]).transpose(1, 2).reshape(w.shape)


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
model.eval()

vocab = {t: i for i, t in enumerate(field("tokenizer.ggml.tokens"))}
tok = Tokenizer(models.BPE(vocab, [tuple(m.split(" ")) for m in field("tokenizer.ggml.merges")]))
tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])

text = open(os.path.join(here, "../../tests/golden/ppl_text.txt"), encoding="utf-8").read()
starts = [text[0:1200], text[900:2100], "def fibonacci(n):\n    if n < 2:\n        return n\n" * 8, "Le chat est assis sur la table. 12 + 30 = 42. " * 8, "The quick brown fox jumps over the lazy dog! " * 9]
places = [(7919 * i + 13) % cfg.vocab_size for i in range(12)]
prompts = []
with torch.no_grad():
    for s in starts:
        ids = tok.encode(s).ids[:64]
        assert len(ids) == 64
        z = model(torch.tensor([ids])).logits[0]
        lse = torch.logsumexp(z.double(), -1)
        top, idx = torch.topk(z, 4)
        prompts.append({"ids": ids, "lse": [round(v, 5) for v in lse.tolist()], "top": idx.tolist(), "top_z": [[round(v, 5) for v in r] for r in top.tolist()],
                        "z": [[round(v, 5) for v in r] for r in z[:, places].tolist()]})
    ids = tok.encode(text).ids
    z = model(torch.tensor([ids])).logits[0].double()
    nll = -torch.log_softmax(z[:-1], -1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
out = {"made_by": "tools/golden/logits_smollm2.py", "transformers": transformers.__version__, "torch": torch.__version__, "places": places, "prompts": prompts,
       "ppl_tokens": len(ids) - 1, "ppl": math.exp(nll.mean().item())}
json.dump(out, open(os.path.join(here, "../../tests/golden/logits_smollm2.json"), "w"), separators=(",", ":"))
print("perplexity", out["ppl"], "over", out["ppl_tokens"])
