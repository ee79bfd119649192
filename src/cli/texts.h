/* Files of texts for jpt embed and jpt evaluate: a text a line, or JSON lines. */
#ifndef JPT_CLI_TEXTS_H
#define JPT_CLI_TEXTS_H

#include <jpt/base.h>

typedef struct cli_text {
    jpt_str  text;
    jpt_str  prompt; /* p NULL: none */
    jpt_str *reference;
    size_t   n_references;
} cli_text;
typedef struct cli_texts {
    cli_text *item;
    size_t    n;
    jpt_arena arena;
} cli_texts;

/* A name that ends in .jsonl: each line a string, or an object with "text" and perhaps "prompt" and "reference" (a string or a
 * list of them); blank lines are left out.  Else a text a line, empty ones too.  "-": standard input, lines.
 * JPT_IO, JPT_FORMAT (file and line), JPT_ARG (no text in it), JPT_NOMEM. */
jpt_status cli_texts_read(const char *path, cli_texts *out, jpt_error *err);
void       cli_texts_fini(cli_texts *t);

#endif
