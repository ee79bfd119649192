/* See rows.h. */
#define ROWS row_loops_base
#include "rows_body.h"
