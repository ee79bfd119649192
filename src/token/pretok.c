/* The pre-tokenizers, hand-coded from the regular expressions of the models' tokenizer.json:
 *
 *   gpt-2      's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 *   smollm     Digits(individual_digits) cuts every numeric character out, then gpt-2 on what lies between
 *   llama-bpe  (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*
 *              |\s*[\r\n]+|\s+(?!\S)|\s+
 *   qwen2      as llama-bpe with \p{N} for \p{N}{1,3}
 *
 * Each function tries the alternatives in that order at one place; every word costs its own length and one run of
 * white space of look-ahead.  An invalid byte has no class: it falls under [^\s\p{L}\p{N}]. */
#include "pretok.h"
#include "unicode.h"

#include <string.h>

const char jpt_pretok_names[] = "gpt-2, smollm, llama-bpe, qwen2";

bool jpt_pretok_by_name(jpt_str name, jpt_pretok *out) {
    static const struct {
        const char *name;
        jpt_pretok  pre;
    } known[] = {{"gpt-2", JPT_PRETOK_GPT2},
                 {"smollm", JPT_PRETOK_SMOLLM},
                 {"llama-bpe", JPT_PRETOK_LLAMA3},
                 {"qwen2", JPT_PRETOK_QWEN2}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (jpt_str_eqz(name, known[i].name))
            return *out = known[i].pre, true;
    return false;
}

/* The character at p[i]; past the end: length 0. */
struct ch {
    int32_t  cp;
    unsigned mask;
    size_t   len;
};

static struct ch at(const char *p, size_t n, size_t i) {
    struct ch c = {-1, 0, 0};
    if (i < n) {
        c.len = jpt_utf8_decode(p + i, n - i, &c.cp);
        c.mask = jpt_uc_class(c.cp);
    }
    return c;
}

/* End of the run of characters from i on whose class has a bit of `any` (any != 0), or has none of
 * L, N, S (any == 0). */
static size_t run(const char *p, size_t n, size_t i, unsigned any) {
    for (;;) {
        struct ch c = at(p, n, i);
        bool      in = any ? (c.mask & any) != 0 : !(c.mask & (JPT_UC_LETTER | JPT_UC_NUMBER | JPT_UC_SPACE));
        if (!c.len || !in)
            return i;
        i += c.len;
    }
}

static bool is_newline(struct ch c) {
    return c.len && (c.cp == '\r' || c.cp == '\n');
}

/* Length of 's 't 're 've 'm 'll 'd at p, else 0.  Without regard to case, U+017F (long s) folds to s. */
static size_t contraction(const char *p, size_t n, bool fold) {
    static const char *const tails[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    if (n < 2 || p[0] != '\'')
        return 0;
    for (size_t t = 0; t < sizeof tails / sizeof tails[0]; t++) {
        size_t k = strlen(tails[t]), i = 0;
        while (i < k && 1 + i < n) {
            char c = p[1 + i];
            if (fold && c >= 'A' && c <= 'Z')
                c = (char)(c + 32);
            if (c != tails[t][i])
                break;
            i++;
        }
        if (i == k)
            return 1 + k;
    }
    if (fold && n >= 3 && !memcmp(p + 1, "\xC5\xBF", 2))
        return 3;
    return 0;
}

/* \s+(?!\S)|\s+ : a run of white space, less its last character when something follows. */
static size_t blanks(const char *p, size_t n) {
    size_t i = 0, last = 0;
    for (struct ch c; (c = at(p, n, i)).len && (c.mask & JPT_UC_SPACE); i += c.len)
        last = i;
    return i == n || last == 0 ? i : last;
}

static size_t gpt2(const char *p, size_t n) {
    size_t k = contraction(p, n, false);
    if (k)
        return k;
    size_t    skip = p[0] == ' ';
    struct ch c = at(p, n, skip);
    if (c.len && !(c.mask & JPT_UC_SPACE)) {
        if (c.mask & JPT_UC_LETTER)
            return run(p, n, skip, JPT_UC_LETTER);
        if (c.mask & JPT_UC_NUMBER)
            return run(p, n, skip, JPT_UC_NUMBER);
        return run(p, n, skip, 0);
    }
    return blanks(p, n);
}

static size_t smollm(const char *p, size_t n) {
    struct ch c = at(p, n, 0);
    if (c.mask & JPT_UC_DIGIT)
        return c.len;
    /* gpt-2 sees the text up to the next digit only.  A word never reaches past the run it is made of, so the
     * search for that digit can stop where this word certainly has. */
    size_t end = c.len;
    unsigned first = c.mask;
    for (int changes = 0; (c = at(p, n, end)).len && !(c.mask & JPT_UC_DIGIT); end += c.len) {
        if ((c.mask & (JPT_UC_LETTER | JPT_UC_NUMBER | JPT_UC_SPACE)) !=
            (first & (JPT_UC_LETTER | JPT_UC_NUMBER | JPT_UC_SPACE))) {
            first = c.mask;
            if (++changes == 3)
                break;
        }
    }
    return gpt2(p, end);
}

static size_t llama3(const char *p, size_t n, size_t max_digits) {
    size_t k = contraction(p, n, true);
    if (k)
        return k;
    struct ch c = at(p, n, 0), next = at(p, n, c.len);
    if (c.mask & JPT_UC_LETTER)
        return run(p, n, 0, JPT_UC_LETTER);
    if (!is_newline(c) && !(c.mask & JPT_UC_NUMBER) && (next.mask & JPT_UC_LETTER))
        return run(p, n, c.len, JPT_UC_LETTER);
    if (c.mask & JPT_UC_NUMBER) {
        size_t i = c.len;
        for (size_t d = 1; d < max_digits && (next = at(p, n, i)).len && (next.mask & JPT_UC_NUMBER); d++)
            i += next.len;
        return i;
    }
    size_t skip = p[0] == ' ', i = run(p, n, skip, 0);
    if (i > skip) {
        while (i < n && (p[i] == '\r' || p[i] == '\n'))
            i++;
        return i;
    }
    /* \s*[\r\n]+ ends after the last line end of the run of white space. */
    size_t after = 0;
    i = 0;
    for (; (c = at(p, n, i)).len && (c.mask & JPT_UC_SPACE); i += c.len)
        if (is_newline(c))
            after = i + c.len;
    return after ? after : blanks(p, n);
}

size_t jpt_pretok_next(jpt_pretok pre, const char *text, size_t n) {
    switch (pre) {
    case JPT_PRETOK_GPT2: return gpt2(text, n);
    case JPT_PRETOK_SMOLLM: return smollm(text, n);
    case JPT_PRETOK_LLAMA3: return llama3(text, n, 3);
    case JPT_PRETOK_QWEN2: return llama3(text, n, 1);
    }
    return n;
}
