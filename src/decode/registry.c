/* The table of strategies.  A new one: write its file, add its row. */
#include "decode_priv.h"
#include <string.h>

#define STRATEGIES(X)                                                                                                               \
    X(greedy) X(sample) X(top_k) X(top_p) X(min_p) X(typical) X(epsilon) X(eta) X(top_h) X(top_n_sigma) X(top_a) X(p_less) X(xtc)    \
    X(dry) X(dynatemp) X(smoothing) X(beam) X(beam_sample) X(diverse_beam) X(constrained_beam) \
    X(contrastive) X(adaptive) X(fsd) X(fsd_d) X(dola) X(dola_sample) X(cd) X(cd_sample) X(cd_beam) \
    X(lookup) X(assisted) X(self) X(lookahead) X(mirostat) X(mirostat_2) X(adaptive_p) X(guard) X(guidance) \
    X(samples) X(best_of) X(consistency) X(mbr)

#define DECLARE(id) extern const jpt_strategy jpt_strategy_##id;
#define ROW(id) &jpt_strategy_##id,
STRATEGIES(DECLARE)
static const jpt_strategy *const registry[] = {STRATEGIES(ROW)};
enum { N = sizeof registry / sizeof registry[0] };

size_t              jpt_strategy_count(void) { return N; }
const jpt_strategy *jpt_strategy_at(size_t i) { return i < N ? registry[i] : NULL; }

const jpt_strategy *jpt_strategy_find(const char *name) {
    for (size_t i = 0; i < N; i++)
        if (strcmp(registry[i]->name, name) == 0)
            return registry[i];
    return NULL;
}
