/* The forward pass of Llama-like architectures (llama, qwen2) as calls on a back-end.  The two differ in data only:
 * Q/K/V biases and the pairing of RoPE. */
#include "model_priv.h"
#include <assert.h>
#include <string.h>

/* The rows of d_x that want logits to d_out, through the final norm unless `bare`. */
static void wanted_rows(jpt_session *s, const pass *p, bool bare, float *d_out) {
    jpt_model             *m = s->model;
    const jpt_backend_ops *op = m->be->ops;
    int32_t                n = p->n_logits, D = m->file.hp.n_embd;
    op->gather(m->be, s->d_x, p->logits_rows, n, D, bare ? d_out : s->d_gather);
    if (!bare)
        op->rmsnorm(m->be, s->d_gather, m->d_out_norm, n, D, m->file.hp.rms_eps, d_out);
}

/* What the exits after `l` layers give to the LM head: kept in d_heads behind the last layer's rows. */
static void exits(jpt_session *s, const pass *p, int32_t l) {
    for (int32_t e = 0; e < p->n_exit && p->n_logits; e++)
        if (p->exit_layers[e] == l)
            wanted_rows(s, p, p->exit_without_norm, s->d_heads + (size_t)(1 + e) * (size_t)p->n_logits * (size_t)s->model->file.hp.n_embd);
}

/* The LM head on the last layer's rows and the exits', reading its weights once where the results lie in one piece. */
static void head(jpt_session *s, const pass *p) {
    jpt_model *m = s->model;
    size_t     n = (size_t)p->n_logits, D = (size_t)m->file.hp.n_embd, V = (size_t)m->file.hp.n_vocab;
    float     *d_x = p->n_exit ? s->d_heads : s->d_norm;
    bool       whole = p->n_logits == s->all_logits;
    if (m->be->ops->logits && p->n_exit == 0) {
        m->be->ops->logits(m->be, m->head, s->d_x, p->n, p->logits_rows, p->n_logits, m->d_out_norm, m->file.hp.rms_eps, s->d_gather, s->d_norm, s->d_logits + (size_t)p->first_logits * V);
        return;
    }
    wanted_rows(s, p, false, d_x);
    for (int32_t e = 0; e <= (whole ? 0 : p->n_exit); e++)
        m->be->ops->matmul(m->be, m->head, d_x + (size_t)e * n * D, p->n_logits * (whole ? 1 + p->n_exit : 1), NULL,
                           s->d_logits + ((size_t)e * (size_t)s->all_logits + (size_t)p->first_logits) * V);
}

/* Several matrices on the same rows: one piece of work where the back-end can. */
static void project(jpt_backend *be, const jpt_weight *const *w, int32_t n_w, const float *x, int32_t n, const float *const *bias, float *const *y) {
    if (be->ops->matmul_many)
        be->ops->matmul_many(be, w, n_w, x, n, bias, y);
    else
        for (int32_t i = 0; i < n_w; i++)
            be->ops->matmul(be, w[i], x, n, bias[i], y[i]);
}

static void run_ops(jpt_session *s, const pass *p) {
    jpt_model             *m = s->model;
    jpt_backend           *be = m->be;
    const jpt_backend_ops *op = be->ops;
    const jpt_hparams     *hp = &m->file.hp;
    jpt_rope_kind          rope = hp->rope_neox ? JPT_ROPE_NEOX : JPT_ROPE_NORMAL;
    int32_t                n = p->n, D = hp->n_embd;
    op->embed(be, m->embed, s->tok, n, s->d_x);
    exits(s, p, 0);
    for (int32_t l = 0; l < p->n_layers; l++) {
        const model_layer *y = &m->layer[l];
        if (op->layer) {
            op->layer(be, &(jpt_layer_job){l, n, D, hp->n_ff, p->n_runs, hp->rope_dim, hp->rms_eps, rope, s->pos, m->inv_freq, &s->kv, &m->shape, s->run, y->d_attn_norm, y->d_ffn_norm,
                                           l + 1 < p->n_layers ? m->layer[l + 1].d_attn_norm : m->d_out_norm, y->d_q_bias, y->d_k_bias, y->d_v_bias, y->q, y->k, y->v, y->o, y->gate, y->up, y->down, s->d_x, s->d_norm, s->d_q, s->d_k, s->d_v, s->d_attn,
                                           s->d_gate, s->d_up});
            exits(s, p, l + 1);
            continue;
        }
        op->rmsnorm(be, s->d_x, y->d_attn_norm, n, D, hp->rms_eps, s->d_norm);
        project(be, (const jpt_weight *const[]){y->q, y->k, y->v}, 3, s->d_norm, n, (const float *const[]){y->d_q_bias, y->d_k_bias, y->d_v_bias},
                (float *const[]){s->d_q, s->d_k, s->d_v});
        op->rope(be, s->d_q, n, hp->n_heads, hp->head_dim, hp->rope_dim, rope, s->pos, m->inv_freq);
        op->rope(be, s->d_k, n, hp->n_kv_heads, hp->head_dim, hp->rope_dim, rope, s->pos, m->inv_freq);
        op->kv_write(be, &s->kv, l, &m->shape, s->run, p->n_runs, s->d_k, s->d_v);
        op->attention(be, &s->kv, l, &m->shape, s->run, p->n_runs, s->d_q, s->d_attn);
        op->matmul(be, y->o, s->d_attn, n, NULL, s->d_proj);
        op->add(be, s->d_x, s->d_proj, (size_t)n * (size_t)D);
        op->rmsnorm(be, s->d_x, y->d_ffn_norm, n, D, hp->rms_eps, s->d_norm);
        project(be, (const jpt_weight *const[]){y->gate, y->up}, 2, s->d_norm, n, (const float *const[]){NULL, NULL}, (float *const[]){s->d_gate, s->d_up});
        op->swiglu(be, s->d_gate, s->d_up, (size_t)n * (size_t)hp->n_ff, s->d_gate);
        op->matmul(be, y->down, s->d_gate, n, NULL, s->d_proj);
        op->add(be, s->d_x, s->d_proj, (size_t)n * (size_t)D);
        exits(s, p, l + 1);
    }
    if (p->n_logits)
        head(s, p);
    if (p->n_hidden) {
        op->gather(be, s->d_x, p->hidden_rows, p->n_hidden, D, s->d_gather);
        op->rmsnorm(be, s->d_gather, m->d_out_norm, p->n_hidden, D, hp->rms_eps, s->d_hidden + (size_t)p->first_hidden * (size_t)D);
    }
}

static_assert((int)JPT_EXIT_MAX == (int)JPT_CONTRAST_BASES, "one limit of early exits");

void jpt_pass_run(jpt_session *s, const pass *p) {
    jpt_backend    *be = s->model->be;
    jpt_pass_inputs in = {.tokens = s->tok, .pos = s->pos, .runs = s->run, .n_runs = p->n_runs, .page_size = s->opt.page_size, .logits_rows = p->logits_rows, .hidden_rows = p->hidden_rows};
    memset(&in.shape, 0, sizeof in.shape); /* compared as bytes */
    in.shape.session = s, in.shape.d_k = s->kv.d_k, in.shape.d_logits = s->d_logits, in.shape.d_hidden = s->d_hidden, in.shape.d_heads = s->d_heads;
    in.shape.n = p->n, in.shape.n_logits = p->n_logits, in.shape.n_hidden = p->n_hidden, in.shape.first_logits = p->first_logits, in.shape.first_hidden = p->first_hidden;
    in.shape.apart = p->apart;
    in.shape.all_logits = s->all_logits, in.shape.n_layers = p->n_layers, in.shape.n_exit = p->n_exit, in.shape.exit_without_norm = p->exit_without_norm;
    memcpy(in.shape.exit_layers, p->exit_layers, (size_t)p->n_exit * sizeof *p->exit_layers);
    bool done = be->ops->pass_begin && be->ops->pass_begin(be, &in);
    while (!done) {
        run_ops(s, p);
        done = !be->ops->pass_end || be->ops->pass_end(be, &in);
    }
    s->work.passes++;
    s->work.positions_computed += (uint64_t)p->n;
    s->work.logits_rows += (uint64_t)p->n_logits * (uint64_t)(1 + p->n_exit);
}
