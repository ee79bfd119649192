/* See kernels_body.h. */
#if defined(__x86_64__)
#define KERNELS cpu_kernels_avx512
#define ISA_NAME "avx512"
#include "kernels_body.h"
#else
typedef int jpt_kernels_avx512_absent;
#endif
