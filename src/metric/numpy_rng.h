/* NumPy's default generator (SeedSequence and PCG64, O'Neill 2014; bounded integers by Lemire 2019), so that resamples have the
 * indices that sacreBLEU's have. */
#ifndef JPT_METRIC_NUMPY_RNG_H
#define JPT_METRIC_NUMPY_RNG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct numpy_rng {
    uint64_t state[2], inc[2]; /* 128 bits each, the high half first */
    uint32_t half;             /* the other half of the last 64 bits, when half_left */
    bool     half_left;
    uint32_t bits; /* of coins */
    int      bits_left;
} numpy_rng;

void     numpy_rng_seed(numpy_rng *r, uint64_t seed);
uint64_t numpy_rng_64(numpy_rng *r);
uint32_t numpy_rng_below(numpy_rng *r, uint32_t n); /* as Generator.choice and integers draw one of 0..n-1, n >= 1 */
bool     numpy_rng_coin(numpy_rng *r);              /* as integers(2, dtype=bool) */

#endif
