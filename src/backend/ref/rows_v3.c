/* See rows.h. */
#if defined(__x86_64__)
#define ROWS row_loops_v3
#include "rows_body.h"
#else
typedef int jpt_rows_v3_absent;
#endif
