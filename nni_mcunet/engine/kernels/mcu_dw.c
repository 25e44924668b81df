/* Depth-wise convolution, channel by channel, in place: strips of rows of one channel hold what is still needed of the
 * input, so that the output may overwrite it. */
#include "mcu_dw.h"
#include <string.h>

/* Outputs at once. With the DSP extension few convolutions come here: this stays small there, and its frames off the
 * stack of all the others. */
#if defined(MCU_DSP)
#define MCU_RARE __attribute__((noinline, cold))
enum { SOME = 1 };
#else
#define MCU_RARE
enum { SOME = 4 };
#endif

/* Copies n values at steps of c. row: [n][c], line: [n]. */
static inline void load_row(const int8_t *row, int c, int8_t *line, int n) {
    int j = 0;
#if !defined(MCU_DSP)
    for (; j + 4 <= n; j += 4, row += 4 * c) {
        line[j] = row[0];
        line[j + 1] = row[c];
        line[j + 2] = row[2 * c];
        line[j + 3] = row[3 * c];
    }
#endif
    for (; j < n; j++, row += c)
        line[j] = *row;
}

/* Window rows from..to-1 of channel c, row `from` at `line`. */
static MCU_RARE void load_rows(const mcu_job *job, int c, int from, int to, int8_t *line) {
    const mcu_axis *y = job->y, *x = job->x;
    const int cin = job->op->cin, cols = job->cols, lo = job->lo, n = job->hi - lo;
    for (int r = y->first + from; r < y->first + to; r++, line += cols) {
        const int inside = r >= 0 && r < y->n_in && n > 0;
        if (!inside || n < cols)
            memset(line, job->op->zp_in, (size_t)cols);
        if (inside)
            load_row(job->in + (r * x->n_in + x->first + lo) * cin + c, cin, line + lo, n);
    }
}

typedef struct {
    int cols, kh, k, s; /* of a row in the buffer; of windows of kh x k at steps of s */
} mcu_windows;

/* Adds the products of outputs of a row. line: where the first one's window begins. */
static inline __attribute__((always_inline)) void add_some(const mcu_windows *m, int k, int s, const int8_t *line,
                                                           const int8_t *w, int32_t *sums) {
    const int cols = m->cols;
    int32_t acc[SOME];
#pragma GCC unroll 4
    for (int p = 0; p < SOME; p++)
        acc[p] = sums[0];
    for (const int8_t *end = w + m->kh * k; w != end; line += cols, w += k) {
#if !defined(MCU_DSP)
#pragma GCC unroll 7
#endif
        for (int q = 0; q < k; q++)
#pragma GCC unroll 4
            for (int p = 0; p < SOME; p++)
                acc[p] += line[p * s + q] * w[q];
    }
#pragma GCC unroll 4
    for (int p = 0; p < SOME; p++)
        sums[p] = acc[p];
}

typedef void mcu_add_some(const mcu_windows *m, const int8_t *line, const int8_t *w, int32_t *sums);

#define ADD_SOME(name, k, s)                                                                                            \
    static void name(const mcu_windows *m, const int8_t *line, const int8_t *w, int32_t *sums) {                        \
        add_some(m, k, s, line, w, sums);                                                                              \
    }
ADD_SOME(add_any, m->k, m->s)
#if !defined(MCU_DSP)
ADD_SOME(add3_s1, 3, 1)
ADD_SOME(add3_s2, 3, 2)
ADD_SOME(add5_s1, 5, 1)
ADD_SOME(add5_s2, 5, 2)
ADD_SOME(add7_s1, 7, 1)
ADD_SOME(add7_s2, 7, 2)
#endif

static mcu_add_some *version_of(int k, int s) {
#if !defined(MCU_DSP)
    static mcu_add_some *const known[3][2] = {{add3_s1, add3_s2}, {add5_s1, add5_s2}, {add7_s1, add7_s2}};
    if ((k == 3 || k == 5 || k == 7) && s <= 2)
        return known[(k - 3) / 2][s - 1];
#endif
    (void)k, (void)s;
    return add_any;
}

/* `high` rows of outputs of channel c from row i on, whose input rows the buffer has. The last ones of a row go with
 * some behind them, of bytes that the buffer has, which are not written. */
static MCU_RARE void outputs(const mcu_job *job, int c, int i, int high) {
    const mcu_conv o = *job->op; /* a copy: a store to `out` cannot change it */
    const mcu_axis *y = job->y, *x = job->x;
    const mcu_windows m = {job->cols, o.kh, o.kw, job->step};
    const int step = o.cout, s = job->step;
    const mcu_scale scale = mcu_scale_of(&o, c);
    const int8_t *const weights = o.weights + c * o.kh * o.kw, *top = job->ring;
    const int32_t bias = mcu_bias(&o, c);
    mcu_add_some *const add = version_of(o.kw, s);
    for (const int end = i + high; i < end; i++, top += o.sh * m.cols) {
        const int8_t *res = job->res ? job->res + ((y->res + i) * x->n_res + x->res) * step + c : 0, *line = top;
        int8_t *out = job->out + ((y->dst + i) * x->n_dst + x->dst) * step + c;
        for (int left = x->n_out; left > 0; left -= SOME, line += SOME * s) {
            int32_t sums[SOME] = {bias};
            add(&m, line, weights, sums);
            for (int p = 0; p < mcu_min(left, SOME); p++, out += step) {
                *out = mcu_result(&o, scale, sums[p], res);
                if (res)
                    res += step;
            }
        }
    }
}

/* A strip is as many rows of outputs as the buffer has the input of: what the next one needs of that moves up. */
static MCU_RARE void channels(const mcu_job *job) {
    const int kh = job->op->kh, sh = job->op->sh, cols = job->cols, n = job->y->n_out;
    const int bytes = (kh + 2) * MCU_DW_LINE(cols) - (SOME - 1) * job->step, most = (bytes / cols - kh) / sh + 1;
    const int kept = mcu_max(kh - sh, 0);
    for (int c = 0; c < job->op->cout; c++)
        for (int i = 0, held = 0; i < n; i += most, held = kept) { /* held: rows of the strip that the buffer has */
            const int high = mcu_min(most, n - i);
            load_rows(job, c, i * sh + held, i * sh + (high - 1) * sh + kh, job->ring + held * cols);
            outputs(job, c, i, high);
            for (int at = 0; i + most < n && at < kept * cols; at++)
                job->ring[at] = job->ring[at + most * sh * cols];
        }
}

static mcu_job job_of(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                      int8_t *out, int8_t *scratch) {
    const int cols = (x->n_out - 1) * op->sw + op->kw, lo = mcu_min(mcu_max(-x->first, 0), cols);
    const int hi = mcu_max(lo, mcu_min(cols, x->n_in - x->first)), step = x->n_out > 1 ? op->sw : 1;
    const mcu_job job = {op, y, x, in, res, out, scratch, cols, lo, hi, step};
    return job;
}

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cin] or null, out: [y.n_dst][x.n_dst][cin], scratch: the strip. */
void MCU_ROUNDED(mcu_conv_dw)(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                              const int8_t *res, int8_t *out, int8_t *scratch) {
    const mcu_job job = job_of(op, y, x, in, res, out, scratch);
#if defined(MCU_MVE)
    if (MCU_ROUNDED(mcu_dw_has_vectors)(&job)) {
        MCU_ROUNDED(mcu_dw_vectors)(&job);
        return;
    }
#endif
#if defined(MCU_DSP)
    if (!res && MCU_ROUNDED(mcu_dw_is_fast)(op)) {
        MCU_ROUNDED(mcu_dw_fast)(&job);
        return;
    }
#endif
    channels(&job);
}

#if defined(MCU_TWICE)
#define MCU_FAST mcu_conv_dw_twice_fast
#else
#define MCU_FAST mcu_conv_dw_fast
#endif
/* A function of its own, so that a linker leaves out what such a convolution never needs. */
void MCU_FAST(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
              int8_t *out, int8_t *scratch) {
    const mcu_job job = job_of(op, y, x, in, res, out, scratch);
#if defined(MCU_DSP)
    MCU_ROUNDED(mcu_dw_fast)(&job);
#else
    channels(&job);
#endif
}
