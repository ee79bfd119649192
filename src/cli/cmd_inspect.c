/* jpt inspect: what is in a model file. */
#include "cli.h"
#include <getopt.h>
#include <jansson.h>
#include <jpt/format.h>

static void print_tensors(const jpt_model_file *f) {
    for (size_t i = 0; i < f->n_tensors; i++) {
        const jpt_tensor_view *t = &f->tensor[i];
        printf("  %-28.*s %-5s", (int)t->name.n, t->name.p, jpt_dtype_name(t->dtype));
        for (int d = 0; d < t->n_dims; d++)
            printf("%s%llu", d ? " x " : " ", (unsigned long long)t->ne[d]);
        printf(", %zu bytes\n", t->bytes);
    }
}

static void print_metadata(const jpt_model_file *f) {
    for (size_t i = 0; i < f->gguf.n_kv; i++) {
        const jpt_gguf_kv *kv = &f->gguf.kv[i];
        char               key[256];
        double             v;
        bool               b;
        jpt_str            s;
        snprintf(key, sizeof key, "%.*s", (int)(kv->key.n < 255 ? kv->key.n : 255), kv->key.p);
        printf("  %s = ", key);
        if (kv->type == JPT_GGUF_ARRAY) {
            printf("%llu x %s\n", (unsigned long long)kv->n_items, jpt_gguf_type_name(kv->item_type));
        } else if (jpt_gguf_str(&f->gguf, key, &s)) {
            for (size_t k = 0; k < s.n && k < 200; k++)
                putchar((unsigned char)s.p[k] < 0x20 || s.p[k] == 0x7f ? ' ' : s.p[k]);
            puts(s.n > 200 ? "..." : "");
        } else if (jpt_gguf_bool(&f->gguf, key, &b)) {
            puts(b ? "true" : "false");
        } else if (jpt_gguf_f64(&f->gguf, key, &v)) {
            printf("%.9g\n", v);
        } else {
            puts(jpt_gguf_type_name(kv->type));
        }
    }
}

static void dtype_totals(const jpt_model_file *f, json_t *out, bool print) {
    for (size_t k = 0; k < jpt_dtype_count(); k++) {
        const jpt_dtype_info *d = jpt_dtype_at(k);
        size_t                n = 0, bytes = 0;
        for (size_t i = 0; i < f->n_tensors; i++)
            if (f->tensor[i].dtype == d->dtype) {
                n++;
                bytes += f->tensor[i].bytes;
            }
        if (n) {
            json_object_set_new(out, d->name, json_integer((json_int_t)bytes));
            if (print)
                printf("  %-5s %zu tensors, %.1f MB\n", d->name, n, (double)bytes * 1e-6);
        }
    }
}

int cmd_inspect(int argc, char **argv) {
    static const struct option longs[] = {{"json", no_argument, NULL, 'j'}, {"tensors", no_argument, NULL, 't'}, {"metadata", no_argument, NULL, 'm'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool      json = false, tensors = false, metadata = false;
    jpt_error err = {0};
    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;)
        switch (c) {
        case 'j': json = true; break;
        case 't': tensors = true; break;
        case 'm': metadata = true; break;
        case 'h': puts("usage: jpt inspect MODEL [--json] [--tensors] [--metadata]"); return CLI_OK;
        default: return cli_bad_option("inspect", argv);
        }
    if (argc - optind != 1)
        return cli_usage("inspect: give one model");
    const char    *path = cli_model_path(argv[optind], &err);
    jpt_model_file f;
    if (!path || jpt_model_file_open(path, &f, &err) != JPT_OK)
        return cli_fail(&err);
    const jpt_hparams *hp = &f.hp;
    const char        *chat = jpt_chat_name(jpt_chat_detect(f.vocab.chat_template));
    json_t            *types = json_object();
    if (!json) {
        printf("%s (%s)\n", path, f.kind);
        printf("  %s, architecture %s, %.1f M parameters, %.1f MB\n", hp->name[0] ? hp->name : "no name", hp->architecture, (double)f.n_params * 1e-6, (double)f.map.n * 1e-6);
        printf("  %d layers, width %d, ffn %d, %d heads, %d kv heads of %d, vocabulary %d, context %d%s%s\n", hp->n_layers, hp->n_embd, hp->n_ff, hp->n_heads,
               hp->n_kv_heads, hp->head_dim, hp->n_vocab, hp->n_ctx_train, hp->tied ? ", tied embeddings" : "", hp->qkv_bias ? ", QKV bias" : "");
        printf("  RoPE base %g%s\n", (double)hp->rope_theta, hp->rope_scaling == JPT_ROPE_SCALING_LLAMA3 ? ", llama3 scaling" : hp->rope_scaling ? ", linear scaling" : "");
        printf("  tokenizer %.*s %.*s, chat template %s\n", (int)(f.vocab.model.n < 40 ? f.vocab.model.n : 40), f.vocab.model.p,
               (int)(f.vocab.pre.n < 40 ? f.vocab.pre.n : 40), f.vocab.pre.p ? f.vocab.pre.p : "", chat);
        printf("  cache %.1f kB a position (float16)\n", 4e-3 * hp->n_layers * hp->n_kv_heads * hp->head_dim);
    }
    dtype_totals(&f, types, !json);
    if (json) {
        json_t *j = json_pack("{s:s,s:s,s:s,s:s,s:I,s:I,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:b,s:b,s:s}", "path", path, "format", f.kind, "name", hp->name, "architecture",
                              hp->architecture, "parameters", (json_int_t)f.n_params, "file_bytes", (json_int_t)f.map.n, "n_layers", hp->n_layers, "n_embd", hp->n_embd,
                              "n_ff", hp->n_ff, "n_heads", hp->n_heads, "n_kv_heads", hp->n_kv_heads, "head_dim", hp->head_dim, "n_vocab", hp->n_vocab, "n_ctx_train",
                              hp->n_ctx_train, "tied_embeddings", hp->tied, "qkv_bias", hp->qkv_bias, "chat_template", chat);
        json_object_set(j, "bytes_by_type", types);
        json_dumpf(j, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        putchar('\n');
        json_decref(j);
    }
    json_decref(types);
    if (tensors && !json)
        print_tensors(&f);
    if (metadata && !json)
        print_metadata(&f);
    jpt_model_file_close(&f);
    return CLI_OK;
}
