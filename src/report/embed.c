/* The page's style and script, as files of this folder, NUL-terminated. */
#include "svg.h"

#define EMBED(symbol, file) \
    __asm__(".section .rodata\n.globl " #symbol "\n" #symbol ":\n.incbin \"" JPT_REPORT_DIR "/" file "\"\n.byte 0\n.previous\n");
EMBED(report_page_css, "page.css")
EMBED(report_page_js, "page.js")
