"""Makes the golden files of the tokenizers in tests/golden/:

  token_texts.json    the strings: {"hex": bytes} each, made by a fixed seed
  token_vocab_*.json  small vocabularies (tokens, types, scores, merges), trained here
  token_ids_*.json    the reference's ids for each string (null: the string is not valid UTF-8)
  token_words.json    piece lengths in bytes of the four pre-tokenizers
  token_chat.json     conversations rendered by jinja2 from the models' templates

    python make_token.py OUT_DIR [SMOLLM2.gguf]

References: HF tokenizers (byte-level BPE; pipelines as in the models' tokenizer.json), sentencepiece (SPM),
jinja2 with the settings of transformers (trim_blocks, lstrip_blocks).  Versions are recorded in each file.
"""
import io
import json
import os
import random
import sys

import jinja2
import jinja2.sandbox
import sentencepiece as spm
import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

OUT = sys.argv[1]
GGUF = sys.argv[2] if len(sys.argv) > 2 else None
VERSIONS = {"tokenizers": tokenizers.__version__, "sentencepiece": spm.__version__, "jinja2": jinja2.__version__}
rng = random.Random(20250101)


def save(name, obj):
    obj = {"made_by": "tools/golden/make_token.py", "versions": VERSIONS, **obj}
    path = os.path.join(OUT, name)
    with open(path, "w") as f:
        json.dump(obj, f, ensure_ascii=True, separators=(",", ":"))
        f.write("\n")
    assert os.path.getsize(path) < 600_000, path


# ---- strings ------------------------------------------------------------------------------------

HAND = [
    "", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\r\n\r\n", "\t", "\t\t", " \n", "\n ", " \n ", "  \n\n  \n x", "a", " a", "a ", "  a",
    "a  b", "a   b", "Hello world", "Hello, world!", "hello  world \n", "The quick brown fox jumps over the lazy dog.",
    "I'm you're he's we've they'll I'd can't", "I'M YOU'RE HE'S WE'VE THEY'LL I'D CAN'T", "'s'S'\u017f'll'LL'lL 'x' ''s", "don\u2019t",
    "'re'RE're'rE", "o'clock 'twas rock'n'roll", "0", "1234567890", "3.14159", "1,000,000", "x1y22z333w4444", " 1 22 333", "2024-01-31T12:34:56Z",
    "\u0663\u0664\u0665", "\u00bd\u00b2\u2460\u2167", "\u4e94\u5341 5\u5341", "\u3007\u5345", "\U0001d7d8\U0001d7d9", "\U00016ac0\U00016ac1",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01", "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002\u6211\u4eec\u53bb\u516c\u56ed\u5427\uff1f", "\u3053\u3093\u306b\u3061\u306f\u4e16\u754c", "\u30ab\u30bf\u30ab\u30ca\u3068\u6f22\u5b57\u3001123\u500b\u3002",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645", "\u0627\u0644\u0639\u064e\u0631\u064e\u0628\u0650\u064a\u0651\u064e\u0629\u064f \u0661\u0662\u0663", "\u05e9\u05dc\u05d5\u05dd", "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440!", "\u039a\u03b1\u03bb\u03b7\u03bc\u03ad\u03c1\u03b1", "\uc548\ub155\ud558\uc138\uc694",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e", "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e0a\u0e32\u0e27\u0e42\u0e25\u0e01", "caf\u00e9 cafe\u0301", "e\u0301e\u0301\u0302\u0323a\u030a\u0327", "\u1100\u1161\u11a8 \uac01", "\u212b \u00c5 A\u030a", "\ufb01 \ufb03", "\u1e9b\u0323", "\u0344 \u0958 \u2126",
    "\U0001F600", "\U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466", "\U0001F44D\U0001F3FD", "\U0001F1E9\U0001F1EA\U0001F1EB\U0001F1F7", "\u2764\ufe0f\u200d\U0001F525 fire", "#\ufe0f\u20e3", "a\U0001F600b\U0001F600 c",
    "a\u00a0b", "\u00a0\u00a0x", "a\u2003b\u2009c", "\u3000\u5168\u89d2\u3000", "a\u200bb", "\u2028\u2029", "\u0085x", "\ufeffBOM", "\u202eRTL\u202c", "\x00", "a\x00b", "\x01\x02\x03\x1b[0m", "\x1c\x1d\x1e\x1f", "\x7f\x80\x9f",
    "\ufffd", "\ufffe\uffff", "\U0010ffff", "\U000e0001", "\U00020000\U0002a6df", "\U00031350\U000323af", "\u2581", "a\u2581b", "\u0120hello\u010a",
    "def f(x):\n    return x**2  # square\n", "for (int i = 0; i < n; i++) {\n\tsum += a[i];\n}\n", "if (a&&b||!c) return -1;", "<div class=\"x\">\n  <p>Hi</p>\n</div>", "SELECT * FROM t WHERE id=1;--", "std::vector<int> v{1,2,3};", "https://example.org/a?b=c&d=%20#e", "foo@bar.example", "{\"a\": [1, 2.5e-3, null]}", "lambda x: (x, *y, **z)", "\\n\\t\\\\", "a_b_c __init__ camelCase HTTPServer",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|endoftext|>", "a<|endoftext|>b", "<|im_end|><|im_end|>", " <|im_end|> ", "<|im_en", "<|im_end|", "<<|im_end|>>", "<|im_<|im_end|>", "<s>[INST] hi [/INST]</s>", "a</s>b", "</s> c", "<unk>", "<0x0A>", "<repo_name>x<file_sep>y", "<sep><sep2><sep>", "x<sep> y", "<sep>",
    "!!!", "...", "?!?!", "-----", "=====\n", "*" * 50, "#" * 17 + " x", "~`@#$%^&*()_+-=[]{}|;':\",./<>?", "\u201cquoted\u201d \u2014 dash \u2026", "\u20ac100 \u00a35 \u00a56", "\u00bfQu\u00e9 tal?", "na\u00efve fa\u00e7ade \u0153uvre", "\u00c4\u00d6\u00dc\u00e4\u00f6\u00fc\u00df", "I\u0307stanbul \u0130\u0131", "x\u00b2+y\u00b2=z\u00b2", "\u2211\u222b\u221a\u221e\u2260", "\u2502\u2500\u253c", "a\n\n\nb", "a \n \n b", "a\r\rb\r\n\r\nc", "x\t \t y", "   \n", "\n   ", "x   \n   y", "!\n\n?", "! \n", "a.\r\n\r\n  b", "   'll", " 'll", "\t's", "\u00e9's", "1's", "\n's", "'", "''", "' s", "word" * 40,
]
INVALID = [b"\xff", b"\xfe\xff", b"a\xffb", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xe2\x82a", b"\xf0\x9f\x98", b"x \xf0\x9f\x98 y", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80\x80\x80",
           b"ok \xe4\xbd\xa0\xe5\xa5 \xbd", b"\xff\xfe\xfd\xfc 12", b"e\xcc\x81\xff\xcc\x81e", b"'\xffs", b" \xff\xff\n", bytes(range(256)), bytes(range(255, -1, -1))]
ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz", "ABCxyz 019 .,!?'\n\t", " \n\r\t\u00a0\u3000x", "0123456789\u0663\u00bd\u2167 a", "'sStTrReEvVmMlLdD \u017f", "\u4f60\u597d\u4e16\u754c\u3002\uff0c\u4e2d\u56fd\u4eba 1", "\u3042\u3044\u3046\u30a2\u30a4\u30a6\u65e5\u672c",
    "\u0627\u0628\u062a\u062b\u0651\u064e \u0661", "\U0001F600\U0001F468\u200d\ufe0f\U0001F3FD a1", "e\u0301\u0302\u0323a\u0308o\u0327n \u1100\u1161\u11a8", "(){}[]<>=+-*/&|;:_\"'\\ \n", "\u00e9\u00fc\u00df\u00f1\u0153\u0142 Za", "<|im_start|><|im_end|><sep></s> x",
]
WORDS = ("the of and to in is was for that with on as it by at from his an were are which this be or had not first one their its new after but who they have her two she been other when there all during "
         "into school time may years more most only over city some world would where later up such used many can state about national out known university united then made energy joule token model decode "
         "strategy measure power beam search sample greedy temperature probability watt second memory cache attention layer water house light people under between because before through while small great "
         "don't isn't we're they've I'll he'd Python's function return import class print(x) self.value == None for i in range(10): while True: int main(void) { return 0; } #include <stdio.h>").split()


def random_cp():
    while True:
        c = rng.choice([rng.randrange(0x20, 0x250), rng.randrange(0x250, 0x3000), rng.randrange(0x3000, 0x10000), rng.randrange(0x10000, 0x20000), rng.randrange(0x110000)])
        if not 0xD800 <= c <= 0xDFFF:
            return chr(c)


def make_texts():
    texts = [t.encode() for t in HAND]
    for a in ALPHABETS:
        for _ in range(16):
            texts.append("".join(rng.choice(a) for _ in range(rng.randrange(1, 60))).encode())
    for _ in range(60):
        texts.append("".join(random_cp() for _ in range(rng.randrange(1, 40))).encode())
    for _ in range(40):
        texts.append("".join(rng.choice(WORDS) + rng.choice([" ", " ", " ", "  ", "\n", ", ", ". "]) for _ in range(rng.randrange(1, 40))).encode())
    for _ in range(40):
        mix = "".join(rng.choice(rng.choice(ALPHABETS)) for _ in range(rng.randrange(1, 80)))
        texts.append(mix.encode())
    for k, unit in enumerate(["a", "ab", " ", "\n", " \n", "\u4f60", "the", "1", "<", "e\u0301"]):
        texts.append((unit * (10000 // len(unit.encode()))).encode())
    texts.append("".join(rng.choice("abcdefghij") for _ in range(10000)).encode())
    texts.append(" ".join(rng.choice(WORDS) for _ in range(1700)).encode())
    texts += INVALID
    for _ in range(20):
        texts.append(bytes(rng.randrange(256) for _ in range(rng.randrange(1, 30))))
    return texts


TEXTS = make_texts()


def valid(b):
    try:
        return b.decode()
    except UnicodeDecodeError:
        return None


def corpus():
    r = random.Random(7)
    lines = [t.decode() for t in TEXTS if valid(t) is not None and 0 < len(t) < 400 and "<" not in t.decode()]
    lines += [" ".join(r.choice(WORDS) for _ in range(12)) for _ in range(3000)]
    return lines


# ---- byte-level BPE -----------------------------------------------------------------------------

LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")


def pre_tokenizer(name):
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name in ("gpt-2", "smollm"))
    if name == "gpt-2":
        return byte_level
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3 if name == "llama-bpe" else QWEN2), "isolated", invert=False), byte_level])


def words_only(name):
    """The pre-tokenizer without the byte writing, so that offsets are of the text itself."""
    regex = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    if name == "gpt-2":
        return pre_tokenizers.Split(Regex(regex), "isolated")
    if name == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Split(Regex(regex), "isolated")])
    return pre_tokenizers.Split(Regex(LLAMA3 if name == "llama-bpe" else QWEN2), "isolated")


SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def train_bpe(name):
    tok = Tokenizer(models.BPE())
    if name == "qwen2":
        tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizer(name)
    trainer = trainers.BpeTrainer(vocab_size=2000, special_tokens=[], show_progress=False,
                                  initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tok.train_from_iterator(corpus(), trainer)
    model = json.loads(tok.to_str())["model"]
    vocab, merges = model["vocab"], [tuple(m) if not isinstance(m, str) else tuple(m.split(" ")) for m in model["merges"]]
    if name == "llama-bpe":  # words that no merge makes: they show ignore_merges
        for w in ["\u0120zqxjk", "\u0120don't", "Zq\u00c3\u00a9"]:
            vocab[w] = len(vocab)
    tokens = [t for t, _ in sorted(vocab.items(), key=lambda kv: kv[1])]
    return tokens, merges


def build_bpe(name, tokens, types, merges):
    tok = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges, ignore_merges=name == "llama-bpe"))
    if name == "qwen2":
        tok.normalizer = normalizers.NFC()
    tok.pre_tokenizer = pre_tokenizer(name)
    tok.decoder = decoders.ByteLevel()
    tok.add_special_tokens([AddedToken(t, special=True, normalized=False) for t, k in zip(tokens, types) if k == 3])
    tok.add_tokens([AddedToken(t, special=False, normalized=False) for t, k in zip(tokens, types) if k == 4])
    return tok


def bpe_ids(tok):
    return [tok.encode(t, add_special_tokens=False).ids if (t := valid(b)) is not None else None for b in TEXTS]


def make_bpe(name):
    tokens, merges = train_bpe(name)
    tokens += SPECIALS + ["<sep>", "<sep><sep2>"]
    types = [1] * (len(tokens) - 5) + [3, 3, 3, 4, 4]
    save(f"token_vocab_{name}.json", {"pre": name, "tokens": tokens, "types": types, "merges": [" ".join(m) for m in merges]})
    save(f"token_ids_{name}.json", {"ids": bpe_ids(build_bpe(name, tokens, types, merges))})


def make_smollm2():
    from gguf import GGUFReader
    fields = GGUFReader(GGUF).fields
    get = lambda k: fields["tokenizer.ggml." + k].contents()
    tok = build_bpe("smollm", get("tokens"), get("token_type"), [tuple(m.split(" ")) for m in get("merges")])
    save("token_ids_smollm2.json", {"model": "SmolLM2-135M-Instruct", "ids": bpe_ids(tok)})
    return fields["tokenizer.chat_template"].contents()


# ---- SentencePiece ------------------------------------------------------------------------------

def make_spm():
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter([l for l in corpus() if "\x00" not in l]), model_writer=out, model_type="bpe", vocab_size=2000, byte_fallback=True,
        character_coverage=0.98, normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=True,
        split_digits=True, allow_whitespace_only_pieces=True, user_defined_symbols=["<sep>", "<sep><sep2>"], num_threads=1, minloglevel=2)
    sp = spm.SentencePieceProcessor(model_proto=out.getvalue())
    n = sp.vocab_size()
    types = [6 if sp.is_byte(i) else 3 if sp.is_control(i) else 2 if sp.is_unknown(i) else 4 if sp.id_to_piece(i).startswith("<sep>") else 1 for i in range(n)]
    save("token_vocab_spm.json", {"tokens": [sp.id_to_piece(i) for i in range(n)], "types": types, "scores": [sp.get_score(i) for i in range(n)]})
    save("token_ids_spm.json", {"ids": [sp.encode(t) if (t := valid(b)) is not None else None for b in TEXTS]})


# ---- chat ---------------------------------------------------------------------------------------

TEMPLATES = {
    "llama2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "llama3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}",
    "mistral": "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "qwen2.5": "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0]['role'] == 'system' %}\n        {{- messages[0]['content'] }}\n    {%- else %}\n        {{- 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}\n    {%- endif %}\n    {{- '<|im_end|>\\n' }}\n{%- else %}\n    {%- if messages[0]['role'] == 'system' %}\n        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n    {%- else %}\n        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}\n    {%- endif %}\n{%- endif %}\n{%- for message in messages %}\n    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) or (message.role == \"assistant\" and not message.tool_calls) %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
    "chatml": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
}
CONVERSATIONS = [
    [("user", "Hello!")],
    [("system", "Be brief."), ("user", "Hello!")],
    [("user", "  What is 2+2?  \n"), ("assistant", " 4 "), ("user", "And 3+3?")],
    [("system", "  Sp\u00e4t \u4f60\u597d  "), ("user", "a\n\nb"), ("assistant", "c\t"), ("user", "d 'quoted' \"x\" {{ y }}")],
    [("user", ""), ("assistant", "")],
    [("user", "x"), ("system", "late"), ("user", "y")],
    [("assistant", "first"), ("user", "y")],
    [("user", "\n\n<|im_end|>\n")],
    [("system", ""), ("user", "empty system")],
]


def make_chat(smollm2_template):
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)

    def refuse(msg):
        raise jinja2.exceptions.TemplateError(msg)

    env.globals["raise_exception"] = refuse
    templates = dict(TEMPLATES)
    if smollm2_template:
        templates["smollm2"] = smollm2_template
    cases = []
    for name, source in templates.items():
        for conversation in CONVERSATIONS:
            messages = [{"role": r, "content": c} for r, c in conversation]
            for generate in (False, True):
                try:
                    text = env.from_string(source).render(messages=messages, add_generation_prompt=generate, bos_token="<s>", eos_token="</s>")
                except jinja2.exceptions.TemplateError:
                    text = None  # the template refuses the conversation
                cases.append({"template": name, "messages": messages, "generate": generate, "text": text})
    save("token_chat.json", {"templates": templates, "cases": cases})


save("token_texts.json", {"texts": [t.hex() for t in TEXTS]})
for pre in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
    make_bpe(pre)
make_spm()
words = {}
for pre in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
    words[pre] = [[len(w.encode()) for w, _ in words_only(pre).pre_tokenize_str(t)] if (t := valid(b)) is not None and len(b) < 5000 else None for b in TEXTS]
save("token_words.json", words)
make_chat(make_smollm2() if GGUF else None)
print(len(TEXTS), "texts,", sum(valid(t) is not None for t in TEXTS), "valid UTF-8")
