/* Softmax over the channels of each position, in integers: an exponential is a look-up of the difference to the maximum,
 * so that none overflows, and the quotient is rounded once. */
#include "mcu.h"

/* 512 * table[d] <= 2^31 and the sum < 2^31, so that neither side of the quotient overflows; see engine/ops/softmax.py.
 * in, out: [c]. */
static void position(const mcu_exp *op, const int8_t *in, int8_t *out) {
    int best = -128;
    uint32_t sum = 0;
    for (int c = 0; c < op->c; c++)
        best = mcu_max(best, in[c]);
    for (int c = 0; c < op->c; c++)
        sum += op->table[best - in[c]];
    for (int c = 0; c < op->c; c++)
        out[c] = (int8_t)(mcu_min((int)((512 * op->table[best - in[c]] + sum) / (2 * sum)), 255) - 128);
}

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_softmax(const mcu_exp *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++)
            position(op, in + ((y->first + i) * x->n_in + x->first + j) * op->c,
                     out + ((y->dst + i) * x->n_dst + x->dst + j) * op->c);
}

/* Fixed point as gemmlowp's: a * b / 2^31, rounded half up. */
static int32_t product(int32_t a, int32_t b) { return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31); }

/* v / 2^bits, rounded half up; v below 2^31. */
static uint32_t halves(uint32_t v, int bits) { return ((v >> (bits - 1)) + 1) >> 1; }

/* v * 2^bits, saturated. */
static int32_t shifted(int32_t v, int bits) {
    const int64_t wide = (int64_t)v * (1 << bits);
    return wide > INT32_MAX ? INT32_MAX : wide < INT32_MIN ? INT32_MIN : (int32_t)wide;
}

/* 1 / (1 + a), a and the result without integer bits: three steps of Newton's, from 48/17 - 32/17 x. */
static int32_t one_over_one_plus(int32_t a) {
    const int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) >> 1);
    int32_t x = 1515870810 + product(half, -1010580540);
    for (int i = 0; i < 3; i++)
        x += shifted(product(x, (1 << 29) - product(half, x)), 2);
    return shifted(x, 1);
}

/* The sum has 12 integer bits, of 511 channels at most. in, out: [c]. */
static void position_twice(const mcu_exp *op, const int8_t *in, int8_t *out) {
    int best = -128, headroom = 0;
    int32_t sum = 0;
    for (int c = 0; c < op->c; c++)
        best = mcu_max(best, in[c]);
    for (int c = 0; c < op->c; c++)
        sum += (int32_t)halves(op->table[best - in[c]], 12);
    while (!((uint32_t)sum << headroom >> 31))
        headroom++;
    const int32_t scale = one_over_one_plus((int32_t)(((uint32_t)sum << headroom) - (1u << 31)));
    for (int c = 0; c < op->c; c++) {
        const int32_t v = product(scale, (int32_t)op->table[best - in[c]]);
        out[c] = (int8_t)(mcu_min((int)halves((uint32_t)v, 35 - headroom), 255) - 128);
    }
}

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_softmax_twice(const mcu_exp *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++)
            position_twice(op, in + ((y->first + i) * x->n_in + x->first + j) * op->c,
                           out + ((y->dst + i) * x->n_dst + x->dst + j) * op->c);
}
