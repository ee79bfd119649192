#include <jpt/base.h>
#include <stdlib.h>
#include <string.h>

jpt_str jpt_str_z(const char *z) { return (jpt_str){z ? z : "", z ? strlen(z) : 0}; }

bool jpt_str_eq(jpt_str a, jpt_str b) { return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0); }

bool jpt_str_eqz(jpt_str a, const char *z) { return jpt_str_eq(a, jpt_str_z(z)); }

void jpt_buf_fini(jpt_buf *b) {
    free(b->p);
    *b = (jpt_buf){0};
}

void jpt_buf_reset(jpt_buf *b) {
    b->n = 0;
    b->oom = false;
    if (b->p)
        b->p[0] = '\0';
}

bool jpt_buf_reserve(jpt_buf *b, size_t extra) {
    size_t need;
    if (b->oom || !jpt_add_size(b->n, extra, &need) || !jpt_add_size(need, 1, &need)) {
        b->oom = true;
        return false;
    }
    if (need <= b->cap)
        return true;
    size_t cap = b->cap < 64 ? 64 : b->cap;
    while (cap < need)
        if (!jpt_mul_size(cap, 2, &cap))
            cap = need;
    char *p = realloc(b->p, cap);
    if (!p) {
        b->oom = true;
        return false;
    }
    b->p = p;
    b->cap = cap;
    return true;
}

void jpt_buf_add(jpt_buf *b, const void *p, size_t n) {
    if (!jpt_buf_reserve(b, n))
        return;
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = '\0';
}

void jpt_buf_addz(jpt_buf *b, const char *z) { jpt_buf_add(b, z, strlen(z)); }

void jpt_buf_addc(jpt_buf *b, char c) { jpt_buf_add(b, &c, 1); }

void jpt_buf_printf(jpt_buf *b, const char *fmt, ...) {
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n >= 0 && jpt_buf_reserve(b, (size_t)n)) {
        vsnprintf(b->p + b->n, (size_t)n + 1, fmt, again);
        b->n += (size_t)n;
    }
    va_end(again);
}

size_t jpt_utf8_decode(const char *p, size_t n, int32_t *cp) {
    const unsigned char *s = (const unsigned char *)p;
    static const int32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t               len;
    int32_t              c;
    *cp = -1;
    if (n == 0)
        return 0;
    if (s[0] < 0x80) {
        *cp = s[0];
        return 1;
    }
    if ((s[0] & 0xe0) == 0xc0) {
        len = 2;
        c = s[0] & 0x1f;
    } else if ((s[0] & 0xf0) == 0xe0) {
        len = 3;
        c = s[0] & 0x0f;
    } else if ((s[0] & 0xf8) == 0xf0) {
        len = 4;
        c = s[0] & 0x07;
    } else {
        return 1;
    }
    if (len > n)
        return 1;
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 1;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return 1;
    *cp = c;
    return len;
}

size_t jpt_utf8_valid_prefix(const char *p, size_t n) {
    size_t i = 0;
    while (i < n) {
        int32_t cp;
        size_t  len = jpt_utf8_decode(p + i, n - i, &cp);
        if (cp < 0)
            break;
        i += len;
    }
    return i;
}

/* Damerau-Levenshtein (optimal string alignment) over at most 63 bytes a side. */
static size_t edit_distance(const char *a, const char *b) {
    enum { MAX = 64 };
    size_t na = strlen(a), nb = strlen(b);
    if (na >= MAX || nb >= MAX)
        return SIZE_MAX;
    size_t d[3][MAX];
    for (size_t j = 0; j <= nb; j++)
        d[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *now = d[i % 3], *before = d[(i + 2) % 3], *before2 = d[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);
            if (before[j] + 1 < best)
                best = before[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before2[j - 2] + 1 < best)
                best = before2[j - 2] + 1;
            now[j] = best;
        }
    }
    return d[na % 3][nb];
}

const char *jpt_nearest(const char *word, const char *const *names, size_t n) {
    size_t      limit = strlen(word) / 3 > 2 ? strlen(word) / 3 : 2, best = SIZE_MAX;
    const char *found = NULL;
    for (size_t i = 0; i < n; i++) {
        size_t d = edit_distance(word, names[i]);
        if (d < best) {
            best = d;
            found = names[i];
        }
    }
    return best <= limit && best < strlen(word) ? found : NULL;
}
