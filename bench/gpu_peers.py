#!/usr/bin/env python3
"""Ceilings and peers of bench/gpu.sh on this card, one JSON object a line: joules by NVML's counter over windows of SECONDS.
    gpu_peers.py SECONDS WHAT...     WHAT: copy, gemv-8b, gemv-1.5b, gemv-135m, hf-SHAPE, hf-SHAPE-compiled, llama-SHAPE-TYPE (shapes as
                                     bench/random_model.py)
copy: device to device.  gemv: every matrix of the shape once a token by the framework's matrix-vector product, in one CUDA graph:
no norms, no attention, the floor of a step.  hf: Hugging Face transformers' generate, random weights, greedy, 16 tokens of prompt.
llama: llama.cpp's llama-bench ($LLAMA_BENCH) on $JPT_BENCH_DIR/SHAPE-TYPE.gguf, 128 tokens after an empty prompt, with many repetitions less
the same with few: loading and warming up are in both.
Needs torch, transformers and nvidia-ml-py."""
import json, math, os, subprocess, sys, time
import pynvml
import torch

SHAPES = {"8b": (32, 4096, 14336, 32, 8, 128256, False), "1.5b": (28, 1536, 8960, 12, 2, 151936, True), "135m": (30, 576, 1536, 9, 3, 49152, True)}
seconds = float(sys.argv[1])
pynvml.nvmlInit()
card = pynvml.nvmlDeviceGetHandleByIndex(0)


def joules():
    """The counter right after one of its steps, and when."""
    first = pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
    while True:
        e = pynvml.nvmlDeviceGetTotalEnergyConsumption(card)
        if e != first:
            return e / 1000, time.perf_counter()
        time.sleep(0.0005)


def window(work, idle_w):
    """work() runs once and waits; (joules, seconds) a call, over at least `seconds`, edges on the counter's steps."""
    for _ in range(3):
        work()
    n, busy = 0, 0.0
    e0, t0 = joules()
    while busy < seconds:
        s = time.perf_counter()
        work()
        busy += time.perf_counter() - s
        n += 1
    end = time.perf_counter()
    e1, t1 = joules()
    return (e1 - e0 - idle_w * (t1 - end)) / n, busy / n


def idle():
    torch.cuda.synchronize()
    time.sleep(0.5)
    e0, t0 = joules()
    time.sleep(3)
    e1, t1 = joules()
    return (e1 - e0) / (t1 - t0)


def say(**kv):
    print(json.dumps({k: round(v, 6) if isinstance(v, float) else v for k, v in kv.items()}), flush=True)


def copy():
    a = torch.randn(1 << 30, device="cuda", dtype=torch.float32)
    b = torch.empty_like(a)
    w = idle()

    def work():
        for _ in range(20):
            b.copy_(a)
        torch.cuda.synchronize()
    j, s = window(work, w)
    say(peer="copy", tb_s=20 * 2 * a.numel() * 4 / s / 1e12, watts=j / s, pj_byte=j / (20 * 2 * a.numel() * 4) * 1e12, idle_w=w)


def gemv(shape):
    L, D, F, H, K, V, tied = SHAPES[shape]
    kv = K * (D // H)
    mats = []
    for _ in range(L):
        mats += [(D + 2 * kv, D), (D, D), (2 * F, D), (D, F)]
    mats.append((V, D))
    ws = [torch.randn(r, c, device="cuda", dtype=torch.bfloat16) * 0.02 for r, c in mats]
    xs = {c: torch.randn(1, c, device="cuda", dtype=torch.bfloat16) for c in (D, F)}
    for m in ws[:4]:
        torch.nn.functional.linear(xs[m.shape[1]], m)
    torch.cuda.synchronize()
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        for m in ws:
            torch.nn.functional.linear(xs[m.shape[1]], m)
    w = idle()
    n = 20

    def work():
        for _ in range(n):
            g.replay()
        torch.cuda.synchronize()
    j, s = window(work, w)
    size = sum(r * c * 2 for r, c in mats)
    say(peer="gemv-" + shape, tok_s=n / s, j_token=j / n, watts=j / s, tb_s=size * n / s / 1e12, net_j_token=j / n - w * s / n, idle_w=w)


def hf(name):
    from transformers import LlamaConfig, Qwen2Config, AutoModelForCausalLM
    shape, compiled = name.replace("-compiled", ""), name.endswith("-compiled")
    L, D, F, H, K, V, tied = SHAPES[shape]
    config = (Qwen2Config if shape == "1.5b" else LlamaConfig)(num_hidden_layers=L, hidden_size=D, intermediate_size=F, num_attention_heads=H, num_key_value_heads=K,
                                                            vocab_size=V, tie_word_embeddings=tied, max_position_embeddings=8192)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AutoModelForCausalLM.from_config(config).eval()
    torch.set_default_dtype(torch.float32)
    ids = torch.arange(16, device="cuda")[None] * 37 % 8000 + 300
    kw = dict(do_sample=False, eos_token_id=None, pad_token_id=0)
    if compiled:
        kw["cache_implementation"] = "static"
    w = idle()

    def work(n):
        model.generate(ids, max_new_tokens=n, min_new_tokens=n, **kw)
        torch.cuda.synchronize()
    j1, s1 = window(lambda: work(1), w)
    n = 128
    j, s = window(lambda: work(n), w)
    import transformers
    say(peer="hf-" + name, tok_s=(n - 1) / (s - s1), j_token=(j - j1) / (n - 1), net_j_token=(j - j1 - w * (s - s1)) / (n - 1), watts=j / s, idle_w=w, version=transformers.__version__)


def llama(name):
    n, few, w = 128, 2, idle()

    def run(repeats):
        """Joules and seconds of the whole process, seconds of its generating, and what it says."""
        command = [os.environ["LLAMA_BENCH"], "-m", os.path.join(os.environ.get("JPT_BENCH_DIR", "/tmp"), name + ".gguf"),
                   "-p", "0", "-n", str(n), "-r", str(repeats), "-fa", "1", "-o", "json"]
        e0, t0 = joules()
        p = subprocess.run(command, capture_output=True, text=True)
        e1, t1 = joules()
        if p.returncode:
            raise RuntimeError(f"llama-bench ended with {p.returncode}: " + (p.stderr.strip().splitlines() or [""])[-1])
        said = json.loads(p.stdout)[0]
        return e1 - e0, t1 - t0, sum(said["samples_ns"]) / 1e9, said

    j1, t1, s1, said = run(few)
    more = few + math.ceil(1.1 * seconds * few / s1)
    j2, t2, s2, said = run(more)
    tokens, s = n * (more - few), s2 - s1
    j = j2 - j1 - w * (t2 - t1 - s)  # one load took longer than the other
    say(peer="llama-" + name, tok_s=tokens / s, j_token=j / tokens, net_j_token=(j - w * s) / tokens, watts=j / s, idle_w=w, seconds=s,
        version=f"{said['build_number']} ({said['build_commit']})")


for what in sys.argv[2:]:
    try:
        copy() if what == "copy" else gemv(what[5:]) if what.startswith("gemv-") else llama(what[6:]) if what.startswith("llama-") else hf(what[3:])
    except Exception as e:  # a peer that does not run is a line of the results, not the end of them
        say(peer=what, error=str(e).splitlines()[0][:200] if str(e) else repr(e))
    torch.cuda.empty_cache()
