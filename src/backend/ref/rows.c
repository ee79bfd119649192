#include "rows.h"
#include <stdatomic.h>

const row_loops *rows(void) {
#if defined(__x86_64__)
    static _Atomic(const row_loops *) chosen;
    const row_loops                  *r = atomic_load_explicit(&chosen, memory_order_relaxed);
    if (!r) {
        __builtin_cpu_init();
        r = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
                ? &row_loops_v4
            : __builtin_cpu_supports("avx2") ? &row_loops_v3
                                             : &row_loops_base;
        atomic_store_explicit(&chosen, r, memory_order_relaxed);
    }
    return r;
#else
    return &row_loops_base;
#endif
}
