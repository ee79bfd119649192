/* See kernels_body.h. */
#if defined(__x86_64__)
#define KERNELS cpu_kernels_amx
#define ISA_NAME "amx"
#define MOST_ROWS 16
#include "kernels_body.h"
#else
typedef int jpt_kernels_amx_absent;
#endif
