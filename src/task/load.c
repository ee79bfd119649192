/* Opening tasks: form and items become prompts, references and tests. */
#include "task_priv.h"
#include <jpt/dataset.h>
#include <jpt/sandbox.h>
#include <stdlib.h>
#include <string.h>

/* What opening needs along the way. */
typedef struct opening {
    jpt_task         *t;
    const char       *path;  /* of the YAML or of the user's file */
    const char       *items; /* a user's file in place of the task's own; NULL */
    const task_form  *form;  /* NULL: bare JSON lines */
    const jpt_dataset *dataset;
    jpt_sha256        sha;
} opening;

static const char *copy(jpt_task *t, const char *s) { return s ? jpt_arena_strndup(&t->arena, s, strlen(s)) : NULL; }

static const char *fold(jpt_task *t, jpt_buf *b) { /* into the arena */
    const char *s = b->oom ? NULL : jpt_arena_strndup(&t->arena, b->p ? b->p : "", b->n);
    jpt_buf_fini(b);
    return s;
}

/* ---- the form ------------------------------------------------------------------------------------------------------- */

static jpt_status add_metric(jpt_task *t, const char *name, const char *path, jpt_error *err) {
    const char *near;
    task_metric m = task_metric_named(name, &near);
    if (m == METRIC_COUNT)
        return JPT_FAIL(err, FORMAT, "%s: unknown metric '%.40s'%s%s%s", path, name, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    for (int32_t i = 0; i < t->n_metrics; i++)
        if (t->metric[i] == m)
            return JPT_FAIL(err, FORMAT, "%s: metrics: '%s' is there twice", path, name);
    t->metric[t->n_metrics++] = m;
    return JPT_OK;
}

static jpt_status apply_form(opening *o, jpt_error *err) {
    jpt_task        *t = o->t;
    jpt_task_info   *i = &t->info;
    const task_form *f = o->form;
    i->name = copy(t, f->name);
    i->description = copy(t, f->description);
    i->system = copy(t, f->system);
    i->chat = f->chat;
    i->max_new_tokens = f->max_new_tokens;
    i->min_new_tokens = f->min_new_tokens;
    i->max_total_tokens = f->max_total_tokens;
    if (f->dataset && !(o->dataset = jpt_dataset_find(f->dataset))) {
        const char *near = jpt_dataset_nearest(f->dataset);
        return JPT_FAIL(err, FORMAT, "%s: unknown data set '%s'%s%s%s", o->path, f->dataset, near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (o->items) {
        i->license = "of the user's items: not stated";
    } else if (o->dataset) {
        i->dataset = o->dataset->name;
        i->license = f->license ? copy(t, f->license) : o->dataset->license;
        i->citation = f->citation ? copy(t, f->citation) : o->dataset->citation;
    } else {
        i->license = copy(t, f->license);
        i->citation = copy(t, f->citation);
    }
    if (f->extract && strcmp(f->extract, "none") != 0 && strcmp(f->extract, "code") != 0)
        return JPT_FAIL(err, FORMAT, "%s: extract: '%s' is not known; code (the first fenced block, else all) or none (all)", o->path, f->extract);
    t->extract = f->extract && strcmp(f->extract, "none") == 0 ? EXTRACT_NONE : EXTRACT_CODE;
    const char **stop = jpt_arena_alloc(&t->arena, (f->stop_count + 1) * sizeof *stop);
    if (!stop)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", o->path);
    for (unsigned k = 0; k < f->stop_count; k++)
        stop[i->n_stop++] = copy(t, f->stop[k]);
    i->stop = stop;
    for (unsigned k = 0; k < f->metrics_count; k++)
        JPT_TRY(add_metric(t, f->metrics[k], o->path, err));
    i->primary_metric = task_metrics[t->metric[0]].name;
    i->higher_is_better = !task_metrics[t->metric[0]].lower_is_better;
    return JPT_OK;
}

/* --compat paper on a task that names no form of the study: no chat template, the harness's cap, and its end marks. */
static jpt_status paper_form(jpt_task *t, jpt_error *err) {
    enum { CAP = 256 };
    jpt_task_info *i = &t->info;
    const char   **stop = jpt_arena_alloc(&t->arena, (size_t)(i->n_stop + 2) * sizeof *stop);
    if (!stop)
        return JPT_FAIL(err, NOMEM, "out of memory for a task");
    for (int32_t k = 0; k < i->n_stop; k++)
        stop[k] = i->stop[k];
    stop[i->n_stop++] = "</s>";
    stop[i->n_stop++] = "<|im_end|>";
    i->stop = stop;
    i->chat = false;
    i->system = NULL;
    i->max_new_tokens = CAP;
    i->min_new_tokens = 0;
    return JPT_OK;
}

/* ---- items ------------------------------------------------------------------------------------------------------------ */

/* A file that the form names: of the data set, or beside the YAML. */
static jpt_status file_of(const opening *o, const char *name, char *out, size_t cap, jpt_error *err) {
    if (o->dataset)
        return jpt_dataset_locate(o->dataset, name, out, cap, err);
    const char *slash = strrchr(o->path, '/');
    if (snprintf(out, cap, "%.*s%s", slash && name[0] != '/' ? (int)(slash - o->path + 1) : 0, o->path, name) >= (int)cap)
        return JPT_FAIL(err, ARG, "%s: path too long", name);
    return JPT_OK;
}

static jpt_status read_file_of(opening *o, const char *name, char *path, size_t cap, json_t **out, jpt_error *err) {
    JPT_TRY(file_of(o, name, path, cap, err));
    return task_items_read(path, &o->sha, out, err);
}

/* Files whose lines belong together: "source" and the list "reference" of each. */
static jpt_status read_parallel(opening *o, char *path, size_t cap, json_t **out, jpt_error *err) {
    const struct task_parallel *p = o->form->parallel;
    json_t                     *all = NULL, *ref = NULL, *item;
    size_t                      i;
    JPT_TRY(read_file_of(o, p->source, path, cap, &all, err));
    json_array_foreach(all, i, item) {
        json_object_set(item, "source", json_object_get(item, "text"));
        json_object_set_new(item, "reference", json_array());
    }
    for (unsigned k = 0; k < p->references_count; k++) {
        char       other[4096];
        jpt_status st = read_file_of(o, p->references[k], other, sizeof other, &ref, err);
        if (st == JPT_OK && json_array_size(ref) != json_array_size(all))
            st = JPT_FAIL(err, FORMAT, "%s has %zu lines, %s has %zu: they must belong together line by line", path, json_array_size(all), other, json_array_size(ref));
        if (st != JPT_OK) {
            json_decref(ref);
            json_decref(all);
            return st;
        }
        json_array_foreach(all, i, item)
            json_array_append(json_object_get(item, "reference"), json_object_get(json_array_get(ref, i), "text"));
        json_decref(ref);
        ref = NULL;
    }
    *out = all;
    return JPT_OK;
}

static jpt_status references_of(opening *o, json_t *item, const char *path, task_item *it, jpt_error *err) {
    jpt_task   *t = o->t;
    json_t     *ref = json_object_get(item, "reference");
    bool        template = o->form && o->form->reference;
    size_t       n = template ? 1 : json_is_array(ref) ? json_array_size(ref) : ref && !json_is_null(ref) ? 1 : 0;
    const char **refs = jpt_arena_alloc(&t->arena, (n + 1) * sizeof *refs);
    if (!refs)
        return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    if (template) {
        jpt_buf b = {0};
        jpt_status st = task_fill(o->form->reference, item, path, &b, err);
        refs[0] = fold(t, &b);
        JPT_TRY(st);
    }
    for (size_t k = 0; !template && k < n; k++) {
        json_t *r = json_is_array(ref) ? json_array_get(ref, k) : ref;
        if (!json_is_string(r) && !json_is_number(r))
            return JPT_FAIL(err, FORMAT, "%s:%d: \"reference\" must be a string, a number, or a list of them", path, task_item_line(item));
        char *digits = json_is_number(r) ? json_dumps(r, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) : NULL;
        refs[k] = copy(t, digits ? digits : json_string_value(r));
        free(digits);
        if (!refs[k])
            return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    }
    it->pub.references = refs;
    it->pub.n_references = n;
    return JPT_OK;
}

/* The Python around an answer: what stands before and after {answer} in the form's program, or the item's "tests". */
static jpt_status program_of(opening *o, json_t *item, const char *path, task_item *it, jpt_error *err) {
    static const char mark[] = "{answer}";
    const char       *program = o->form ? o->form->program : NULL, *at = program ? strstr(program, mark) : NULL;
    jpt_buf           before = {0}, after = {0};
    if (!program) {
        it->before = "";
        it->tests = copy(o->t, json_string_value(json_object_get(item, "tests")));
        return JPT_OK;
    }
    if (!at)
        return JPT_FAIL(err, FORMAT, "%s: program: must hold {answer}, the place of the model's code", o->path);
    char *head = strndup(program, (size_t)(at - program));
    jpt_status st = head ? task_fill(head, item, path, &before, err) : JPT_FAIL(err, NOMEM, "out of memory");
    if (st == JPT_OK)
        st = task_fill(at + sizeof mark - 1, item, path, &after, err);
    free(head);
    it->before = fold(o->t, &before);
    it->tests = fold(o->t, &after);
    return st;
}

static jpt_status id_of(opening *o, json_t *item, const char *path, task_item *it, jpt_error *err) {
    json_t    *id = json_object_get(item, "id");
    jpt_buf    b = {0};
    jpt_status st = JPT_OK;
    if (o->form && o->form->id && !o->items)
        st = task_fill(o->form->id, item, path, &b, err);
    else if (json_is_string(id))
        jpt_buf_addz(&b, json_string_value(id));
    else
        jpt_buf_printf(&b, "%zu", o->t->info.n_items);
    it->pub.id = fold(o->t, &b);
    return st;
}

/* before: what stands before the item's own prompt (prefix and examples). */
static jpt_status add_item(opening *o, json_t *item, const char *path, const jpt_buf *before, jpt_error *err) {
    jpt_task *t = o->t;
    if (t->info.n_items == t->cap) {
        size_t     cap = t->cap ? 2 * t->cap : 64;
        task_item *p = realloc(t->item, cap * sizeof *p);
        if (!p)
            return JPT_FAIL(err, NOMEM, "%s: out of memory", path);
        t->item = p;
        t->cap = cap;
    }
    task_item *it = &t->item[t->info.n_items];
    *it = (task_item){.line = task_item_line(item)};
    jpt_buf    b = {0};
    jpt_buf_add(&b, before->p, before->n);
    jpt_status st = task_fill(o->form ? o->form->prompt : "{prompt}", item, path, &b, err);
    if (st == JPT_OK && b.n == before->n)
        st = JPT_FAIL(err, FORMAT, "%s:%d: the prompt is empty", path, task_item_line(item));
    it->pub.prompt = fold(t, &b);
    JPT_TRY(st);
    JPT_TRY(references_of(o, item, path, it, err));
    JPT_TRY(program_of(o, item, path, it, err));
    JPT_TRY(id_of(o, item, path, it, err));
    t->info.n_items++;
    return it->pub.id && it->pub.prompt && it->before ? JPT_OK : JPT_FAIL(err, NOMEM, "%s: out of memory", path);
}

/* ---- examples before the question ------------------------------------------------------------------------------------- */

typedef struct shots {
    const struct task_shots *form; /* NULL: none */
    json_t     *pool;
    char        path[4096];
    task_random random;
    bool        anew; /* drawn for each item, or the first n for all */
} shots;

static jpt_status open_shots(opening *o, shots *s, jpt_error *err) {
    s->form = o->form ? o->form->shots : NULL;
    if (!s->form)
        return JPT_OK;
    JPT_TRY(read_file_of(o, s->form->items, s->path, sizeof s->path, &s->pool, err));
    s->anew = strcmp(s->form->draw, "python-random") == 0;
    if (!s->anew && strcmp(s->form->draw, "first") != 0)
        return JPT_FAIL(err, FORMAT, "%s: shots: draw: '%s' is not known; first, or python-random (anew for each item, as lm-evaluation-harness)", o->path, s->form->draw);
    if (json_array_size(s->pool) < (size_t)s->form->n)
        return JPT_FAIL(err, FORMAT, "%s: has %zu examples, %d are to be drawn", s->path, json_array_size(s->pool), s->form->n);
    task_random_seed(&s->random, (uint32_t)s->form->seed);
    return JPT_OK;
}

static jpt_status add_shots(shots *s, jpt_buf *out, jpt_error *err) {
    size_t index[64];
    if (!s->form)
        return JPT_OK;
    if (s->anew)
        task_random_sample(&s->random, json_array_size(s->pool), (size_t)s->form->n, index);
    for (int i = 0; i < s->form->n; i++)
        JPT_TRY(task_fill(s->form->template, json_array_get(s->pool, s->anew ? index[i] : (size_t)i), s->path, out, err));
    return JPT_OK;
}

static jpt_status load_items(opening *o, jpt_error *err) {
    char       path[4096];
    json_t    *all = NULL, *item;
    jpt_buf    prefix = {0};
    shots      s = {0};
    size_t     i;
    jpt_status st = JPT_OK;
    if (o->form && o->form->prefix) {
        st = file_of(o, o->form->prefix, path, sizeof path, err);
        if (st == JPT_OK)
            st = jpt_text_read(path, &prefix, err);
        jpt_sha256_update(&o->sha, prefix.p ? prefix.p : "", prefix.n);
    }
    if (st == JPT_OK)
        st = open_shots(o, &s, err);
    if (st != JPT_OK) {
    } else if (o->items || !o->form) {
        snprintf(path, sizeof path, "%s", o->items ? o->items : o->path);
        st = task_items_read(path, &o->sha, &all, err);
    } else if (o->form->parallel) {
        st = read_parallel(o, path, sizeof path, &all, err);
    } else if (o->form->items) {
        st = read_file_of(o, o->form->items, path, sizeof path, &all, err);
    } else {
        st = JPT_FAIL(err, ARG, "task '%s' has no items of its own: name yours, -t %s=FILE.jsonl", o->form->name, o->form->name);
    }
    if (st == JPT_OK && !(o->t->items_path = copy(o->t, path)))
        st = JPT_FAIL(err, NOMEM, "%s: out of memory", path);
    size_t own = prefix.n;
    json_array_foreach(all, i, item) {
        if (st == JPT_OK)
            st = add_shots(&s, &prefix, err);
        if (st == JPT_OK)
            st = add_item(o, item, path, &prefix, err);
        prefix.n = own;
    }
    jpt_buf_fini(&prefix);
    json_decref(all);
    json_decref(s.pool);
    return st;
}

/* ---- bare JSON lines ---------------------------------------------------------------------------------------------------- */

/* "12", "-3.5", "$1,200", or an answer that ends in GSM8K's "#### 12". */
static bool is_number(const char *s) {
    const char *mark = strstr(s, "#### ");
    for (s = mark ? mark + 5 : s; *s == ' ';)
        s++;
    return *s && strspn(s, "0123456789.,$- ") == strlen(s) && strpbrk(s, "0123456789");
}

/* A user's JSON lines: metrics from what the items have. */
static jpt_status open_jsonl(opening *o, jpt_error *err) {
    jpt_task   *t = o->t;
    const char *base = strrchr(o->path, '/') ? strrchr(o->path, '/') + 1 : o->path;
    const char *dot = strrchr(base, '.');
    t->info.name = jpt_arena_strndup(&t->arena, base, dot ? (size_t)(dot - base) : strlen(base));
    t->info.description = "user's JSON lines";
    t->info.license = "not stated";
    t->info.chat = true;
    t->info.max_new_tokens = 128;
    JPT_TRY(load_items(o, err));
    bool refs = true, tests = true, numbers = true;
    for (size_t i = 0; i < t->info.n_items; i++) {
        refs = refs && t->item[i].pub.n_references > 0;
        tests = tests && t->item[i].tests != NULL;
        for (size_t k = 0; k < t->item[i].pub.n_references; k++)
            numbers = numbers && is_number(t->item[i].pub.references[k]);
    }
    static const task_metric with_refs[] = {METRIC_CHRF, METRIC_BLEU}, open[] = {METRIC_DIVERSITY, METRIC_DISTINCT_2, METRIC_REP_4};
    if (tests)
        t->metric[t->n_metrics++] = METRIC_PASSED;
    if (refs && numbers) /* answers, not texts: GSM8K and its like */
        t->metric[t->n_metrics++] = METRIC_EXACT_MATCH;
    for (int i = 0; refs && !numbers && i < 2; i++)
        t->metric[t->n_metrics++] = with_refs[i];
    for (int i = 0; i < 3; i++)
        t->metric[t->n_metrics++] = open[i];
    t->info.primary_metric = task_metrics[t->metric[0]].name;
    t->info.higher_is_better = true;
    return JPT_OK;
}

/* ---- open ------------------------------------------------------------------------------------------------------------------ */

static bool ends_with(const char *s, const char *tail) {
    size_t n = strlen(s), m = strlen(tail);
    return n > m && strcmp(s + n - m, tail) == 0;
}

/* Answers that are compared as numbers. */
static bool of_numbers(task_metric m) { return m >= METRIC_EXACT_MATCH && m <= METRIC_GSM8K_COT; }

static bool has_number(const jpt_task_item *it) {
    bool found = it->n_references == 0;
    for (size_t k = 0; k < it->n_references && !found; k++)
        found = strpbrk(it->references[k], "0123456789") != NULL;
    return found;
}

/* Every item has what the metrics need. */
static jpt_status check_items(const jpt_task *t, jpt_error *err) {
    for (size_t i = 0; i < t->info.n_items; i++)
        for (int32_t m = 0; m < t->n_metrics; m++) {
            const task_metric_def *d = &task_metrics[t->metric[m]];
            if (t->metric[m] == METRIC_PASSED && !t->item[i].tests)
                return JPT_FAIL(err, FORMAT, "%s:%d: the item has no \"tests\", which the metric 'passed' needs", t->items_path, t->item[i].line);
            if (d->needs_reference && t->item[i].pub.n_references == 0)
                return JPT_FAIL(err, FORMAT, "%s:%d: the item has no \"reference\", which the metric '%s' needs", t->items_path, t->item[i].line, d->name);
            if (of_numbers(t->metric[m]) && !has_number(&t->item[i].pub))
                return JPT_FAIL(err, FORMAT, "%s:%d: the reference holds no number, so that by the metric '%s' no answer could be right", t->items_path, t->item[i].line, d->name);
        }
    return JPT_OK;
}

static jpt_status open_form(opening *o, const jpt_task_options *opt, jpt_error *err) {
    jpt_buf    text = {0};
    task_form *form = NULL;
    bool       paper = opt && opt->compat;
    jpt_status st = jpt_text_read(o->path, &text, err);
    if (st == JPT_OK) {
        jpt_sha256_update(&o->sha, text.p ? text.p : "", text.n);
        st = task_form_load(o->path, &text, &form, err);
    }
    jpt_buf_fini(&text);
    o->form = form;
    if (st == JPT_OK)
        st = apply_form(o, err);
    if (st == JPT_OK && paper && !ends_with(form->name, "-paper"))
        st = paper_form(o->t, err);
    if (st == JPT_OK && !(opt && opt->header_only))
        st = load_items(o, err);
    o->form = NULL;
    task_form_free(form);
    return st;
}

/* The name of the task that is the study's form of the one at `path`, if it has one. */
static jpt_status paper_name(const char *path, char *out, size_t cap, jpt_error *err) {
    jpt_buf    text = {0};
    task_form *form = NULL;
    jpt_status st = jpt_text_read(path, &text, err);
    if (st == JPT_OK)
        st = task_form_load(path, &text, &form, err);
    out[0] = '\0';
    if (st == JPT_OK && form->paper)
        snprintf(out, cap, "%s", form->paper);
    task_form_free(form);
    jpt_buf_fini(&text);
    return st;
}

static jpt_status find(const char *name, char *path, size_t cap, jpt_error *err) {
    if (!ends_with(name, ".yaml") && !ends_with(name, ".yml"))
        return task_find(name, path, cap, err);
    return snprintf(path, cap, "%s", name) < (int)cap ? JPT_OK : JPT_FAIL(err, ARG, "%.80s...: path too long", name);
}

jpt_status jpt_task_open_with(const char *name_or_path, const jpt_task_options *opt, jpt_task **out, jpt_error *err) {
    char        path[2048], name[512], paper[200];
    const char *eq = strchr(name_or_path, '=');
    bool        jsonl = !eq && (ends_with(name_or_path, ".jsonl") || ends_with(name_or_path, ".json"));
    if (opt && opt->compat && strcmp(opt->compat, "paper") != 0)
        return JPT_FAIL(err, ARG, "--compat %s: only 'paper' is known", opt->compat);
    snprintf(name, sizeof name, "%.*s", eq ? (int)(eq - name_or_path) : 511, name_or_path);
    if (jsonl) {
        snprintf(path, sizeof path, "%s", name_or_path);
    } else {
        JPT_TRY(find(name, path, sizeof path, err));
        if (opt && opt->compat) {
            JPT_TRY(paper_name(path, paper, sizeof paper, err));
            if (paper[0])
                JPT_TRY(task_find(paper, path, sizeof path, err));
        }
    }
    jpt_task *t = calloc(1, sizeof *t);
    if (!t)
        return JPT_FAIL(err, NOMEM, "out of memory for a task");
    opening o = {.t = t, .path = path, .items = eq ? eq + 1 : NULL};
    jpt_sha256_init(&o.sha);
    jpt_status st = jsonl ? open_jsonl(&o, err) : open_form(&o, opt, err);
    if (st == JPT_OK && jsonl && opt && opt->compat)
        st = paper_form(t, err);
    if (opt && opt->compat)
        jpt_sha256_update(&o.sha, "paper", 5);
    jpt_sha256_final(&o.sha, t->info.sha256);
    t->info.path = copy(t, path);
    if (st == JPT_OK)
        st = check_items(t, err);
    if (st != JPT_OK) {
        jpt_task_close(t);
        return st;
    }
    *out = t;
    return JPT_OK;
}

jpt_status jpt_task_open(const char *name_or_path, jpt_task **out, jpt_error *err) { return jpt_task_open_with(name_or_path, NULL, out, err); }

void jpt_task_close(jpt_task *t) {
    if (!t)
        return;
    free(t->item);
    jpt_arena_fini(&t->arena);
    free(t);
}

const jpt_task_info *jpt_task_get_info(const jpt_task *t) { return &t->info; }
const jpt_task_item *jpt_task_get_item(const jpt_task *t, size_t i) { return i < t->info.n_items ? &t->item[i].pub : NULL; }

jpt_status jpt_task_check(const jpt_task *t, jpt_error *err) {
    for (int32_t m = 0; m < t->n_metrics; m++)
        if (t->metric[m] == METRIC_PASSED)
            return jpt_sandbox_probe(err);
    return JPT_OK;
}
