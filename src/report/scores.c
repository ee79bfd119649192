/* Scores beside the primary metric, as the file has them of whole cells: a task's other metrics, and those of a model
 * (METRIC@MODEL, by jpt evaluate), each with its interval over items. */
#include "data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

jpt_status report_score_add(report *r, cell *c, const jpt_score_row *s) {
    if ((c->n_scores & (c->n_scores - 1)) == 0) { /* full at every power of two */
        void *grown = realloc(c->scores, (size_t)(c->n_scores ? 2 * c->n_scores : 1) * sizeof *c->scores);
        if (grown == NULL)
            return JPT_NOMEM;
        c->scores = grown;
    }
    cell_score *to = &c->scores[c->n_scores];
    *to = (cell_score){report_keep(r, s->metric), {s->value, s->ci_low, s->ci_high, (int)s->n}};
    c->n_scores += to->metric != NULL;
    return to->metric ? JPT_OK : JPT_NOMEM;
}

const cell_score *report_score(const cell *c, const char *metric) {
    for (int i = 0; i < c->n_scores; i++)
        if (strcmp(c->scores[i].metric, metric) == 0)
            return &c->scores[i];
    return NULL;
}

bool report_score_partial(const cell *c, const cell_score *s) {
    int all = c->n_requests - c->n_failed;
    return s->of.n >= 0 && s->of.n < all && s->of.n < c->n_items;
}

int report_score_names(const panel *p, const char **names, int most) {
    int n = 0;
    for (int i = 0; i < p->n_cells; i++)
        for (int k = 0; k < p->cells[i]->n_scores; k++) {
            const cell_score *s = &p->cells[i]->scores[k];
            bool              known = report_same(s->metric, p->task->primary_metric) || !isfinite(s->of.mean);
            for (int o = 0; o < n && !known; o++)
                known = strcmp(names[o], s->metric) == 0;
            if (!known && n < most)
                names[n++] = s->metric;
        }
    return n;
}

void report_scores_csv(const report *r, jpt_buf *b) {
    jpt_buf_addz(b, "task,strategy,model,batch,metric,value,ci_low,ci_high,n\r\n");
    for (int i = 0; i < r->n_cells; i++)
        for (int k = 0; k < r->cells[i].n_scores; k++) {
            const cell       *c = &r->cells[i];
            const cell_score *s = &c->scores[k];
            const double      v[] = {s->of.mean, s->of.low, s->of.high};
            if (c->n_requests == 0)
                continue;
            report_csv_field(b, report_task(r, c->row.task)->name), jpt_buf_addc(b, ',');
            report_csv_field(b, c->label), jpt_buf_addc(b, ',');
            report_csv_field(b, c->model);
            jpt_buf_printf(b, ",%lld,", (long long)(c->row.batch < 1 ? 1 : c->row.batch));
            report_csv_field(b, s->metric);
            for (int m = 0; m < 3; m++) {
                jpt_buf_addc(b, ',');
                if (isfinite(v[m]))
                    jpt_buf_printf(b, "%.9g", v[m]);
            }
            jpt_buf_printf(b, ",%d\r\n", s->of.n);
        }
}
