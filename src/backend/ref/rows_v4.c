/* See rows.h. */
#if defined(__x86_64__)
#define ROWS row_loops_v4
#include "rows_body.h"
#else
typedef int jpt_rows_v4_absent;
#endif
