/* The 1x1 and dense convolutions with weights in rows, for cores with vectors; elsewhere in plain C. */
#include "mcu_rows.h"
#include "mcu_windows.h"

#if defined(MCU_TWICE)
#define ROWS_OF(name) name##_twice_rows
#else
#define ROWS_OF(name) name##_rows
#endif

/* How many channels from c on lie together: four, or two at the end. */
static int together(const mcu_conv *op, int c) { return op->cout - c > 2 ? 4 : 2; }

/* The first taps of each channel, before the blocks of 16. */
static int first_taps(int taps) { return (taps - 1) % 16 + 1; }

#if defined(MCU_MVE)
/* Channel c, one of the last fewer than four, of n positions of so many taps, one every `step` bytes. */
static void last_rows(const mcu_conv *op, int c, int taps, int step, int n, const int8_t *x, const int8_t *res,
                      int8_t *out) {
    const int at = c & 3, first = first_taps(taps), width = MCU_ROUND4(first), rows = together(op, c & ~3);
    const int8_t *const weights = op->weights + (c - at) * MCU_ROUND4(taps), *const blocks = weights + rows * width;
    const mve_pred16_t some = vctp8q((uint32_t)first);
    const int8x16_t w = vldrbq_z_s8(weights + at * width, some);
    for (int i = 0; i < n; i++, x += step) {
        const int8_t *from = x + first, *row = blocks + 16 * at;
        int32_t acc = vmladavaq_s8(mcu_bias(op, c), vldrbq_z_s8(x, some), w);
        for (int left = taps - first; left > 0; left -= 16, from += 16, row += 16 * rows)
            acc = vmladavaq_s8(acc, vldrbq_s8(from), vldrbq_s8(row));
        out[i * op->cout + c] = mcu_result(op, mcu_scale_of(op, c), acc, res ? res + i * op->cout + c : 0);
    }
}

/* n positions of so many taps, one every `step` bytes, none of which is among those of `out`. res, out: [n][cout]. */
static void all_rows(const mcu_conv *op, int taps, int step, int n, const int8_t *x, const int8_t *res, int8_t *out) {
    const int first = first_taps(taps), width = MCU_ROUND4(first), whole = op->cout & ~3;
    void (*const plain)(const mcu_row_job *) = first == 16 ? rows_16 : first == 8 ? rows_8 : rows_any;
    mcu_row_job job;
    job.x = x, job.second = x + step, job.left = n - 1, job.blocks = (taps - 1) / 16, job.turn = 2 * step - taps;
    job.zp = op->zp_out, job.cout = op->cout, job.first = first, job.width = width;
    job.res_mult = op->res_mult, job.res_add = -op->res_zp * op->res_mult, job.res_bits = -op->res_bits;
    for (int c = 0; c < whole; c += 4) {
        job.lanes = mcu_lanes_of(op->pairs + c / 2), job.weights = op->weights + c * MCU_ROUND4(taps);
        job.out = out + c;
#if !defined(MCU_TWICE)
        if (res) {
            job.res = res + c;
            rows_residual(&job);
            continue;
        }
#endif
        plain(&job);
    }
    for (int c = whole; c < op->cout; c++)
        last_rows(op, c, taps, step, n, x, res, out);
    mcu_clamp_all(out, n * op->cout, op->lo, op->hi);
}
#else
/* The dot product of channel c. x: [taps] */
static int32_t dot_row(const mcu_conv *op, int c, int taps, const int8_t *x) {
    const int at = c & 3, first = first_taps(taps), width = MCU_ROUND4(first), rows = together(op, c - at);
    const int8_t *const weights = op->weights + (c - at) * MCU_ROUND4(taps), *row = weights + at * width;
    int32_t acc = mcu_bias(op, c);
    for (int i = 0; i < first; i++)
        acc += x[i] * row[i];
    row = weights + rows * width + 16 * at;
    for (int i = first; i < taps; i += 16, row += 16 * rows)
        for (int j = 0; j < 16; j++)
            acc += x[i + j] * row[j];
    return acc;
}

/* n positions of so many taps, one every `step` bytes, none of which is among those of `out`. res, out: [n][cout]. */
static void all_rows(const mcu_conv *op, int taps, int step, int n, const int8_t *x, const int8_t *res, int8_t *out) {
    for (int i = 0; i < n; i++, x += step, out += op->cout)
        for (int c = 0; c < op->cout; c++)
            out[c] = mcu_result(op, mcu_scale_of(op, c), dot_row(op, c, taps, x), res ? res + i * op->cout + c : 0);
}
#endif

/* in, out: of n_in and n_out bytes. */
static int disjoint(const int8_t *in, int n_in, const int8_t *out, int n_out) {
    return out >= in + n_in || in >= out + n_out;
}

/* n positions in a row; from the last to the first where the output begins within the input, as memmove does. As many
 * go at once as write over no input that is still to be read, or a few by way of scratch. in: [n][cin],
 * res: [n][cout] or null, out: [n][cout]. */
static void positions(const mcu_conv *op, int n, const int8_t *in, const int8_t *res, int8_t *out, int8_t *scratch) {
    const int cin = op->cin, cout = op->cout, back = out > in, few = n < 4 ? 2 : 8;
    for (int done = 0, m, free; done < n; done += m) {
        const int left = n - done;
        const int8_t *const unread = in + (back ? 0 : done * cin);
        m = left;
        while (!(free = disjoint(unread, left * cin, out + (back ? left - m : done) * cout, m * cout)) && m > few)
            m = mcu_max(m / 2, few);
        const int j = back ? left - m : done;
        if (!free)
            memcpy(scratch, in + j * cin, (size_t)(m * cin));
        all_rows(op, cin, cin, m, free ? in + j * cin : scratch, res ? res + j * cout : 0, out + j * cout);
    }
}

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout]; see mcu_conv_pw. */
void ROWS_OF(mcu_conv_pw)(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in, const int8_t *res,
                          int8_t *out, int8_t *scratch) {
    const int whole = x->n_in == x->n_out && x->n_dst == x->n_out && (!res || x->n_res == x->n_out);
    const int rows = whole ? 1 : y->n_out, n = whole ? y->n_out * x->n_out : x->n_out;
    for (int i = 0; i < rows; i++)
        positions(op, n, in + ((y->first + i) * x->n_in + x->first) * op->cin,
                  res ? res + ((y->res + i) * x->n_res + x->res) * op->cout : 0,
                  out + ((y->dst + i) * x->n_dst + x->dst) * op->cout, scratch);
}

/* in: [y.n_in][x.n_in][cin], res: [y.n_res][x.n_res][cout] or null, out: [y.n_dst][x.n_dst][cout], scratch: windows,
 * [kh][kw][cin]. */
void ROWS_OF(mcu_conv_dense)(const mcu_conv *op, const mcu_axis *y, const mcu_axis *x, const int8_t *in,
                             const int8_t *res, int8_t *out, int8_t *scratch) {
    const int taps = op->kh * op->kw * op->cin, whole = x->n_dst == x->n_out && (!res || x->n_res == x->n_out);
    const int rows = whole ? 1 : y->n_out, n = whole ? y->n_out * x->n_out : x->n_out;
    const int room = MCU_CONV_DENSE_SCRATCH(op->cin, op->kh, op->kw, 0) / taps & ~1;
    for (int row = 0; row < rows; row++) {
        const int8_t *sum = res ? res + ((y->res + row) * x->n_res + x->res) * op->cout : 0;
        int8_t *dst = out + ((y->dst + row) * x->n_dst + x->dst) * op->cout;
        for (int m = 0, some, i = row, j = 0; m < n; m += some) {
            some = mcu_min(room, n - m);
            for (int p = 0; p < some; p++) {
                gather(op, y, x, y->first + i * op->sh, x->first + j * op->sw, in, scratch + p * taps);
                if (++j == x->n_out)
                    i++, j = 0;
            }
            all_rows(op, taps, taps, some, scratch, sum ? sum + m * op->cout : 0, dst + m * op->cout);
        }
    }
}
