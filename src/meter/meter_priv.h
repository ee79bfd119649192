/* Inside the meter module: what a kind of meter must provide. */
#ifndef JPT_METER_PRIV_H
#define JPT_METER_PRIV_H

#include <jpt/meter.h>

struct jpt_meter {
    const struct meter_ops *ops;
    jpt_meter_limits        limits;
    void                   *state;
};

typedef struct meter_ops {
    jpt_meter_kind kind;
    /* fills m->state and m->limits (kind and name are set already) */
    jpt_status (*open)(jpt_meter *m, const jpt_meter_options *opt, jpt_error *err);
    jpt_status (*read)(jpt_meter *m, double *energy_j, jpt_error *err);
    void (*close)(jpt_meter *m);
    /* cards only; NULL elsewhere */
    void (*poll)(jpt_meter *m);
    const jpt_card_info *(*card)(const jpt_meter *m);
    void (*card_state)(jpt_meter *m, bool processes, jpt_card_state *out);
    size_t (*samples)(jpt_meter *m, double t0, double t1, jpt_power_sample *out, size_t cap);
} meter_ops;

extern const meter_ops meter_nvml_counter, meter_nvml_instant, meter_rapl, meter_replay, meter_model, meter_none;

#endif
