/* Chat templates.  jpt has no Jinja interpreter: it knows the templates of four families by marks in their text and
 * writes what those templates write (checked against jinja2 in tests/golden).  One deviation: where the Llama 2
 * template silently drops a message out of turn, jpt refuses. */
#include <jpt/token.h>

#include <string.h>

static const char *find(jpt_str hay, const char *needle) {
    return hay.n ? memmem(hay.p, hay.n, needle, strlen(needle)) : NULL;
}

jpt_chat_kind jpt_chat_detect(jpt_str t) {
    if (find(t, "<|im_start|>"))
        return JPT_CHAT_CHATML;
    if (find(t, "<|start_header_id|>"))
        return JPT_CHAT_LLAMA3;
    if (find(t, "[INST]"))
        return find(t, "<<SYS>>") ? JPT_CHAT_LLAMA2 : JPT_CHAT_MISTRAL;
    return JPT_CHAT_NONE;
}

const char *jpt_chat_name(jpt_chat_kind kind) {
    switch (kind) {
    case JPT_CHAT_CHATML: return "chatml";
    case JPT_CHAT_LLAMA2: return "llama2";
    case JPT_CHAT_LLAMA3: return "llama3";
    case JPT_CHAT_MISTRAL: return "mistral";
    case JPT_CHAT_NONE: break;
    }
    return "none";
}

/* A literal '<|im_start|>system\nTEXT<|im_end|>' in the template: the first whose TEXT is not broken by the end of its
 * Jinja string.  A newline may stand there itself or as an escape. */
void jpt_chat_default_system(jpt_str t, jpt_buf *out) {
    static const char open[] = "<|im_start|>system", close[] = "<|im_end|>";
    for (const char *p; (p = find(t, open)) != NULL;) {
        char quote = p > t.p ? p[-1] : '\0';
        p += sizeof open - 1;
        t = (jpt_str){p, t.n - (size_t)(p - t.p)};
        const char *end = find(t, close);
        if (!end)
            return;
        if (*p == '\n')
            p++;
        else if (p[0] == '\\' && p[1] == 'n') /* safe: `close` lies behind */
            p += 2;
        else
            continue;
        if (p >= end || (quote != '\'' && quote != '"'))
            continue;
        bool broken = false;
        for (const char *q = p; q < end && !broken; q++) {
            if (*q == '\\')
                q++;
            else
                broken = *q == quote;
        }
        if (broken)
            continue;
        for (; p < end; p++) {
            if (*p == '\\' && p + 1 < end) {
                p++;
                jpt_buf_addc(out, *p == 'n' ? '\n' : *p == 't' ? '\t' : *p);
            } else {
                jpt_buf_addc(out, *p);
            }
        }
        return;
    }
}

static void add(jpt_buf *out, jpt_str s) {
    jpt_buf_add(out, s.p, s.n);
}

/* Python's str.strip for ASCII white space and U+001C..U+001F; Unicode blanks are left. */
static jpt_str strip(jpt_str s) {
#define BLANK(c) ((c) == ' ' || ((c) >= 0x09 && (c) <= 0x0D) || ((c) >= 0x1C && (c) <= 0x1F))
    while (s.n && BLANK(s.p[0]))
        s.p++, s.n--;
    while (s.n && BLANK(s.p[s.n - 1]))
        s.n--;
#undef BLANK
    return s;
}

static void chatml(const jpt_tokenizer *tok, const jpt_chat_message *m, size_t n, bool generate, jpt_buf *out) {
    if (n && !jpt_str_eqz(m[0].role, "system")) {
        jpt_buf system = {0};
        jpt_chat_default_system(jpt_tokenizer_chat_template(tok), &system);
        if (system.n) {
            jpt_buf_addz(out, "<|im_start|>system\n");
            jpt_buf_add(out, system.p, system.n);
            jpt_buf_addz(out, "<|im_end|>\n");
        }
        out->oom |= system.oom;
        jpt_buf_fini(&system);
    }
    for (size_t i = 0; i < n; i++) {
        jpt_buf_addz(out, "<|im_start|>");
        add(out, m[i].role);
        jpt_buf_addc(out, '\n');
        add(out, m[i].content);
        jpt_buf_addz(out, "<|im_end|>\n");
    }
    if (generate)
        jpt_buf_addz(out, "<|im_start|>assistant\n");
}

static void llama3(jpt_str bos, const jpt_chat_message *m, size_t n, bool generate, jpt_buf *out) {
    for (size_t i = 0; i < n; i++) {
        if (i == 0)
            add(out, bos);
        jpt_buf_addz(out, "<|start_header_id|>");
        add(out, m[i].role);
        jpt_buf_addz(out, "<|end_header_id|>\n\n");
        add(out, strip(m[i].content));
        jpt_buf_addz(out, "<|eot_id|>");
    }
    if (generate)
        jpt_buf_addz(out, "<|start_header_id|>assistant<|end_header_id|>\n\n");
}

/* Llama 2 and Mistral want user and assistant in turn, the user first. */
static jpt_status check_turns(jpt_chat_kind kind, const jpt_chat_message *m, size_t n, size_t first, jpt_error *err) {
    for (size_t i = first; i < n; i++) {
        const char *want = (i - first) % 2 ? "assistant" : "user";
        if (!jpt_str_eqz(m[i].role, want))
            return JPT_FAIL(err, ARG, "chat template %s: message %zu has role '%.*s'; expected '%s'%s", jpt_chat_name(kind), i,
                            (int)(m[i].role.n < 40 ? m[i].role.n : 40), m[i].role.n ? m[i].role.p : "", want,
                            kind == JPT_CHAT_MISTRAL && i == 0 ? " (this template has no system message)" : "");
    }
    return JPT_OK;
}

static jpt_status llama2(jpt_str bos, jpt_str eos, const jpt_chat_message *m, size_t n, jpt_buf *out, jpt_error *err) {
    bool system = n && jpt_str_eqz(m[0].role, "system");
    JPT_TRY(check_turns(JPT_CHAT_LLAMA2, m, n, system, err));
    for (size_t i = system; i < n; i++) {
        if ((i - system) % 2) {
            jpt_buf_addc(out, ' ');
            add(out, strip(m[i].content));
            jpt_buf_addc(out, ' ');
            add(out, eos);
            continue;
        }
        add(out, bos);
        jpt_buf_addz(out, "[INST] ");
        jpt_buf text = {0};
        if (system && i == 1) {
            jpt_buf_addz(&text, "<<SYS>>\n");
            add(&text, m[0].content);
            jpt_buf_addz(&text, "\n<</SYS>>\n\n");
        }
        add(&text, m[i].content);
        add(out, strip((jpt_str){text.p, text.n}));
        out->oom |= text.oom;
        jpt_buf_fini(&text);
        jpt_buf_addz(out, " [/INST]");
    }
    return JPT_OK;
}

static jpt_status mistral(jpt_str bos, jpt_str eos, const jpt_chat_message *m, size_t n, jpt_buf *out, jpt_error *err) {
    JPT_TRY(check_turns(JPT_CHAT_MISTRAL, m, n, 0, err));
    add(out, bos);
    for (size_t i = 0; i < n; i++) {
        jpt_buf_addz(out, i % 2 ? "" : "[INST] ");
        add(out, m[i].content);
        if (i % 2)
            add(out, eos);
        else
            jpt_buf_addz(out, " [/INST]");
    }
    return JPT_OK;
}

jpt_status jpt_chat_format(jpt_chat_kind kind, const jpt_tokenizer *tok, const jpt_chat_message *messages,
                           size_t n_messages, bool add_generation_prompt, jpt_buf *out, jpt_error *err) {
    jpt_str bos = jpt_token_text(tok, jpt_tokenizer_bos(tok)), eos = jpt_token_text(tok, jpt_tokenizer_eos(tok));
    switch (kind) {
    case JPT_CHAT_CHATML: chatml(tok, messages, n_messages, add_generation_prompt, out); break;
    case JPT_CHAT_LLAMA3: llama3(bos, messages, n_messages, add_generation_prompt, out); break;
    case JPT_CHAT_LLAMA2: JPT_TRY(llama2(bos, eos, messages, n_messages, out, err)); break;
    case JPT_CHAT_MISTRAL: JPT_TRY(mistral(bos, eos, messages, n_messages, out, err)); break;
    default:
        return JPT_FAIL(err, UNSUPPORTED,
                        "the model has no chat template that jpt knows (ChatML, Llama 2, Llama 3, Mistral); "
                        "give the prompt as plain text");
    }
    return out->oom ? JPT_FAIL(err, NOMEM, "out of memory while formatting %zu messages", n_messages) : JPT_OK;
}
