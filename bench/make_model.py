#!/usr/bin/env python3
"""Models for bench/cpu.sh, quantised by llama.cpp: random weights in 0.5B shape with the tokenizer of a given GGUF file (for time),
and that file's weights in the other formats (for perplexity; where its rows are no multiple of 256, K types fall back to others).
    bench/make_model.py MODEL.gguf OUT_DIR          writes random-0.5b-{q8_0,q4_k_m}.gguf and quant-{q4_0,...}.gguf that lack there
Needs gguf, numpy and llama-cpp-python.  Speed does not depend on what the weights say, only on their spread (no zeros)."""
import ctypes, os, sys
import gguf, numpy as np
import llama_cpp

D, LAYERS, HEADS, KV, E, F = 1024, 24, 16, 4, 64, 4864


def field(reader, key):
    f = reader.fields[key]
    if f.types[0] == gguf.GGUFValueType.ARRAY:
        if f.types[1] == gguf.GGUFValueType.STRING:
            return [bytes(f.parts[i]) for i in f.data]
        return [f.parts[i][0].item() for i in f.data]
    if f.types[0] == gguf.GGUFValueType.STRING:
        return bytes(f.parts[f.data[0]]).decode()
    return f.parts[f.data[0]][0].item()


def write_f16(tokenizer, path):
    reader = gguf.GGUFReader(tokenizer)
    w = gguf.GGUFWriter(path, "llama")
    w.add_name("random 0.5B")
    w.add_context_length(8192)
    w.add_embedding_length(D)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(F)
    w.add_head_count(HEADS)
    w.add_head_count_kv(KV)
    w.add_rope_dimension_count(E)
    w.add_rope_freq_base(100000.0)
    w.add_layer_norm_rms_eps(1e-5)
    tokens = field(reader, "tokenizer.ggml.tokens")
    w.add_vocab_size(len(tokens))
    w.add_tokenizer_model(field(reader, "tokenizer.ggml.model"))
    w.add_tokenizer_pre(field(reader, "tokenizer.ggml.pre"))
    w.add_token_list(tokens)
    w.add_token_types(field(reader, "tokenizer.ggml.token_type"))
    w.add_token_merges(field(reader, "tokenizer.ggml.merges"))
    w.add_bos_token_id(field(reader, "tokenizer.ggml.bos_token_id"))
    w.add_eos_token_id(field(reader, "tokenizer.ggml.eos_token_id"))
    rng = np.random.default_rng(1)

    def matrix(name, rows, cols):
        w.add_tensor(name, (rng.standard_normal((rows, cols), dtype=np.float32) / np.sqrt(cols)).astype(np.float16))

    def gain(name):
        w.add_tensor(name, np.ones(D, dtype=np.float32))

    matrix("token_embd.weight", len(tokens), D)
    gain("output_norm.weight")
    for l in range(LAYERS):
        b = f"blk.{l}."
        gain(b + "attn_norm.weight")
        gain(b + "ffn_norm.weight")
        for part, rows, cols in (("attn_q", HEADS * E, D), ("attn_k", KV * E, D), ("attn_v", KV * E, D), ("attn_output", D, HEADS * E),
                                 ("ffn_gate", F, D), ("ffn_up", F, D), ("ffn_down", D, F)):
            matrix(b + part + ".weight", rows, cols)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    out = sys.argv[2]
    quiet = llama_cpp.llama_log_callback(lambda level, text, ud: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    os.makedirs(out, exist_ok=True)
    f16 = os.path.join(out, "random-0.5b-f16.gguf")
    for name in ("Q8_0", "Q4_K_M"):
        if not os.path.exists(made(out, "random-0.5b-", name)):
            if not os.path.exists(f16):
                write_f16(sys.argv[1], f16)
            quantize(f16, out, "random-0.5b-", name)
    if os.path.exists(f16):
        os.remove(f16)
    for name in ("Q4_0", "Q5_0", "Q5_1", "Q8_0", "Q4_K_M", "Q5_K_M", "Q6_K", "F16", "BF16"):
        if not os.path.exists(made(out, "quant-", name)):
            quantize(sys.argv[1], out, "quant-", name)


def made(out, prefix, name):
    return os.path.join(out, prefix + name.lower() + ".gguf")


def quantize(source, out, prefix, name):
    p = llama_cpp.llama_model_quantize_default_params()
    p.ftype = getattr(llama_cpp, "LLAMA_FTYPE_MOSTLY_" + name)
    p.allow_requantize = True
    target = made(out, prefix, name)
    if llama_cpp.llama_model_quantize(source.encode(), (target + ".part").encode(), ctypes.byref(p)) != 0:
        sys.exit(f"{target}: quantising failed")
    os.rename(target + ".part", target)


main()
