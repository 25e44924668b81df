/* Attention, head by head: products of positions with positions, and sums of positions by weights. */
#include "mcu.h"

static int8_t result(const mcu_attention *op, int32_t total) {
    return mcu_clamp(op->zp_out + mcu_requant(total, op->factor.mult, op->factor.left, op->factor.right), -128, 127);
}

/* in: [y.n_in][x.n_in][heads][depth], key: [y.n_res][x.n_res][heads][depth],
 * out: [y.n_in * x.n_in][heads][y.n_res * x.n_res]. */
void mcu_attention_scores(const mcu_attention *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                          const int8_t *key, int8_t *out) {
    const mcu_attention o = *op; /* a copy: a store to `out` cannot change it */
    const int rows = y->n_in * x->n_in * o.heads, columns = y->n_res * x->n_res, step = o.heads * o.depth;
    for (int r = 0; r < rows; r++, in += o.depth) {
        const int8_t *b = key + r % o.heads * o.depth;
        for (int j = 0; j < columns; j++, b += step) {
            int32_t total = 0;
            for (int i = 0; i < o.depth; i++)
                total += (in[i] - o.zp_a) * (b[i] - o.zp_b);
            *out++ = result(&o, total);
        }
    }
}

/* in: [y.n_in][x.n_in == heads][y.n_res * x.n_res], value: [y.n_res][x.n_res][heads][depth],
 * out: [y.n_in][heads][depth]. */
void mcu_attention_sum(const mcu_attention *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                       const int8_t *value, int8_t *out) {
    const mcu_attention o = *op;
    const int rows = y->n_in * x->n_in, columns = y->n_res * x->n_res, step = o.heads * o.depth;
    for (int r = 0; r < rows; r++, in += columns)
        for (int i = 0; i < o.depth; i++) {
            const int8_t *b = value + r % o.heads * o.depth + i;
            int32_t total = 0;
            for (int j = 0; j < columns; j++, b += step)
                total += (in[j] - o.zp_a) * (*b - o.zp_b);
            *out++ = result(&o, total);
        }
}
