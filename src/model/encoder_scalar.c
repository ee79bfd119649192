/* See encoder_body.h. */
#define OPS encoder_ops_scalar
#define ISA_NAME "scalar"
#define TILE_ROWS 2
#define TILE_VECTORS 1
#include "encoder_body.h"
