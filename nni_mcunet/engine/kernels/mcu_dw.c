/* Depth-wise convolution, channel by channel, in place: a ring of kh rows of one channel holds what is still needed
 * of the input, so that the output may overwrite it. */
#include "mcu_dw.h"
#include <string.h>

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

/* Output row i of channel c. */
static void output_row(const mcu_job *job, int c, int i) {
    const mcu_conv o = *job->op;
    const mcu_axis *y = job->y, *x = job->x;
    for (int j = 0; j < x->n_out; j++) {
        const int8_t *w = o.weights + c * o.kh * o.kw;
        const int8_t *res = job->res ? job->res + ((y->res + i) * x->n_res + x->res + j) * o.cout + c : 0;
        int32_t acc = mcu_bias(&o, c);
        for (int r = i * o.sh; r < i * o.sh + o.kh; r++)
            for (int q = 0; q < o.kw; q++)
                acc += job->ring[r % o.kh * job->cols + j * o.sw + q] * *w++;
        job->out[((y->dst + i) * x->n_dst + x->dst + j) * o.cout + c] = mcu_result(&o, mcu_scale_of(&o, c), acc, res);
    }
}

static void channel(const mcu_job *job, int c) {
    const int kh = job->op->kh, sh = job->op->sh;
    for (int i = 0, loaded = 0; i < job->y->n_out; loaded = i++ * sh + kh) {
        load_rows(job, c, mcu_max(loaded, i * sh), i * sh + kh);
        output_row(job, c, i);
    }
}

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cin] or null, out: [y.n_dst][x.n_dst][cin], scratch: the ring. */
void MCU_ROUNDED(mcu_conv_dw)(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                              const int8_t *res, int8_t *out, int8_t *scratch) {
    const int cols = (x->n_out - 1) * op->sw + op->kw, lo = mcu_min(mcu_max(-x->first, 0), cols);
    const mcu_job job = {op, y, x, in, res, out, scratch, cols, lo, mcu_max(lo, mcu_min(cols, x->n_in - x->first))};
#if defined(MCU_DSP)
    if (!res && MCU_ROUNDED(mcu_dw_is_fast)(op)) {
        MCU_ROUNDED(mcu_dw_fast)(&job);
        return;
    }
#endif
    memset(scratch, op->zp_in, (size_t)(op->kh * cols));
    for (int c = 0; c < op->cout; c++)
        channel(&job, c);
}
