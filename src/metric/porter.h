/* The Porter stemmer with NLTK's extensions, as rouge-score uses it. */
#ifndef JPT_METRIC_PORTER_H
#define JPT_METRIC_PORTER_H

#include <stddef.h>

enum { PORTER_MAX = 128 };
/* Stems the n lower-case letters and digits at w in place (the buffer holds n + 2); returns the new length.  Longer words than
 * PORTER_MAX stay as they are. */
size_t porter_stem(char *w, size_t n);

#endif
