/* See kernels_body.h. */
#if defined(__x86_64__)
#define KERNELS cpu_kernels_avx2
#define ISA_NAME "avx2"
#include "kernels_body.h"
#else
typedef int jpt_kernels_avx2_absent;
#endif
