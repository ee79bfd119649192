/* The table of strategies.  A new one: write its file, add its row. */
#include "decode_priv.h"
#include <string.h>

static const jpt_strategy *const registry[] = {
    &jpt_strategy_greedy, &jpt_strategy_sample, &jpt_strategy_top_k, &jpt_strategy_top_p,
    &jpt_strategy_min_p,  &jpt_strategy_typical, &jpt_strategy_epsilon, &jpt_strategy_eta,
};
enum { N = sizeof registry / sizeof registry[0] };

size_t              jpt_strategy_count(void) { return N; }
const jpt_strategy *jpt_strategy_at(size_t i) { return i < N ? registry[i] : NULL; }

const jpt_strategy *jpt_strategy_find(const char *name) {
    for (size_t i = 0; i < N; i++)
        if (strcmp(registry[i]->name, name) == 0)
            return registry[i];
    return NULL;
}
