/* Max and average pool, global average pool, padding and nearest upsampling. */
#include "mcu.h"
#include <string.h>

/* The taps of one window that lie inside the input: rows r0..r1-1, columns q0..q1-1. */
typedef struct {
    int r0, r1, q0, q1;
} mcu_window;

static mcu_window window(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, int i, int j) {
    const int top = y->first + i * op->sh, left = x->first + j * op->sw;
    const mcu_window w = {mcu_max(top, 0), mcu_min(top + op->kh, y->n_in), mcu_max(left, 0),
                          mcu_min(left + op->kw, x->n_in)};
    return w;
}

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_maxpool(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++) {
            const mcu_window w = window(op, y, x, i, j);
            int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst + j) * op->c;
            for (int c = 0; c < op->c; c++) {
                int8_t best = -128;
                for (int r = w.r0; r < w.r1; r++)
                    for (int q = w.q0; q < w.q1; q++)
                        best = (int8_t)mcu_max(best, in[(r * x->n_in + q) * op->c + c]);
                dst[c] = best;
            }
        }
}

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_avgpool_twice(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++) {
            const mcu_window w = window(op, y, x, i, j);
            const int taps = (w.r1 - w.r0) * (w.q1 - w.q0);
            int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst + j) * op->c;
            for (int c = 0; c < op->c; c++) {
                int32_t sum = 0;
                for (int r = w.r0; r < w.r1; r++)
                    for (int q = w.q0; q < w.q1; q++)
                        sum += in[(r * x->n_in + q) * op->c + c];
                dst[c] = (int8_t)((sum + (sum > 0 ? taps / 2 : -(taps / 2))) / taps);
            }
        }
}

static int8_t mean(const mcu_pool *op, mcu_factor f, int32_t sum) {
    return mcu_clamp(op->zp_out + mcu_requant(sum, f.mult, f.left, f.right), -128, 127);
}

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_avgpool(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++) {
            const mcu_window w = window(op, y, x, i, j);
            const int taps = (w.r1 - w.r0) * (w.q1 - w.q0), padded = op->kh * op->kw - taps;
            const mcu_factor factor = padded ? op->border[padded - 1] : op->mean;
            int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst + j) * op->c;
            for (int c = 0; c < op->c; c++) {
                int32_t sum = -taps * op->zp_in;
                for (int r = w.r0; r < w.r1; r++)
                    for (int q = w.q0; q < w.q1; q++)
                        sum += in[(r * x->n_in + q) * op->c + c];
                dst[c] = mean(op, factor, sum);
            }
        }
}

/* Sums over the whole input, each value less zp_in: of four channels from c on, or of the one where there are fewer.
 * Returns how many. in: [positions][c] */
static int whole_sums(const mcu_pool *op, int positions, int c, const int8_t *in, int32_t *sums) {
    const int step = op->c, n = c + 4 <= step ? 4 : 1;
    const int8_t *at = in + c, *const end = at + positions * step;
    int32_t s0 = -positions * op->zp_in, s1 = s0, s2 = s0, s3 = s0;
    if (n == 4)
        for (; at != end; at += step)
            s0 += at[0], s1 += at[1], s2 += at[2], s3 += at[3];
    for (; at != end; at += step)
        s0 += *at;
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
    return n;
}

/* in: [y.n_in][x.n_in][c], all of it; out: [y.n_dst][x.n_dst][c], one position. */
void mcu_gap(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    int32_t sums[4];
    out += (y->dst * x->n_dst + x->dst) * op->c;
    for (int c = 0, n; c < op->c; c += n) {
        n = whole_sums(op, y->n_in * x->n_in, c, in, sums);
        for (int i = 0; i < n; i++)
            out[c + i] = mean(op, op->mean, sums[i]);
    }
}

/* in: [y.n_in][x.n_in][c], all of it; out: [y.n_dst][x.n_dst][c], one position. */
void mcu_gap_twice(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    const mcu_factor f = op->mean;
    int32_t sums[4];
    out += (y->dst * x->n_dst + x->dst) * op->c;
    for (int c = 0, n; c < op->c; c += n) {
        n = whole_sums(op, y->n_in * x->n_in, c, in, sums);
        for (int i = 0; i < n; i++)
            out[c + i] = mcu_clamp(op->zp_out + mcu_requant_twice(sums[i], f.mult, f.left, f.right), -128, 127);
    }
}

/* in: [y.n_in][x.n_in][c], out: [y.n_dst][x.n_dst][c]. */
void mcu_pad(const mcu_pool *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, int8_t *out) {
    for (int i = 0; i < y->n_out; i++)
        for (int j = 0; j < x->n_out; j++) {
            const int r = y->first + i, q = x->first + j;
            int8_t *dst = out + ((y->dst + i) * x->n_dst + x->dst + j) * op->c;
            if (r < 0 || r >= y->n_in || q < 0 || q >= x->n_in)
                memset(dst, op->zp_in, (size_t)op->c);
            else
                memcpy(dst, in + (r * x->n_in + q) * op->c, (size_t)op->c);
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
