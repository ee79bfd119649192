#include "numpy_rng.h"

__extension__ typedef unsigned __int128 u128;

static const u128 MULTIPLIER = (u128)0x2360ED051FC65DA4u << 64 | 0x4385DF649FCCF645u;

static u128 get(const uint64_t v[2]) { return (u128)v[0] << 64 | v[1]; }
static void put(uint64_t v[2], u128 x) {
    v[0] = (uint64_t)(x >> 64);
    v[1] = (uint64_t)x;
}

static void step(numpy_rng *r) { put(r->state, get(r->state) * MULTIPLIER + get(r->inc)); }

uint64_t numpy_rng_64(numpy_rng *r) {
    step(r);
    uint64_t x = r->state[0] ^ r->state[1];
    int      turn = (int)(r->state[0] >> 58);
    return x >> turn | x << (-turn & 63);
}

static uint32_t next32(numpy_rng *r) {
    if (r->half_left) {
        r->half_left = false;
        return r->half;
    }
    uint64_t x = numpy_rng_64(r);
    r->half = (uint32_t)(x >> 32);
    r->half_left = true;
    return (uint32_t)x;
}

static uint32_t hashmix(uint32_t v, uint32_t *h) {
    v ^= *h;
    *h *= 0x931e8875u;
    v *= *h;
    return v ^ v >> 16;
}

static uint32_t mix(uint32_t x, uint32_t y) {
    uint32_t r = 0xca01f9ddu * x - 0x4973f715u * y;
    return r ^ r >> 16;
}

void numpy_rng_seed(numpy_rng *r, uint64_t seed) {
    uint32_t pool[4], h = 0x43b0d7e5u, g = 0x8b51f9ddu, word[8];
    uint64_t w[4];
    for (int i = 0; i < 4; i++)
        pool[i] = hashmix(i < 2 ? (uint32_t)(seed >> 32 * i) : 0, &h);
    for (int s = 0; s < 4; s++)
        for (int d = 0; d < 4; d++)
            if (s != d)
                pool[d] = mix(pool[d], hashmix(pool[s], &h));
    for (int i = 0; i < 8; i++) {
        uint32_t v = pool[i % 4] ^ g;
        g *= 0x58f38dedu;
        v *= g;
        word[i] = v ^ v >> 16;
    }
    for (int i = 0; i < 4; i++)
        w[i] = word[2 * i] | (uint64_t)word[2 * i + 1] << 32;
    *r = (numpy_rng){0};
    put(r->inc, ((u128)w[2] << 64 | w[3]) << 1 | 1);
    step(r);
    put(r->state, get(r->state) + ((u128)w[0] << 64 | w[1]));
    step(r);
}

uint32_t numpy_rng_below(numpy_rng *r, uint32_t n) {
    if (n <= 1)
        return 0; /* nothing is drawn */
    uint64_t m = (uint64_t)next32(r) * n;
    if ((uint32_t)m < n) {
        uint32_t threshold = -n % n;
        while ((uint32_t)m < threshold)
            m = (uint64_t)next32(r) * n;
    }
    return (uint32_t)(m >> 32);
}

bool numpy_rng_coin(numpy_rng *r) {
    if (r->bits_left == 0) {
        r->bits = next32(r);
        r->bits_left = 32;
    }
    bool coin = r->bits & 1;
    r->bits >>= 1;
    r->bits_left--;
    return coin;
}
