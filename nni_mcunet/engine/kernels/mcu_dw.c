/* Depth-wise convolution, channel by channel, in place: a ring of kh rows of one channel holds what is still needed
 * of the input, so that the output may overwrite it. */
#include "mcu_dsp.h"
#include <string.h>

/* One call: its arguments, and the columns of a ring row: cols in all, lo..hi-1 from the input, padding around them. */
typedef struct {
    const mcu_conv *op;
    const mcu_axis *y, *x;
    const int8_t *in, *res;
    int8_t *out, *ring; /* ring: [kh][cols] */
    int cols, lo, hi;
} mcu_job;

/* Copies n values at steps of c. row: [n][c], line: [n]. */
static void load_row(const int8_t *row, int c, int8_t *line, int n) {
    int j = 0;
    for (; j + 4 <= n; j += 4) {
        line[j] = row[j * c];
        line[j + 1] = row[(j + 1) * c];
        line[j + 2] = row[(j + 2) * c];
        line[j + 3] = row[(j + 3) * c];
    }
    for (; j < n; j++)
        line[j] = row[j * c];
}

/* Window rows from..to-1 of channel c into the ring; row t is input row first + t, at t % kh. Padded columns hold zp_in
 * from the start. */
static void load_rows(const mcu_job *job, int c, int from, int to) {
    const mcu_axis *y = job->y, *x = job->x;
    for (int t = from; t < to; t++) {
        const int r = y->first + t, n = job->hi - job->lo;
        int8_t *line = job->ring + t % job->op->kh * job->cols + job->lo;
        if (r < 0 || r >= y->n_in)
            memset(line, job->op->zp_in, (size_t)n);
        else if (n > 0)
            load_row(job->in + (r * x->n_in + x->first + job->lo) * job->op->cin + c, job->op->cin, line, n);
    }
}

#if defined(MCU_DSP)
#define MAX_K 7
#define MAX_QUADS 3 /* (MAX_K + stride 2 + 3) / 4 */

/* Two outputs from the same quads of a row: w[kh][quads][2] holds the taps for the first and, moved by the stride, for
 * the second. weights: [kh][kw]. */
static void pack(const mcu_conv *op, const int8_t *weights, int quads, mcu_quad *w) {
    for (int r = 0; r < op->kh; r++, weights += op->kw) {
        int8_t taps[2][4 * MAX_QUADS] = {{0}};
        memcpy(taps[0], weights, op->kw);
        memcpy(taps[1] + op->sw, weights, op->kw);
        for (int q = 0; q < quads; q++) {
            *w++ = mcu_load4(taps[0] + 4 * q);
            *w++ = mcu_load4(taps[1] + 4 * q);
        }
    }
}

/* One row of outputs of one channel: op, requantisation and bias of the channel; rows: [kh] of the ring; out: [n] at
 * steps of op->cout. Outputs are computed in pairs, an odd last one is left. */
typedef struct {
    const mcu_conv *op;
    mcu_scale scale;
    int32_t bias;
    int n;
    const int8_t *rows[MAX_K];
    int8_t *out;
} mcu_line;

/* w: [kh][quads][2]. Reads up to 3 bytes behind a row, times zero. */
static __attribute__((noinline)) void pairs(const mcu_line *line, const mcu_quad *w, int quads) {
    const mcu_conv op = *line->op;
    const mcu_scale scale = line->scale;
    int8_t *const out = line->out;
    for (int j = 0; j + 2 <= line->n; j += 2) {
        int32_t a = line->bias, b = a;
        const mcu_quad *k = w;
        for (int r = 0; r < op.kh; r++) {
            const int8_t *row = line->rows[r] + j * op.sw;
            for (int q = 0; q < quads; q++, k += 2) {
                mcu_quad v = mcu_load4(row + 4 * q);
                a = mcu_mac4(v, k[0], a);
                b = mcu_mac4(v, k[1], b);
            }
        }
        out[j * op.cout] = mcu_result(&op, scale, a, 0);
        out[(j + 1) * op.cout] = mcu_result(&op, scale, b, 0);
    }
}

/* 3x3 with stride 1 or 2 (a constant where this is inlined), the taps in registers. weights: [3][3]. */
static inline __attribute__((always_inline)) void pairs3(const mcu_line *line, const int8_t *weights, int stride) {
    const mcu_conv op = *line->op;
    const mcu_scale scale = line->scale;
    const int8_t *row[3] = {line->rows[0], line->rows[1], line->rows[2]};
    int8_t *const out = line->out;
    int32_t outer[3], middle[3];
    for (int r = 0; r < 3; r++) {
        outer[r] = (int32_t)((uint16_t)weights[3 * r] | (uint32_t)weights[3 * r + 2] << 16);
        middle[r] = weights[3 * r + 1];
    }
    for (int j = 0; j + 2 <= line->n; j += 2) {
        int32_t a = line->bias, b = a;
#pragma GCC unroll 3
        for (int r = 0; r < 3; r++) {
            mcu_quad v = mcu_load4(row[r]);
            a = __smlabb(v.odd, middle[r], __smlad(v.even, outer[r], a));
            if (stride == 1)
                b = __smlatb(v.even, middle[r], __smlad(v.odd, outer[r], b));
            else
                b = __smlabt(row[r][4], outer[r], __smlatb(v.odd, middle[r], __smlatb(v.even, outer[r], b)));
            row[r] += 2 * stride;
        }
        out[j * op.cout] = mcu_result(&op, scale, a, 0);
        out[(j + 1) * op.cout] = mcu_result(&op, scale, b, 0);
    }
}

static __attribute__((noinline)) void pairs3_s1(const mcu_line *line, const int8_t *weights) {
    pairs3(line, weights, 1);
}

static __attribute__((noinline)) void pairs3_s2(const mcu_line *line, const int8_t *weights) {
    pairs3(line, weights, 2);
}
#endif

/* Outputs j.. of output row i of channel c. */
static void singles(const mcu_job *job, int c, int i, int j) {
    const mcu_conv o = *job->op;
    const mcu_axis *y = job->y, *x = job->x;
    for (; j < x->n_out; j++) {
        const int8_t *w = o.weights + c * o.kh * o.kw;
        const int8_t *res = job->res ? job->res + ((y->res + i) * x->n_res + x->res + j) * o.cout + c : 0;
        int32_t acc = mcu_bias(&o, c);
        for (int r = i * o.sh; r < i * o.sh + o.kh; r++)
            for (int q = 0; q < o.kw; q++)
                acc += job->ring[r % o.kh * job->cols + j * o.sw + q] * *w++;
        job->out[((y->dst + i) * x->n_dst + x->dst + j) * o.cout + c] =
            mcu_result(&o, mcu_scale_of(&o, c), acc, res);
    }
}

static void channel_plain(const mcu_job *job, int c) {
    const int kh = job->op->kh, sh = job->op->sh;
    for (int i = 0, loaded = 0; i < job->y->n_out; loaded = i++ * sh + kh) {
        load_rows(job, c, mcu_max(loaded, i * sh), i * sh + kh);
        singles(job, c, i, 0);
    }
}

#if defined(MCU_DSP)
static void channel_fast(const mcu_job *job, int c) {
    const mcu_conv *op = job->op;
    const mcu_axis *y = job->y, *x = job->x;
    const int kh = op->kh, sh = op->sh, quads = (op->kw + op->sw + 3) / 4;
    const int8_t *weights = op->weights + c * kh * op->kw;
    mcu_line line = {op, mcu_scale_of(op, c), mcu_bias(op, c), x->n_out, {0}, 0};
    mcu_quad w[MAX_K * MAX_QUADS * 2];
    const int three = kh == 3 && op->kw == 3;
    if (!three)
        pack(op, weights, quads, w);
    for (int i = 0, loaded = 0; i < y->n_out; loaded = i++ * sh + kh) {
        load_rows(job, c, mcu_max(loaded, i * sh), i * sh + kh);
        for (int r = 0; r < kh; r++)
            line.rows[r] = job->ring + (i * sh + r) % kh * job->cols;
        line.out = job->out + ((y->dst + i) * x->n_dst + x->dst) * op->cout + c;
        if (!three)
            pairs(&line, w, quads);
        else if (op->sw == 1)
            pairs3_s1(&line, weights);
        else
            pairs3_s2(&line, weights);
        if (x->n_out & 1)
            singles(job, c, i, x->n_out - 1);
    }
}
#endif

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cin] or null, out: [y.n_dst][x.n_dst][cin], scratch: the ring. */
void mcu_conv_dw(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                 int8_t *out, int8_t *scratch) {
    const int cols = (x->n_out - 1) * op->sw + op->kw, lo = mcu_min(mcu_max(-x->first, 0), cols);
    const mcu_job job = {op, y, x, in, res, out, scratch, cols, lo, mcu_max(lo, mcu_min(cols, x->n_in - x->first))};
    void (*channel)(const mcu_job *, int) = channel_plain;
#if defined(MCU_DSP)
    if (op->kh <= MAX_K && op->kw <= MAX_K && op->sw <= 2 && !res)
        channel = channel_fast;
#endif
    memset(scratch, op->zp_in, (size_t)(op->kh * cols));
    for (int c = 0; c < op->cout; c++)
        channel(&job, c);
}
