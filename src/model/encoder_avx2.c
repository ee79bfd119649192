/* See encoder_body.h. */
#if defined(__x86_64__)
#define OPS encoder_ops_avx2
#define ISA_NAME "avx2"
#define TILE_ROWS 6
#define TILE_VECTORS 1
#include "encoder_body.h"
#else
typedef int jpt_encoder_avx2_absent;
#endif
