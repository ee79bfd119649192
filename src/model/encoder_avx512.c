/* See encoder_body.h. */
#if defined(__x86_64__)
#define OPS encoder_ops_avx512
#define ISA_NAME "avx512"
#define TILE_ROWS 12
#define TILE_VECTORS 2
#include "encoder_body.h"
#else
typedef int jpt_encoder_avx512_absent;
#endif
