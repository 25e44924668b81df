/* Three positions of a 1x1 or dense convolution at once, in assembly: their inputs as int16 side by side ("columns"), in
 * scratch, and products of two taps with two output channels from registers. */
#ifndef MCU_COLUMNS_H
#define MCU_COLUMNS_H
#include "mcu_dsp.h"
#if defined(MCU_DSP)

/* Three positions at once, as int16: [quads][2][3][2], of a quad of taps 0..3 first 0 and 2, then 1 and 3. */
enum { TRIPLE = 24 }; /* bytes a quad */

/* One position's part of the columns. x: [n]. */
static void expand(const int8_t *x, int n, int8_t *columns) {
    for (; n > 0; n -= 4, x += 4, columns += TRIPLE) {
        const mcu_quad v = n < 4 ? mcu_load_rest(x, n) : mcu_load4(x);
        memcpy(columns, &v.even, 4);
        memcpy(columns + TRIPLE / 2, &v.odd, 4);
    }
}

/* Three positions, `step` bytes apart; the end of the columns. */
static int8_t *expand_three(const int8_t *x, int step, int n, int8_t *columns) {
    const int8_t *p = x, *q = x + step, *r = q + step;
    int quads = n / 4;
    uint32_t u, v, w;
    if (quads)
        __asm__ volatile("1:\n ldr %[u], [%[p]], #4\n ldr %[v], [%[q]], #4\n ldr %[w], [%[r]], #4\n"
                         "sxtb16 r4, %[u]\n sxtb16 r5, %[v]\n sxtb16 r6, %[w]\n stmia %[c]!, {r4, r5, r6}\n"
                         "sxtb16 r4, %[u], ror #8\n sxtb16 r5, %[v], ror #8\n sxtb16 r6, %[w], ror #8\n"
                         "stmia %[c]!, {r4, r5, r6}\n subs %[n], #1\n bne 1b\n"
                         : [p] "+r"(p), [q] "+r"(q), [r] "+r"(r), [c] "+r"(columns), [n] "+r"(quads), [u] "=&r"(u),
                           [v] "=&r"(v), [w] "=&r"(w)
                         :
                         : "r4", "r5", "r6", "cc", "memory");
    if (n & 3) {
        expand(p, n & 3, columns);
        expand(q, n & 3, columns + 4);
        expand(r, n & 3, columns + 8);
        columns += TRIPLE;
    }
    return columns;
}

/* n values zp_in of one position's columns, n a multiple of 4; where the next ones go. */
static int8_t *expand_zero(const mcu_conv *op, int n, int8_t *columns) {
    const uint32_t both = mcu_pair16(op->zp_in, op->zp_in);
    for (; n > 0; n -= 4, columns += TRIPLE) {
        memcpy(columns, &both, 4);
        memcpy(columns + TRIPLE / 2, &both, 4);
    }
    return columns;
}

/* Two taps: r3..r5 of three positions, r1 and r2 of two channels. A quad has 80 bytes. */
#define TAPS                                                                                                            \
    "ldmia.w r0!, {r3, r4, r5}\n ldr.w r1, [r12], #4\n sxtb16.w r2, r1\n sxtb16.w r1, r1, ror #8\n"                     \
    "smlad r6, r3, r2, r6\n smlad r7, r4, r2, r7\n smlad r8, r5, r2, r8\n"                                              \
    "smlad r9, r3, r1, r9\n smlad r10, r4, r1, r10\n smlad r11, r5, r1, r11\n"
#define QUAD TAPS TAPS
#define QUAD_BYTES 80
/* Three positions of a convolution from columns of so many quads, which four at a time are unrolled: turns of that loop,
 * and the bytes of code skipped in the first. */
typedef struct {
    const int8_t *columns;
    int skipped, turns;
    const mcu_pair *pair;
    int zp; /* 2 * zp_out + 1 */
    int8_t *out; /* of the first position */
    int cout;
    int8_t *end; /* of out, behind the last whole pair */
    const int8_t *weights;
    int step, plain; /* bytes of a pair's weights; whether no channel is shifted left */
} mcu_triple;

static mcu_triple triple(const mcu_conv *op, const int8_t *columns, int taps) {
    const int quads = (taps + 3) / 4, turns = (quads + 3) / 4;
    unsigned left = 0;
    for (const mcu_pair *pair = op->pairs, *end = pair + (op->cout + 1) / 2; pair != end; pair++)
        left |= pair->left[0] | pair->left[1];
    const mcu_triple t = {.columns = columns, .skipped = (4 * turns - quads) * QUAD_BYTES, .turns = turns,
                          .zp = 2 * op->zp_out + 1, .cout = op->cout, .step = 8 * quads, .plain = !left};
    return t;
}

/* Dot products from the biases r6 and r9 with columns r0, bytes skipped r2, weights r12 and turns r14. */
#define DOTS                                                                                                            \
    "mov r7, r6\n mov r8, r6\n mov r10, r9\n mov r11, r9\n add pc, r2\n nop.n\n"                                        \
    "1:\n" QUAD QUAD QUAD QUAD "subs.w r14, #1\n bne.w 1b\n"
/* Results of a channel, see mcu_dsp.h: cout in r0, 2 * zp_out + 1 in r1, out in r2, right - 1 in r5. */
#define RESULTS(mult, a, b, c)                                                                                          \
    "lsl r14, r1, r5\n smmla " a ", " a ", " mult ", r14\n smmla " b ", " b ", " mult ", r14\n"                         \
    "smmla " c ", " c ", " mult ", r14\n asr " a ", r5\n asr " b ", r5\n asr " c ", r5\n"                               \
    "ssat " a ", #8, " a ", asr #1\n ssat " b ", #8, " b ", asr #1\n ssat " c ", #8, " c ", asr #1\n"                   \
    "strb " b ", [r2, r0]\n strb " c ", [r2, r0, lsl #1]\n strb " a ", [r2], #1\n"

/* All whole pairs of channels, none shifted left. */
static __attribute__((naked, noipa)) void three_plain(mcu_triple *t __attribute__((unused))) {
    __asm__("push {r0, r4-r11, r14}\n ldr r12, [r0, #32]\n"
            "2: ldr r1, [sp]\n ldr r3, [r1, #12]\n ldm r3!, {r6, r9}\n str r3, [r1, #12]\n ldm r1, {r0, r2, r14}\n" DOTS
            "ldr r0, [sp]\n ldr r14, [r0, #12]\n ldm r14!, {r3, r4, r5}\n str r14, [r0, #12]\n"
            "ldrd r1, r2, [r0, #16]\n ldr r0, [r0, #24]\n" RESULTS("r3", "r6", "r7", "r8")
            "lsr r5, #8\n" RESULTS("r4", "r9", "r10", "r11")
            "ldr r0, [sp]\n str r2, [r0, #20]\n ldr r1, [r0, #28]\n cmp r2, r1\n bne.w 2b\n pop {r0, r4-r11, pc}");
}

/* One pair of channels: its dot products of three positions. */
static __attribute__((naked, noipa)) void three_dots(const mcu_triple *t __attribute__((unused)),
                                                     int32_t dots[6] __attribute__((unused))) {
    __asm__("push {r1, r4-r11, r14}\n ldr r12, [r0, #32]\n ldr r1, [r0, #12]\n ldm r1, {r6, r9}\n mov r1, r0\n"
            "ldm r1, {r0, r2, r14}\n" DOTS "pop {r0}\n stm r0, {r6-r11}\n pop {r4-r11, pc}");
}

/* A channel of three positions, see mcu_dsp.h; the first one is finished first: `out` may lie on `res`, any number of
 * positions before it. res: [3][cout] or null, out: [3][cout]. */
static inline __attribute__((always_inline)) void finish_three(const mcu_conv *op, const mcu_pair *pair, int c,
                                                               const int32_t dots[3], const int8_t *res, int8_t *out) {
    const int32_t mult = pair->mult[c], half = 1 << pair->right[c];
    const uint32_t left = pair->left[c], right = pair->right[c];
    const int cout = op->cout, bits = op->res_bits, zp_out = op->zp_out;
    const int32_t res_mult = op->res_mult, bias = res ? (1 << (bits - 1)) - op->res_zp * res_mult : 0;
    for (int p = 0; p < 3; p++, out += cout) {
        int32_t v = mcu_sar(mcu_high(mcu_shl(dots[p], left), mult, half), right) >> 1;
        if (res)
            v = (v + *res * res_mult + bias) >> bits, res += cout;
        *out = (int8_t)__ssat(zp_out + v, 8);
    }
}

/* Any pair. */
static void three_any(const mcu_conv *op, mcu_triple *t, int c, const int8_t *res, int8_t *out) {
    int32_t dots[6];
    three_dots(t, dots);
    for (int i = 0; i < 2 && c + i < op->cout; i++)
        if (res)
            finish_three(op, t->pair, i, dots + 3 * i, res + c + i, out + c + i);
        else
            finish_three(op, t->pair, i, dots + 3 * i, 0, out + c + i);
}

static void three_positions(const mcu_conv *op, mcu_triple *t, const int8_t *res, int8_t *out) {
    int c = 0;
    t->pair = op->pairs, t->weights = op->weights;
    if (t->plain && !res && op->cout > 1) {
        c = op->cout & ~1;
        t->out = out, t->end = out + c;
        three_plain(t);
        t->weights += c / 2 * t->step;
    }
    for (; c < op->cout; c += 2, t->pair++, t->weights += t->step)
        three_any(op, t, c, res, out);
}

#endif
#endif
