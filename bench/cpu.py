#!/usr/bin/env python3
"""What bench/cpu.sh runs: jpt (bench/step.c) and llama.cpp (bench/llama_step.py) side by side, one command after the other in
every round, and each target as the median of the rounds' ratios.

Two ratios are printed, of the clock and of processor seconds.  On a machine that others use too the clock measures them as
well; processor seconds suffer less, though they count the waiting of threads that spin.  A target is met when both meet it.
Exit status 1: a target was missed."""
import argparse, concurrent.futures, glob, os, platform, sqlite3, statistics, subprocess, sys, tempfile, time

SAMPLERS = ["sample:temperature=0.8", "top-k:top_k=40", "top-p:top_p=0.95", "min-p:min_p=0.05", "typical:typical_p=0.9", "epsilon:epsilon_cutoff=0.0003",
            "eta:eta_cutoff=0.0003", "top-h", "top-n-sigma", "top-a", "p-less", "xtc", "dry", "dynatemp", "smoothing", "mirostat", "mirostat-v2", "adaptive-p", "guard"]
DEMO = ["demo-open", "demo-math", "demo-translation", "demo-coding"]
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
    met = all(r >= target if sign == ">=" else r <= target if sign == "<=" else abs(r - 1) <= target for r in ratio)
    if not met:
        failed.append(what)
    second = f"{ratio[1]:6.3f}" if len(ratio) > 1 else "      "
    print(f"{what:<58} {ratio[0]:7.3f} {second}  {sign} {target:<5} {'yes' if met else 'NO ':<4} {extra}", flush=True)


def compare(a, b, c, rounds):
    """One command on both engines in turn: ((b's time over a's of the clock, of processors), a's clock, b's clock), medians."""
    a.ask(c), b.ask(c)  # warm
    got = [(a.ask(c), b.ask(c)) for _ in range(rounds)]
    middle = statistics.median
    return [middle([y[i] / x[i] for x, y in got]) for i in (0, 1)], middle([x[0] for x, _ in got]), middle([y[0] for _, y in got])


def step(o, model, *more):
    return Engine(os.path.join(o.build, "bench-step"), model, str(o.threads), *more)


def against_llama(o, name, model, bandwidth):
    jpt = step(o, model)
    llama = Engine(sys.executable, os.path.join(os.path.dirname(__file__), "llama_step.py"), model, str(o.threads))
    print(f"# {name}: {jpt.ready}")
    size = os.path.getsize(model)
    few = max(o.steps // 2, 2)
    ratio, ours, theirs = compare(jpt, llama, f"decode 128 {o.steps}", o.rounds)
    speed = o.steps / ours
    row(f"{name}: decode, batch 1, over llama.cpp", ratio, ">=", 1.15, f"{speed:.1f} and {o.steps / theirs:.1f} tok/s; {100 * speed * size * 1e-9 / bandwidth:.0f} % of {bandwidth:.1f} GB/s")
    ratio, ours, theirs = compare(jpt, llama, "prefill 512", o.rounds)
    row(f"{name}: prefill of 512, over llama.cpp", ratio, ">=", 1.0, f"{512 / ours:.0f} and {512 / theirs:.0f} tok/s")
    for n in (4, 8, 16):
        ratio, ours, theirs = compare(jpt, llama, f"batch {n} 128 {few}", o.rounds)
        row(f"{name}: {n} sequences, over llama.cpp", ratio, ">=", 1.5, f"{few * n / ours:.0f} and {few * n / theirs:.0f} tok/s; our step {ours / few * speed:.2f} x that of one")
    rss, file, packed, kv = jpt.ask("memory")
    row(f"{name}: peak memory over file + cache, MB", [rss - file - kv], "<=", 200, f"{rss:.0f} MB, file {file:.0f}, packed weights {packed:.0f}, {jpt.ready.split('; ')[-1]}")
    jpt.close(), llama.close()


def against_greedy(o, name, model):
    jpt = step(o, model)
    alone, shares = [], {} # of selection: what is no forward
    targets = [("beam:num_beams=4", 1.6), ("contrastive:penalty_alpha=0.6,top_k=5", 1.9)] + [(s, 1.05) for s in SAMPLERS]
    asked = lambda spec: jpt.ask(f"spec {spec} {o.context} {o.steps}")
    for spec, target in targets:
        asked("greedy"), asked(spec)  # warm
        got = [(asked("greedy"), asked(spec)) for _ in range(o.rounds)]
        share = statistics.median([s[2] / s[0] for _, s in got])
        row(f"{name}: {spec.split(':')[0]}, time of a token over greedy", [statistics.median([s[i] / g[i] for g, s in got]) for i in (0, 1)], "<=", target,
            f"{spec}; selection {100 * share:.1f} % of its step")
        if spec in SAMPLERS or spec.startswith("beam"):
            shares[spec] = 100 * share
        alone += [g[2] / g[0] for g, _ in got]
    row(f"{name}: selection's share of a greedy step, %", [100 * statistics.median(alone)], "<=", 3.0)
    most = max(shares, key=shares.get)
    row(f"{name}: selection's largest share of a step, %", [shares[most]], "<=", 3.0,
        f"{most}; above 3: " + (", ".join(s.split(":")[0] for s in shares if shares[s] > 3) or "none"))
    jpt.close()


def two_at_once(o, model):
    """Two jpt, each with all threads: tokens a second of both together over those of one alone."""
    a, b = step(o, model), step(o, model)
    work, ratio = f"decode 128 {4 * o.steps}", []
    a.ask(work), b.ask(work)  # warm
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for _ in range(o.rounds):
            one = a.ask(work)[0]
            together = list(pool.map(lambda x: x.ask(work)[0], (a, b)))
            ratio.append(one / together[0] + one / together[1])
    row("two jpt at once, tokens/s together over one alone", [statistics.median(ratio)], ">=", 0.8)
    a.close(), b.close()


def perplexity(o, model):
    auto, exact = step(o, model), step(o, model, "f32")
    a, e = auto.ask(f"nll {o.text} {o.tokens}")[0], exact.ask(f"nll {o.text} {o.tokens}")[0]
    row(f"{os.path.basename(model)}: perplexity over f32's", [a / e], "+-", 0.005, f"{a:.4f} and {e:.4f}, {o.tokens} tokens of {os.path.basename(o.text)}")
    auto.close(), exact.close()


def tokens_a_second(db):
    c = sqlite3.connect(db)
    tokens, seconds = c.execute("SELECT sum(output_tokens), sum(duration_s) FROM window WHERE kind = 'requests'").fetchone()
    tasks = dict(c.execute("""SELECT task.name, sum(output_tokens) / sum(duration_s) FROM window JOIN cell ON cell.id = window.cell JOIN task ON task.id = cell.task
                              WHERE kind = 'requests' GROUP BY task.name""").fetchall())
    texts = sorted(c.execute("SELECT item_id, token_ids_json FROM request").fetchall())
    c.close()
    return tokens / seconds, texts, tasks


def bench(o, model):
    """The demo's tasks with their own lengths: tokens over the windows' seconds as the report has them, and the whole command's time."""
    jpt, got, speed, whole = os.path.join(o.build, "jpt"), {}, [], []
    with tempfile.TemporaryDirectory() as d:
        for r in range(min(o.rounds, 3)):
            seconds = {}
            for batch in (1, 8):
                db = os.path.join(d, f"{r}-{batch}.db")
                t0 = time.perf_counter()
                subprocess.run([jpt, "bench", "-m", model, "-t", ",".join(DEMO), "-s", "greedy", "--batch", str(batch), "--threads", str(o.threads), "--meter", "none", "-q", "-o", db], check=True)
                seconds[batch] = time.perf_counter() - t0
                got[batch] = tokens_a_second(db)
            speed.append(got[8][0] / got[1][0])
            whole.append(seconds[1] / seconds[8])
            if got[1][1] != got[8][1]:
                failed.append("bench --batch 8 writes other texts")
    same = "the same texts" if got[1][1] == got[8][1] else "OTHER TEXTS"
    row("jpt bench --batch 8, tokens/s over batch 1", [statistics.median(speed)], ">=", 3.0,
        f"{len(got[1][1])} requests, {same}, {got[8][0]:.0f} and {got[1][0]:.0f} tok/s; the whole command {statistics.median(whole):.2f} x; "
        + ", ".join(f"{t} {got[8][2][t] / got[1][2][t]:.2f}" for t in DEMO))


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default="build")
    p.add_argument("--model", required=True)
    p.add_argument("--dir", required=True, help="random-0.5b-*.gguf and quant-*.gguf")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    p.add_argument("--steps", type=int, default=32, help="of a timed decode")
    p.add_argument("--context", type=int, default=256)
    p.add_argument("--tokens", type=int, default=512)
    p.add_argument("--text", default=os.path.join(os.path.dirname(__file__), "../tests/golden/ppl_text.txt"))
    p.add_argument("--only", default="llama,greedy,two,bench,perplexity", help="parts, separated by commas")
    o = p.parse_args()
    cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.machine())
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()
    import llama_cpp
    probe = step(o, o.model)
    bandwidth = max(probe.ask("read 512")[0] for _ in range(9))  # the machine's, not what others leave of it
    probe.close()
    print(f"date    {time.strftime('%Y-%m-%d', time.gmtime())}, commit {commit}, llama-cpp-python {llama_cpp.__version__}")
    print(f"peer    {llama_cpp.llama_print_system_info().decode().strip()}")
    print(f"machine {cpu}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}; reads {bandwidth:.1f} GB/s with {o.threads} threads")
    print(f"command bench/cpu.sh -- --rounds {o.rounds} --threads {o.threads} --steps {o.steps} --tokens {o.tokens} --only {o.only}")
    print(f"{'':<58} {'clock':>7} {'procs.':>6}  target")
    models = [("default model", o.model), ("0.5B Q8_0", o.dir + "/random-0.5b-q8_0.gguf"), ("0.5B Q4_K_M", o.dir + "/random-0.5b-q4_k_m.gguf")]
    parts = o.only.split(",")
    if "llama" in parts:
        for name, model in models:
            against_llama(o, name, model, bandwidth)
    if "greedy" in parts:
        against_greedy(o, "default model", o.model)
    if "two" in parts:
        two_at_once(o, o.model)
    if "bench" in parts:
        bench(o, o.model)
    if "perplexity" in parts:
        for model in [o.model, *sorted(glob.glob(o.dir + "/quant-*.gguf"))]:
            perplexity(o, model)
    print(f"# load at the end {os.getloadavg()[0]:.1f}; {len(failed)} targets missed" + "".join("\n#   " + f for f in failed))
    return 1 if failed else 0


sys.exit(main())
