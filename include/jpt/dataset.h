/* Public data sets: where they come from, under which licence, what every file must hash to, and where it lies here.
 *
 * A file is looked for as $JPT_DATA/PATH and then as data/PATH in jpt's cache (jpt_home), and taken only if its SHA-256 is the
 * pinned one: two people who name a task mean the same bytes.  Nothing here is part of jpt: jpt pull fetches it. */
#ifndef JPT_DATASET_H
#define JPT_DATASET_H

#include <jpt/base.h>

/* How a file is made from what its address holds. */
typedef enum jpt_dataset_recipe {
    JPT_RECIPE_AS_IS,
    JPT_RECIPE_GUNZIP,
    JPT_RECIPE_HEAD,    /* the first `lines` lines */
    JPT_RECIPE_FIELDS,  /* JSON lines or a list of objects: the fields that `detail` names ("new=path.in.object,..."), a doc_id once */
    JPT_RECIPE_PREFIX,  /* what the field `detail` of all JSON lines begins with, up to the last blank line */
    JPT_RECIPE_JOIN,    /* JSON lines of url and url2, line by line: the field `detail` of each, as instruction and gold_ref */
    JPT_RECIPE_FOLDER   /* no single address: from a folder alone */
} jpt_dataset_recipe;

typedef struct jpt_dataset_file {
    const char        *path;   /* in a data folder, e.g. "gsm8k/test.jsonl" */
    uint64_t           bytes;  /* and SHA-256 of the file as it lies there */
    const char        *sha256;
    const char        *url;    /* https; NULL with JPT_RECIPE_FOLDER */
    jpt_dataset_recipe recipe;
    int                lines;  /* of JPT_RECIPE_HEAD */
    const char        *detail, *url2;
} jpt_dataset_file;

typedef struct jpt_dataset {
    const char             *name, *description, *license, *citation;
    const jpt_dataset_file *file;
    size_t                  n_files;
} jpt_dataset;

size_t             jpt_dataset_count(void);
const jpt_dataset *jpt_dataset_at(size_t i);            /* sorted by name; NULL past the end */
const jpt_dataset *jpt_dataset_find(const char *name);  /* NULL when unknown */
const char        *jpt_dataset_nearest(const char *name); /* a known name worth suggesting, or NULL */

/* Is the file there, wanted bytes and all?  Writes where it lies (NUL-terminated).
 * Errors: JPT_NOT_FOUND names the command that fetches it; JPT_FORMAT: half a download (size) or another file (SHA-256). */
jpt_status jpt_dataset_locate(const jpt_dataset *d, const char *path, char *out, size_t cap, jpt_error *err);
/* Whether a folder of locate() has all files, by size alone (quick, for lists). */
bool jpt_dataset_is_here(const jpt_dataset *d);

typedef struct jpt_pull_options {
    const char *from;   /* a folder laid out as $JPT_DATA instead of the network; NULL: fetch */
    const char *mirror; /* base address with the same layout, instead of each file's own; NULL: its own */
    bool        force;  /* fetch again what is here */
    void (*on_progress)(void *ud, const char *path, uint64_t done_bytes, uint64_t total_bytes); /* total 0: not known */
    void *ud;
} jpt_pull_options;

/* Bring all files of a data set into jpt's cache.  What is there and right is left alone; half a download goes on where it
 * stopped; a file gets its name only after its SHA-256 was right.  JPT_IO: offline, refused, cut off (named, with the remedy);
 * JPT_FORMAT: other bytes than pinned; JPT_INTERRUPTED after jpt_stop_request, what came so far is kept. */
jpt_status jpt_dataset_pull(const jpt_dataset *d, const jpt_pull_options *o, jpt_error *err);

/* One file by libcurl into `path` (https, or http where the address itself says so; redirects to https alone).  The
 * partial file is path.part; it goes on with a range request, or anew where the server has none.  bytes 0: size not known.
 * Errors as jpt_dataset_pull. */
typedef struct jpt_fetch {
    const char *url, *path;
    uint64_t    bytes;
    const char *sha256; /* NULL: not known, whatever comes */
    void (*on_progress)(void *ud, uint64_t done_bytes, uint64_t total_bytes);
    void *ud;
} jpt_fetch;
jpt_status jpt_fetch_file(const jpt_fetch *f, jpt_error *err);

#endif
