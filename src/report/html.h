/* Parts of the HTML page. */
#ifndef JPT_REPORT_HTML_H
#define JPT_REPORT_HTML_H

#include "svg.h"

void report_key(const report *r, jpt_buf *b, const cell *c, const char *name); /* its mark, then the name */
void report_json_text(jpt_buf *b, const char *z, size_t most); /* a JSON string of at most so many bytes, safe in a script element */
void report_panel_id(jpt_buf *b, const panel *p);

void report_heat_map(const report *r, jpt_buf *b);
void report_panel_section(const report *r, const panel *p, jpt_buf *b);
void report_texts_json(const report *r, jpt_buf *b);
void report_validity(const report *r, jpt_buf *b);
void report_cost(const report *r, jpt_buf *b);
void report_method(const report *r, jpt_buf *b);

#endif
