/* When the card passed a place in its stream, on the host's clock: events, and one moment at which both clocks were read.  The host
 * runs ahead of the card, so its own clock says when work was handed over, not when it ran. */
#include "cuda.h"

/* The clocks drift by some 20 us a second, as long as a choice takes, so they are compared anew this often. */
enum { ORIGIN_NS = 20 * 1000 * 1000 };

/* Both clocks at one moment, after all work so far. */
static void set_origin(cuda_backend *c) {
    if (!c->origin)
        cuda_ok(c, c->cu.event_create(&c->origin, 0));
    if (c->broken == CU_OK)
        cuda_ok(c, c->cu.stream_sync(c->stream));
    int64_t before = jpt_now_ns();
    if (c->broken == CU_OK && cuda_ok(c, c->cu.event_record(c->origin, c->stream)))
        cuda_ok(c, c->cu.event_sync(c->origin));
    c->origin_ns = before + (jpt_now_ns() - before) / 2;
}

void cuda_mark(jpt_backend *be) {
    cuda_backend *c = cuda_of(be);
    JPT_ASSERT(c->n_marks < JPT_MARKS);
    if (!c->origin)
        set_origin(c);
    cu_event *e = &c->mark[c->n_marks];
    if (!*e)
        cuda_ok(c, c->cu.event_create(e, 0));
    if (c->broken == CU_OK)
        cuda_ok(c, c->cu.event_record(*e, c->stream));
    c->n_marks++;
}

void cuda_marks(jpt_backend *be, int64_t *t_ns, int32_t n) {
    cuda_backend *c = cuda_of(be);
    if (n == 0)
        set_origin(c);
    for (int32_t i = 0; i < n; i++) {
        float ms = 0;
        t_ns[i] = jpt_now_ns(); /* where the card is gone */
        if (c->broken == CU_OK && cuda_ok(c, c->cu.event_sync(c->mark[i])) && cuda_ok(c, c->cu.event_elapsed(&ms, c->origin, c->mark[i])))
            t_ns[i] = c->origin_ns + (int64_t)((double)ms * 1e6);
    }
    c->n_marks = 0;
    if (n > 0 && jpt_now_ns() - c->origin_ns > ORIGIN_NS) /* who asks has just waited for the card */
        set_origin(c);
}

void cuda_marks_fini(cuda_backend *c) {
    for (int i = 0; i < JPT_MARKS; i++)
        if (c->mark[i])
            c->cu.event_destroy(c->mark[i]);
    if (c->origin)
        c->cu.event_destroy(c->origin);
}
