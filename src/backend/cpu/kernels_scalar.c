/* See kernels_body.h. */
#if 1
#define KERNELS cpu_kernels_scalar
#define ISA_NAME "scalar"
#include "kernels_body.h"
#else
typedef int jpt_kernels_scalar_absent;
#endif
