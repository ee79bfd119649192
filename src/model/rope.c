/* RoPE frequencies.  Su et al. 2021; Llama 3.1's scaling as in Hugging Face's modeling_rope_utils
 * (_compute_llama3_parameters). */
#include "rope.h"
#include <math.h>
#include <stdlib.h>

float *jpt_rope_inv_freq(const jpt_hparams *hp, const float *factors) {
    int32_t half = hp->rope_dim / 2;
    float  *f = malloc((size_t)half * sizeof *f);
    if (!f)
        return NULL;
    for (int32_t i = 0; i < half; i++) {
        double freq = pow((double)hp->rope_theta, -2.0 * i / hp->rope_dim);
        if (factors) { /* the converter already worked Llama 3.1's scaling out */
            freq /= (double)factors[i];
        } else if (hp->rope_scaling == JPT_ROPE_SCALING_LINEAR) {
            freq /= (double)hp->rope_factor;
        } else if (hp->rope_scaling == JPT_ROPE_SCALING_LLAMA3) {
            double low = (double)hp->rope_low_freq_factor, high = (double)hp->rope_high_freq_factor;
            double wave = 2 * M_PI / freq, ctx = (double)hp->rope_original_ctx;
            if (wave > ctx / low) {
                freq /= (double)hp->rope_factor;
            } else if (wave > ctx / high) {
                double smooth = (ctx / wave - low) / (high - low);
                freq = (1 - smooth) * freq / (double)hp->rope_factor + smooth * freq;
            }
        }
        f[i] = (float)freq;
    }
    return f;
}
