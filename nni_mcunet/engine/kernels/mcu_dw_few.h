/* Depth-wise convolution of a map of few positions, whose windows reach into the padding: four channels at once, one
 * output after the other, without the taps that lie outside. In scratch lie how to scale them and, as int16, the taps and
 * the input less its zero point. */
#ifndef MCU_DW_FEW_H
#define MCU_DW_FEW_H
#include "mcu_dw.h"

#if defined(__cplusplus)
extern "C" {
#endif

#if defined(MCU_DSP)

/* Outputs of a row or column, at most; bytes of code behind the last tap (TAP_BYTES each) to the end of their loop. */
enum { FEW = 6, LOOP_BYTES = 14 };

/* A row and a column of outputs, in bytes. The assembly knows the order of the fields, here and below. */
typedef struct {
    const int8_t *x, *w; /* the rows in which its inputs and its taps begin */
    int rows;            /* of taps */
} mcu_few_row;

typedef struct {
    int x, w;           /* where its inputs and its taps begin in their rows */
    int next_x, next_w; /* from the end of its taps in a row to those in the next one */
    int code;           /* from the end of the loop over rows back to as many taps as it has */
} mcu_few_column;

/* Four channels, as in mcu_strip. */
typedef struct {
    int32_t bias[4], mult[4], half[4];
    uint32_t right[4];
} mcu_few_scales;

typedef struct {
    mcu_few_row now;                    /* used in the copy, */
    const int32_t *mult;                /* of mcu_few_scales; the biases lie before it */
    const mcu_few_column *column, *end; /* as is the first of these */
    int8_t *out;
    int step; /* to the next output */
    const mcu_few_row *row, *last;
    const mcu_few_column *first;
    int line; /* from the end of a row of outputs to the next one */
} mcu_few;

#if defined(MCU_TWICE)
#define HIGH_FEW(a, mult, half)                                                                                         \
    "lsl " a ", #1\n smmulr " a ", " a ", " mult "\n add " a ", " a ", " a ", asr #31\n add " a ", " half ", " a ", lsl #1\n"
#else
#define HIGH_FEW(a, mult, half) "smmla " a ", " a ", " mult ", " half "\n"
#endif
#define LAST_FEW(a, right) "asr " a ", " right "\n ssat " a ", #8, " a ", asr #1\n"
/* One tap of channels 0..3: int16 of channels 0, 2, 1, 3 at r0 and r1, sums in r4..r7. */
#if defined(MCU_DUAL_ISSUE)
#define LOADS_FEW "ldr r8, [r0], #4\n ldr r10, [r1], #4\n ldr r9, [r0], #4\n ldr r11, [r1], #4\n"
enum { TAP_BYTES = 32 };
#else
#define LOADS_FEW "ldrd r8, r9, [r0], #8\n ldrd r10, r11, [r1], #8\n"
enum { TAP_BYTES = 24 };
#endif
#define TAP_FEW                                                                                                         \
    LOADS_FEW "smlabb r4, r8, r10, r4\n smlatt r6, r8, r10, r6\n smlabb r5, r9, r11, r5\n smlatt r7, r9, r11, r7\n"

/* clang-format off */
static MCU_NAKED void few_outputs(const mcu_few *t MCU_UNUSED) {
    __asm__("push {r4-r11, r14}\n ldm r0, {r1-r12}\n push {r1-r12}\n"
            "0: ldr r12, [sp, #32]\n ldm r12!, {r0-r2}\n str r12, [sp, #32]\n stm sp, {r0-r2}\n"
            "ldr r0, [sp, #40]\n str r0, [sp, #16]\n"
            "1: ldm.w sp, {r8-r12}\n ldm r12!, {r0-r3, r14}\n str r12, [sp, #16]\n ldmdb r11, {r4-r7}\n add r0, r8\n"
            "add r1, r9\n mov r12, r10\n b 2f\n" TAP_FEW TAP_FEW TAP_FEW TAP_FEW TAP_FEW TAP_FEW TAP_FEW
            "add r0, r2\n add r1, r3\n"
            "2: subs.w r12, #1\n bmi.n 3f\n add pc, r14\n"
            "3: ldr r12, [sp, #12]\n ldm r12!, {r0-r3}\n ldm r12!, {r8-r11}\n"
            HIGH_FEW("r4", "r0", "r8") HIGH_FEW("r5", "r1", "r9") HIGH_FEW("r6", "r2", "r10") HIGH_FEW("r7", "r3", "r11")
            "ldm.w r12, {r0-r3}\n ldrd r8, r9, [sp, #24]\n" LAST_FEW("r4", "r0") LAST_FEW("r5", "r1")
            LAST_FEW("r6", "r2") LAST_FEW("r7", "r3")
            "strb r4, [r8]\n strb r5, [r8, #1]\n strb r6, [r8, #2]\n strb r7, [r8, #3]\n add r8, r9\n str r8, [sp, #24]\n"
            "ldrd r0, r1, [sp, #16]\n cmp r0, r1\n bne.w 1b\n ldr r1, [sp, #44]\n add r8, r1\n str r8, [sp, #24]\n"
            "ldrd r0, r1, [sp, #32]\n cmp r0, r1\n bne.w 0b\n add sp, #48\n pop {r4-r11, pc}");
}
/* clang-format on */

/* Four channels of n positions. from: [n][cin], to: int16 [n][4]; where the next ones go. */
static inline int8_t *few_inputs(const int8_t *from, int cin, int n, uint32_t less, int8_t *to) {
    uint32_t u, v;
    __asm__ volatile("1: ldr %[u], [%[x]]\n add %[x], %[c]\n sxtab16 %[v], %[less], %[u], ror #8\n"
                     "sxtab16 %[u], %[less], %[u]\n strd %[u], %[v], [%[to]], #8\n subs %[n], #1\n bne 1b\n"
                     : [x] "+r"(from), [to] "+r"(to), [n] "+r"(n), [u] "=&r"(u), [v] "=&r"(v)
                     : [c] "r"(cin), [less] "r"(less)
                     : "cc", "memory");
    return to;
}

/* Four channels' n weights each. to: int16 [n][4]. Returns the sums, of channels 0 and 2 and of 1 and 3. */
static inline mcu_quad few_weights(const int8_t *w, int n, int8_t *to) {
    mcu_quad sums = {0, 0};
    uint32_t a, b, c;
    const int8_t *end = w + n;
    __asm__ volatile("1: ldrsb %[a], [%[w]]\n ldrsb %[c], [%[w], %[n], lsl #1]\n ldrsb %[b], [%[w], %[n]]\n"
                     "pkhbt %[a], %[a], %[c], lsl #16\n ldrsb %[c], [%[w], %[three]]\n adds %[w], #1\n"
                     "pkhbt %[b], %[b], %[c], lsl #16\n sadd16 %[even], %[even], %[a]\n sadd16 %[odd], %[odd], %[b]\n"
                     "strd %[a], %[b], [%[to]], #8\n cmp %[w], %[end]\n bne 1b\n"
                     : [w] "+r"(w), [to] "+r"(to), [a] "=&r"(a), [b] "=&r"(b), [c] "=&r"(c), [even] "+r"(sums.even),
                       [odd] "+r"(sums.odd)
                     : [n] "r"(n), [three] "r"(3 * n), [end] "r"(end)
                     : "cc", "memory");
    return sums;
}

static void few_scales(const mcu_conv *op, const mcu_pair *pair, mcu_quad sums, mcu_few_scales *scales) {
    const int32_t zp = op->zp_in, one = 2 * op->zp_out + 1;
    const int32_t weights[4] = {(int16_t)sums.even, (int16_t)sums.odd, sums.even >> 16, sums.odd >> 16};
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const uint32_t right = pair[i >> 1].right[i & 1];
        scales->bias[i] = pair[i >> 1].bias[i & 1] + zp * weights[i], scales->mult[i] = pair[i >> 1].mult[i & 1];
        scales->half[i] = mcu_shl(one, right), scales->right[i] = right;
    }
}

/* Taps of window i inside the input, and where they begin. */
typedef struct {
    int at, tap, n;
} mcu_few_taps;

static mcu_few_taps few_taps(const mcu_axis *a, int k, int s, int i) {
    const int at = a->first + i * s, lo = mcu_max(-at, 0);
    const mcu_few_taps t = {at + lo, lo, mcu_max(mcu_min(k, a->n_in - at) - lo, 0)};
    return t;
}

/* Is no channel shifted left, but once where that is rounded twice? */
static int is_unshifted(const mcu_conv *op) {
    unsigned left = 0;
    for (const mcu_pair *pair = op->pairs, *end = pair + op->cout / 2; pair != end; pair++)
        left |= pair->left[0] | pair->left[1];
    return left == 1 - MCU_LESS; /* MCU_LESS: 0 where it rounds twice */
}

/* Runs as many channels as go in fours, where the map is small enough; returns how many. */
static __attribute__((noinline)) int few_channels(const mcu_job *job) {
    const mcu_conv *op = job->op;
    const mcu_axis *y = job->y, *x = job->x;
    const int k = op->kh, taps = k * k, wide = x->n_out, cin = op->cin;
    const int top = mcu_max(y->first, 0), rows = mcu_min(y->n_in, y->first + (y->n_out - 1) * op->sh + k) - top;
    const int left = job->x->first + job->lo, cols = job->hi - job->lo;
    const int most = k < 5 ? 5 : FEW, room = MCU_CONV_DW_SCRATCH(cin, k, k, job->cols) - (int)sizeof(mcu_few_scales);
    if (y->n_out > most || wide > most || rows <= 0 || cols <= 0 || 8 * (rows * cols + taps) > room ||
        !is_unshifted(op))
        return 0;
    int8_t *const weights = job->ring + sizeof(mcu_few_scales), *const inputs = weights + 8 * taps;
    mcu_few_row row[FEW];
    mcu_few_column column[FEW];
    mcu_few_scales *const scales = (mcu_few_scales *)(void *)job->ring;
    mcu_few t = {{0, 0, 0}, scales->mult,
                 0,         column + wide,
                 0,         op->cout,
                 row,       row + y->n_out,
                 column,    (x->n_dst - wide) * op->cout};
    for (int i = 0; i < y->n_out; i++) {
        const mcu_few_taps in = few_taps(y, k, op->sh, i);
        const mcu_few_row r = {inputs + 8 * (in.at - top) * cols, weights + 8 * in.tap * k, in.n};
        row[i] = r;
    }
    for (int j = 0; j < wide; j++) {
        const mcu_few_taps in = few_taps(x, k, op->sw, j);
        const mcu_few_column c = {8 * (in.at - left), 8 * in.tap, 8 * (cols - in.n), 8 * (k - in.n),
                                  -LOOP_BYTES - TAP_BYTES * in.n};
        column[j] = c;
    }
    const uint32_t less = mcu_pair16(-op->zp_in, -op->zp_in);
    int c = 0;
    for (; c + 4 <= op->cout; c += 4) {
        const int8_t *from = job->in + (top * x->n_in + left) * cin + c;
        int8_t *to = inputs;
        for (int r = 0; r < rows; r++, from += x->n_in * cin)
            to = few_inputs(from, cin, cols, less, to);
        few_scales(op, op->pairs + c / 2, few_weights(op->weights + c * taps, taps, weights), scales);
        t.out = job->out + (y->dst * x->n_dst + x->dst) * op->cout + c;
        few_outputs(&t);
    }
    return c;
}

#endif

#if defined(__cplusplus)
}
#endif

#endif
