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
