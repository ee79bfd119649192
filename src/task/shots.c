/* CPython's random: MT19937 (Matsumoto and Nishimura 1998) seeded by init_by_array, and random.sample for a small k of a large
 * population.  Kept so that few-shot examples are those that lm-evaluation-harness draws. */
#include "task_priv.h"
#include <math.h>
#include <string.h>

enum { N = 624, M = 397 };

static void init(task_random *r, uint32_t s) {
    r->state[0] = s;
    for (uint32_t i = 1; i < N; i++)
        r->state[i] = 1812433253u * (r->state[i - 1] ^ (r->state[i - 1] >> 30)) + i;
    r->at = N;
}

void task_random_seed(task_random *r, uint32_t seed) {
    uint32_t *s = r->state;
    init(r, 19650218u);
    uint32_t i = 1;
    for (int k = N; k; k--) { /* a key of one word */
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1664525u)) + seed;
        if (++i == N)
            s[0] = s[N - 1], i = 1;
    }
    for (int k = N - 1; k; k--) {
        s[i] = (s[i] ^ ((s[i - 1] ^ (s[i - 1] >> 30)) * 1566083941u)) - i;
        if (++i == N)
            s[0] = s[N - 1], i = 1;
    }
    s[0] = 0x80000000u;
}

static uint32_t next(task_random *r) {
    if (r->at == N) {
        for (int i = 0; i < N; i++) {
            uint32_t y = (r->state[i] & 0x80000000u) | (r->state[(i + 1) % N] & 0x7fffffffu);
            r->state[i] = r->state[(i + M) % N] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0);
        }
        r->at = 0;
    }
    uint32_t y = r->state[r->at++];
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c5680u;
    y ^= (y << 15) & 0xefc60000u;
    return y ^ (y >> 18);
}

/* random._randbelow_with_getrandbits for n < 2^32. */
static size_t below(task_random *r, size_t n) {
    int bits = 0;
    for (size_t v = n; v; v >>= 1)
        bits++;
    size_t x;
    do
        x = next(r) >> (32 - bits);
    while (x >= n);
    return x;
}

void task_random_sample(task_random *r, size_t n, size_t k, size_t *out) {
    size_t set_size = 21; /* CPython's choice between a pool and a set of what was chosen */
    if (k > 5)
        set_size += (size_t)pow(4, ceil(log((double)k * 3) / log(4)));
    for (size_t i = 0; i < k; i++) {
        if (n <= set_size) { /* the pool: a chosen place gets the pool's last entry; followed through what was moved */
            size_t j = below(r, n - i);
            out[i] = j;
            continue;
        }
        bool again = true;
        while (again) {
            out[i] = below(r, n);
            again = false;
            for (size_t m = 0; m < i; m++)
                again = again || out[m] == out[i];
        }
    }
    if (n > set_size)
        return;
    size_t pool[21 + 4096]; /* set_size of k <= 341 */
    for (size_t i = 0; i < n && i < sizeof pool / sizeof *pool; i++)
        pool[i] = i;
    for (size_t i = 0; i < k; i++) {
        size_t j = out[i];
        out[i] = pool[j];
        pool[j] = pool[n - i - 1];
    }
}
