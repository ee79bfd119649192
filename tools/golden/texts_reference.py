#!/usr/bin/env python3
"""Golden values of ROUGE, Porter's stemmer, GSM8K extraction, smoothed BLEU-4, self-BLEU, repetition, Zipf coefficient and pass@k:
tests/golden/texts.json.

From rouge-score, NLTK, sacreBLEU, SciPy and NumPy, and from lm-evaluation-harness's own files: its regular expressions are read from
its task files, code-text/bleu.py is run as it is.  SimCTG's repetition and human_eval's pass@k are a few lines, written out below.
Texts are made here with a fixed seed.
Needs rouge-score, sacrebleu, scipy, pyyaml; LM_EVAL is the folder of the lm_eval package (0.4.9).
Run: LM_EVAL=.../lm_eval texts_reference.py > tests/golden/texts.json
"""
import collections, importlib.metadata, importlib.util, json, logging, os, random, re, sys
import nltk, numpy, sacrebleu, scipy, scipy.stats, yaml
from nltk.stem.porter import PorterStemmer
from rouge_score import rouge_scorer
from sacrebleu.metrics import BLEU

logging.disable(logging.WARNING)
rng = random.Random(99)
LM_EVAL = os.environ["LM_EVAL"]

# ---- words
ROOTS = ("abil adjust adopt agre angular bl bowdler callous cat cease conflat conform control decis defens depend die digit effect electr enjoy fail falaf fall fil fizz flies form "
         "good gyroscop happ hesit hiss homolog hop hope infer inn irrit lie matt measur mot need news oat operat outing plaster poni predic priv probat proceed pros radic rate "
         "relat replac reviv roll say sensit siz sk sky spi succeed tan ti tom toy triplic troubl try valenc vietnam vil y yyy zyzzyva b2b 4th 1990 k8").split()
ENDS = ("s es ies sses ss ed eed ied ing ying ting at bl iz y ational tional enci anci izer bli abli alli entli eli ousli ization ation ator alism iveness fulness ousness aliti iviti biliti "
        "fulli logi icate ative alize iciti ical ful ness al ance ence er ic able ible ant ement ment ent sion tion ion ou ism ate iti ous ive ize e ll lle ly").split()
words = sorted({r + e for r in ROOTS for e in ENDS} | set(ROOTS))
words = sorted(rng.sample(words, 1400) + "sky skies dying lying tying news innings inning outings outing cannings canning howe proceed exceed succeed generally relational controlling".split())
stem = PorterStemmer().stem
words = [[w, stem(w)] for w in words if len(w) > 3]

# ---- texts
VOCABULARY = ("The cat's happily RUNNING dogs ran runner's generalizations of relational hopping hopes hoped and 3.14 1990s U.S. naïve über İstanbul K it's state-of-the-art returns "
              "Return returned number_of_items file_name x2 ; ( ) , . 東京 a an to in on quickly quick brown foxes").split(" ")


def sentence(lo, hi):
    return " ".join(rng.choice(VOCABULARY) for _ in range(rng.randint(lo, hi)))


def change(text):
    words = [rng.choice(VOCABULARY) if rng.random() < 0.25 else w for w in text.split(" ") if rng.random() > 0.15]
    i = rng.randrange(len(words) + 1)
    return " ".join(words[i:] + words[:i] if rng.random() < 0.3 else words)


rouge = []
TYPES = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
for i in range(60):
    ref = "\n".join(sentence(1, 14) for _ in range(rng.randint(1, 4)))
    hyp = "\n".join(change(s) for s in ref.split("\n")) if i % 7 else sentence(0, 20)
    if i % 11 == 3:
        hyp = hyp.replace("\n", "\n\n \n")
    if i in (5, 6):
        hyp, ref = ("", ref) if i == 5 else (hyp, " ; ")
    refs = [ref, "\n".join(change(s) for s in ref.split("\n"))]
    row = {"hyp": hyp, "refs": refs}
    for key, stemmer in ("plain", False), ("stem", True):
        scorer = rouge_scorer.RougeScorer(TYPES, use_stemmer=stemmer)
        row[key] = [[list(s[t]) for t in TYPES] for s in (scorer.score(ref, hyp), scorer.score_multi(refs, hyp))]
    rouge.append(row)

# ---- code summaries
spec = importlib.util.spec_from_file_location("bleu", os.path.join(LM_EVAL, "tasks/code_x_glue/code-text/bleu.py"))
code = importlib.util.module_from_spec(spec)
spec.loader.exec_module(code)
pairs = [["Returns the sum of two numbers", "Return the sum of two numbers ."], ["Opens the file for reading, if it exists.", "Opens a file"], ["same here .", "same here ."],
         ["x y", "a b c d"], ["", "a b c d"], ["snake_case_name of __init__", "snake case_name of __init__()"], ["ÜBER Straße 3.5-4", "über straße 3.5 - 4"], ["a &lt;b&gt; &amp; c", "a <b> & c"]]
pairs += [[change(t), t] for t in (sentence(1, 15) for _ in range(40))]
summaries = [[h, r, code.smoothed_bleu_4([r], [h])] for h, r in pairs]

# ---- answers
FILES = {"strict": ("gsm8k.yaml", "strict-match"), "flexible": ("gsm8k.yaml", "flexible-extract"), "cot": ("gsm8k-cot.yaml", "strict-match"),
         "vote": ("gsm8k-cot-self-consistency.yaml", "score-first"), "llama": ("gsm8k-cot-llama.yaml", "flexible_extract")}
filters = {}
for key, (file, name) in FILES.items():
    task = yaml.safe_load(open(os.path.join(LM_EVAL, "tasks/gsm8k", file)))
    named = {f["name"]: f["filter"] for f in task["filter_list"]}
    if key == "llama":  # the expression its prompt asks for
        name = next(n for n, f in named.items() if "final answer" in f[0]["regex_pattern"])
    filters[key] = (named[name][0]["regex_pattern"], named[name][0].get("group_select", 0))
ignore = yaml.safe_load(open(os.path.join(LM_EVAL, "tasks/gsm8k/gsm8k.yaml")))["metric_list"][0]["regexes_to_ignore"]


def extract(key, text):  # RegexFilter of lm_eval/filters/extraction.py
    pattern, group = filters[key]
    match = re.compile(pattern).findall(text)
    if not match:
        return "[invalid]"
    match = match[group]
    if isinstance(match, tuple):
        match = [m for m in match if m][0]
    return match.strip()


def normal(text):  # exact_match_hf_evaluate of lm_eval/api/metrics.py
    for pattern in ignore:
        text = re.sub(pattern, "", text)
    return str(numpy.char.lower(text))


PIECES = ["#### ", "####", "The answer is ", "The final answer is ", "-", "$", "1,234.50", "18", "7.", ".", ",", "3", " ", "\n", " eggs", "€", "=", "half", "0.5", "1e3", "- 4", "$-5", "²", "٣", "A"]
answers = ["She pays 3*5=15.\n#### 15", "The answer is $1,234.00.", "#### 7 and #### 8", "It costs $ 5 . ok", "x = -3", "so 2/3 of 12 is 8.", "... done ...", "#### 1,000.", "", "The answer is 18",
           "The answer is 18\n", "The answer is 5", "The answer is -5\nThe answer is 6.", "The final answer is 3. The final answer is $4.", "#### -\n#### 5", "7-3", "##### 5", "The answer is 1,000 dollars"]
answers += ["".join(rng.choice(PIECES) for _ in range(rng.randint(1, 9))) for _ in range(250)]
answers = [[a, *[extract(k, a) for k in FILES], *[normal(extract(k, a)) for k in FILES], normal(a)] for a in answers]

# ---- corpora
def simctg(texts):  # measure_repetition_and_diversity of SimCTG: its loop ends before the last n-gram
    out = []
    for n in (2, 3, 4):
        unique = total = 0
        for t in texts:
            w = t.strip().split()
            grams = [" ".join(w[i : i + n]) for i in range(len(w) - n)]
            unique, total = unique + len(set(grams)), total + len(grams)
        out.append(round((1 - unique / total) * 100, 2))
    return out + [(1 - out[0] / 100) * (1 - out[1] / 100) * (1 - out[2] / 100)]


def pooled(texts):
    rep, distinct = [], []
    for n in (1, 2, 3, 4):
        grams = [[tuple(w[i : i + n]) for i in range(len(w) - n + 1)] for w in (t.split() for t in texts)]
        total = sum(map(len, grams))
        rep.append(1 - sum(len(set(g)) for g in grams) / total)
        distinct.append(len(set().union(*grams)) / total)
    return rep[1:], distinct


corpora = []
for texts in (["a b c a b c a b c d", "the cat sat on the mat and the cat sat on the hat"], [sentence(8, 60) for _ in range(12)], [sentence(3, 9) for _ in range(7)] + ["", "one"]):
    counts = collections.Counter(w for t in texts for w in t.split())
    ys = numpy.array(sorted(counts.values(), reverse=True)[:5000])
    rep, distinct = pooled(texts)
    metric = BLEU(effective_order=True)
    corpora.append({"texts": texts, "simctg": simctg(texts), "rep": rep, "distinct": distinct, "words": sum(counts.values()), "distinct_words": len(counts),
                    "zipf": -float(scipy.stats.linregress(numpy.log(numpy.arange(1, len(ys) + 1)), numpy.log(ys)).slope),
                    "self_bleu": [metric.sentence_score(t, texts[:i] + texts[i + 1 :]).score for i, t in enumerate(texts)]})


def pass_at_k(n, c, k):  # human_eval/evaluation.py
    return 1.0 if n - c < k else 1.0 - float(numpy.prod(1.0 - k / numpy.arange(n - c + 1, n + 1)))


passed = [[n, c, k, pass_at_k(n, c, k)] for n, c, k in [(10, 3, 1), (10, 3, 5), (200, 7, 10), (200, 7, 100), (5, 0, 3), (5, 1, 5), (1, 1, 1), (1, 0, 1), (200, 150, 100), (100, 99, 2), (20, 10, 10)]]
versions = {"rouge-score": importlib.metadata.version("rouge-score"), "nltk": nltk.__version__, "sacrebleu": sacrebleu.__version__, "scipy": scipy.__version__, "numpy": numpy.__version__,
            "lm_eval": "0.4.9", "python": sys.version.split()[0]}
json.dump({"made_by": "tools/golden/texts_reference.py", "versions": versions, "words": words, "rouge": rouge, "summaries": summaries, "answers": answers, "corpora": corpora,
           "pass_at_k": passed}, sys.stdout, ensure_ascii=False, separators=(",", ":"))
print()
