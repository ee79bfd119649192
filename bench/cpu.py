#!/usr/bin/env python3
"""What bench/cpu.sh runs: jpt (bench/step.c) and llama.cpp (bench/llama_step.py) side by side, one command after the other in
every round, and each target as the median of the rounds' ratios.

Two ratios are printed, of the clock and of processor seconds.  On a machine that others use too the clock measures them as
well; processor seconds suffer less, though they count the waiting of threads that spin."""
import argparse, csv, glob, os, platform, statistics, subprocess, sys, tempfile, time

SAMPLERS = ["sample:temperature=0.8", "top-k:top_k=40", "top-p:top_p=0.95", "min-p:min_p=0.05", "typical:typical_p=0.9", "epsilon:epsilon_cutoff=0.0003",
            "eta:eta_cutoff=0.0003", "top-h", "top-n-sigma", "top-a", "p-less", "xtc", "dry", "dynatemp", "smoothing", "mirostat", "mirostat-v2", "adaptive-p", "guard"]
failed = []


class Engine:
    def __init__(self, *command):
        self.p = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.p.stdout.readline().strip()
        if not self.ready.startswith("ready"):
            sys.exit(f"bench/cpu.py: {command[0]} does not start")

    def ask(self, line):
        self.p.stdin.write(line + "\n")
        self.p.stdin.flush()
        try:
            return [float(x) for x in self.p.stdout.readline().split()]
        except ValueError as e:
            sys.exit(f"bench/cpu.py: {line}: {e}")

    def close(self):
        self.p.stdin.close()
        self.p.wait()


def row(what, ratio, sign, target, extra=""):
    met = ratio[0] >= target if sign == ">=" else ratio[0] <= target
    if not met:
        failed.append(what)
    second = f"{ratio[1]:6.3f}" if len(ratio) > 1 else "      "
    print(f"{what:<58} {ratio[0]:7.3f} {second}  {sign} {target:<5} {'yes' if met else 'NO ':<4} {extra}", flush=True)


def compare(a, b, commands, rounds):
    """Rounds of every command on both engines; [command] -> (median of b's time / a's for clock and processors, a's, b's clock)."""
    got = {c: [] for c in commands}
    for c in commands:
        a.ask(c), b.ask(c)  # warm
    for _ in range(rounds):
        for c in commands:
            got[c].append((a.ask(c), b.ask(c)))
    middle = lambda v: statistics.median(v)
    return {c: ((middle([y[0] / x[0] for x, y in v]), middle([y[1] / x[1] for x, y in v if x[1] > 0])), middle([x[0] for x, _ in v]), middle([y[0] for _, y in v]))
            for c, v in got.items()}


def step(o, model, *more):
    return Engine(os.path.join(o.build, "bench-step"), model, str(o.threads), *more)


def against_llama(o, name, model, bandwidth):
    jpt = step(o, model)
    llama = Engine(sys.executable, os.path.join(os.path.dirname(__file__), "llama_step.py"), model, str(o.threads))
    print(f"# {name}: {jpt.ready}")
    size = os.path.getsize(model)
    one, many = "decode 128 32", {n: f"batch {n} 128 16" for n in (4, 8, 16)}
    r = compare(jpt, llama, [one, "prefill 512", *many.values()], o.rounds)
    speed, theirs = 32 / r[one][1], 32 / r[one][2]
    row(f"{name}: decode, batch 1, over llama.cpp", r[one][0], ">=", 1.15, f"{speed:.1f} and {theirs:.1f} tok/s; {100 * speed * size * 1e-9 / bandwidth:.0f} % of {bandwidth:.1f} GB/s")
    row(f"{name}: prefill of 512, over llama.cpp", r["prefill 512"][0], ">=", 1.0, f"{512 / r['prefill 512'][1]:.0f} and {512 / r['prefill 512'][2]:.0f} tok/s")
    for n, c in many.items():
        row(f"{name}: {n} sequences, over llama.cpp", r[c][0], ">=", 1.5, f"{16 * n / r[c][1]:.0f} and {16 * n / r[c][2]:.0f} tok/s; our step {r[c][1] / 16 * speed:.2f} x that of one")
    rss, file, packed, kv = jpt.ask("memory")
    row(f"{name}: peak memory over file + cache, MB", [rss - file - kv], "<=", 200, f"{rss:.0f} MB, file {file:.0f}, packed weights {packed:.0f}, {jpt.ready.split('; ')[-1]}")
    jpt.close(), llama.close()


def against_greedy(o, name, model):
    jpt = step(o, model)
    greedy = f"spec greedy {o.context} 32"
    targets = [("beam:num_beams=4", 1.6), ("contrastive:penalty_alpha=0.6,top_k=5", 1.9)] + [(s, 1.05) for s in SAMPLERS]
    for spec, target in targets:
        jpt.ask(greedy), jpt.ask(f"spec {spec} {o.context} 32")  # warm
        clock, processor = [], []
        for _ in range(o.rounds):
            g, s = jpt.ask(greedy), jpt.ask(f"spec {spec} {o.context} 32")
            clock.append(s[0] / g[0]), processor.append(s[1] / g[1])
        row(f"{name}: {spec}, time of a token over greedy", [statistics.median(clock), statistics.median(processor)], "<=", target)
    jpt.close()


def perplexity(o, model):
    auto, exact = step(o, model), step(o, model, "f32")
    a, e = auto.ask(f"nll {o.text} {o.tokens}")[0], exact.ask(f"nll {o.text} {o.tokens}")[0]
    row(f"{os.path.basename(model)}: perplexity over f32's", [a / e], "<=", 1.005, f"{a:.4f} and {e:.4f}, {o.tokens} tokens of {os.path.basename(o.text)}")
    auto.close(), exact.close()


def bench(o, model):
    jpt, seconds, texts = os.path.join(o.build, "jpt"), {}, {}
    with tempfile.TemporaryDirectory() as d:
        for batch in (1, 8):
            db = os.path.join(d, f"{batch}.db")
            t0 = time.perf_counter()
            subprocess.run([jpt, "bench", "-m", model, "-t", "demo-open,demo-math", "-s", "greedy", "-n", "64", "--batch", str(batch), "--threads", str(o.threads), "--meter", "none", "-q", "-o", db], check=True)
            seconds[batch] = time.perf_counter() - t0
            subprocess.run([jpt, "report", db, "-o", db + ".out", "--format", "csv", "-q"], check=True, stdout=subprocess.DEVNULL)
            with open(db + ".out/requests.csv", newline="") as f:
                texts[batch] = sorted((r["task"], r["item_index"], r["token_ids_json"]) for r in csv.DictReader(f))
    same = "the same texts" if texts[1] == texts[8] else "OTHER TEXTS"
    if texts[1] != texts[8]:
        failed.append("bench --batch 8 writes other texts")
    row("jpt bench --batch 8, throughput over batch 1", [seconds[1] / seconds[8]], ">=", 3.0, f"{len(texts[1])} requests, {same}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default="build")
    p.add_argument("--model", required=True)
    p.add_argument("--dir", required=True, help="random-0.5b-*.gguf and quant-*.gguf")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--context", type=int, default=256)
    p.add_argument("--tokens", type=int, default=1024)
    p.add_argument("--text", default=os.path.join(os.path.dirname(__file__), "../tests/golden/ppl_text.txt"))
    p.add_argument("--only", default="llama,greedy,perplexity,bench", help="parts, separated by commas")
    o = p.parse_args()
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    import llama_cpp
    probe = step(o, o.model)
    bandwidth = statistics.median(probe.ask("read 512")[0] for _ in range(5))
    probe.close()
    print(f"date    {time.strftime('%Y-%m-%d', time.gmtime())}, commit {commit}, llama-cpp-python {llama_cpp.__version__}")
    print(f"machine {cpu}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; reads {bandwidth:.1f} GB/s with {o.threads} threads")
    print(f"command bench/cpu.sh -- --rounds {o.rounds} --threads {o.threads} --only {o.only}")
    print(f"{'':<58} {'clock':>7} {'procs.':>6}  target")
    models = [("default model", o.model), ("0.5B Q8_0", o.dir + "/random-0.5b-q8_0.gguf"), ("0.5B Q4_K_M", o.dir + "/random-0.5b-q4_k_m.gguf")]
    parts = o.only.split(",")
    if "llama" in parts:
        for name, model in models:
            against_llama(o, name, model, bandwidth)
    if "greedy" in parts:
        against_greedy(o, "default model", o.model)
    if "perplexity" in parts:
        for model in [o.model, *sorted(glob.glob(o.dir + "/*.gguf"))]:
            perplexity(o, model)
    if "bench" in parts:
        bench(o, o.model)
    print(f"# load at the end {os.getloadavg()[0]:.1f}; {len(failed)} targets missed" + "".join("\n#   " + f for f in failed))


main()
