/* Code point classes by binary search in the generated table, and UTF-8 by maximal subparts. */
#include "unicode.h"

unsigned jpt_uc_find(const struct jpt_uc_range *range, size_t n, int32_t cp) {
    size_t lo = 0, hi = n;
    while (cp >= 0 && lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (cp > range[mid].last)
            lo = mid + 1;
        else if (cp < range[mid].first)
            hi = mid;
        else
            return range[mid].mask;
    }
    return 0;
}
unsigned jpt_uc_class(int32_t cp) { return jpt_uc_find(jpt_uc_ranges, jpt_uc_n_ranges, cp); }

enum jpt_utf8_what jpt_utf8_look(const char *p, size_t n, size_t *len) {
    const unsigned char *s = (const unsigned char *)p;
    unsigned             c = s[0], lo = 0x80, hi = 0xBF; /* bounds of the second byte (Unicode table 3-7) */
    size_t               need;
    *len = 1;
    if (c < 0x80)
        return JPT_UTF8_WHOLE;
    if (c < 0xC2 || c > 0xF4)
        return JPT_UTF8_BAD;
    if (c < 0xE0) {
        need = 2;
    } else if (c < 0xF0) {
        need = 3;
        if (c == 0xE0)
            lo = 0xA0;
        if (c == 0xED)
            hi = 0x9F;
    } else {
        need = 4;
        if (c == 0xF0)
            lo = 0x90;
        if (c == 0xF4)
            hi = 0x8F;
    }
    for (size_t i = 1; i < need; i++) {
        if (i == n)
            return *len = i, JPT_UTF8_CUT;
        if (s[i] < lo || s[i] > hi)
            return *len = i, JPT_UTF8_BAD;
        lo = 0x80, hi = 0xBF;
    }
    *len = need;
    return JPT_UTF8_WHOLE;
}
