/* Max pool, global average pool and nearest upsampling. */
#include "mcu.h"

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_maxpool(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++) {
            const int top = y->first + i * op->sh, left = x->first + j * op->sw;
            const int r0 = mcu_max(top, 0), r1 = mcu_min(top + op->kh, y->n_in);
            const int q0 = mcu_max(left, 0), q1 = mcu_min(left + op->kw, x->n_in);
            const int inside = mcu_max(r1 - r0, 0) * mcu_max(q1 - q0, 0);
            int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst + j) * op->c;
            for (int c = 0; c < op->c; c++) {
                int8_t best = inside < op->kh * op->kw ? op->zp_in : -128;
                for (int r = r0; r < r1; r++)
                    for (int q = q0; q < q1; q++)
                        best = (int8_t)mcu_max(best, in[(r * x->n_in + q) * op->c + c]);
                dst[c] = best;
            }
        }
}

/* in: [y.n_in][x.n_in][c], all of it; out: [y.n_dst][x.n_dst][c], one position. */
void mcu_gap(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    const int positions = y->n_in * x->n_in;
    out += (y->dst * x->n_dst + x->dst) * op->c;
    for (int c = 0; c < op->c; c++) {
        int32_t sum = -positions * op->zp_in;
        for (int i = 0; i < positions; i++)
            sum += in[i * op->c + c];
        out[c] = mcu_clamp(op->zp_out + mcu_requant(sum, op->mult, op->left, op->right), op->lo, op->hi);
    }
}

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_upsample(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++) {
            const int8_t *src = in + ((y->first + i) / op->sh * x->n_in + (x->first + j) / op->sw) * op->c;
            int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst + j) * op->c;
            for (int c = 0; c < op->c; c++)
                dst[c] = src[c];
        }
}
