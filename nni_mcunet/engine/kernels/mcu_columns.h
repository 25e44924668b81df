/* Four positions of a 1x1 or dense convolution at once, in assembly: their inputs as int16 side by side ("columns"), in
 * scratch, and products of two taps with two output channels from registers. */
#ifndef MCU_COLUMNS_H
#define MCU_COLUMNS_H
#include "mcu_dsp.h"

#if defined(__cplusplus)
extern "C" {
#endif

#if defined(MCU_DSP)

/* Four positions as int16: [quads][2][4][2], of a quad of taps 0..3 first 0 and 2, then 1 and 3. */
enum { FOUR = 32 }; /* bytes a quad */

static inline void store_quad(mcu_quad v, int8_t *columns) {
    memcpy(columns, &v.even, 4);
    memcpy(columns + FOUR / 2, &v.odd, 4);
}

/* One position's part of the columns. x: [n]. */
static void expand(const int8_t *x, int n, int8_t *columns) {
    for (; n > 0; n -= 4, x += 4, columns += FOUR)
        store_quad(n < 4 ? mcu_load_rest(x, n) : mcu_load4(x), columns);
}

/* A quad of four positions: two rows of words at r0, two at r12, at a distance of r1. */
#define EXPAND_LOADS "ldr r10, [r0, r1]\n ldr r8, [r0], #4\n ldr r14, [r12, r1]\n ldr r11, [r12], #4\n"
#if defined(MCU_DUAL_ISSUE) /* a store beside each, see PAIRED */
#define EXPAND                                                                                                          \
    EXPAND_LOADS                                                                                                       \
    "sxtb16 r4, r8\n sxtb16 r5, r10\n str r4, [r3], #32\n sxtb16 r6, r11\n str r5, [r3, #-28]\n sxtb16 r7, r14\n"        \
    "str r6, [r3, #-24]\n sxtb16 r4, r8, ror #8\n str r7, [r3, #-20]\n sxtb16 r5, r10, ror #8\n str r4, [r3, #-16]\n"    \
    "sxtb16 r6, r11, ror #8\n str r5, [r3, #-12]\n sxtb16 r7, r14, ror #8\n str r6, [r3, #-8]\n str r7, [r3, #-4]\n"
#else
#define EXPAND                                                                                                          \
    EXPAND_LOADS                                                                                                       \
    "sxtb16 r4, r8\n sxtb16 r5, r10\n sxtb16 r6, r11\n sxtb16 r7, r14\n stm r3!, {r4, r5, r6, r7}\n"                    \
    "sxtb16 r4, r8, ror #8\n sxtb16 r5, r10, ror #8\n sxtb16 r6, r11, ror #8\n sxtb16 r7, r14, ror #8\n"               \
    "stm r3!, {r4, r5, r6, r7}\n"
#endif

/* The whole quads of four positions, one every `step` bytes; the end of the columns. */
static MCU_NAKED int8_t *expand_quads(const int8_t *x MCU_UNUSED, int step MCU_UNUSED, int n MCU_UNUSED,
                                      int8_t *columns MCU_UNUSED) {
    __asm__("push {r4-r8, r10, r11, r14}\n lsrs r2, r2, #3\n add r12, r0, r1, lsl #1\n bcc 1f\n" EXPAND
            "1: beq 3f\n 2: " EXPAND EXPAND "subs r2, #1\n bne 2b\n 3: mov r0, r3\n pop {r4-r8, r10, r11, pc}");
}

static int8_t *expand_four(const int8_t *x, int step, int n, int8_t *columns) {
    columns = expand_quads(x, step, n, columns);
    if (n & 3) {
        for (int i = 0; i < 4; i++)
            expand(x + i * step + (n & ~3), n & 3, columns + 4 * i);
        columns += FOUR;
    }
    return columns;
}

/* n values zp_in of one position's columns, n a multiple of 4; where the next ones go. */
static int8_t *expand_zero(const mcu_conv *op, int n, int8_t *columns) {
    const uint32_t both = mcu_pair16(op->zp_in, op->zp_in);
    for (; n > 0; n -= 4, columns += FOUR) {
        memcpy(columns, &both, 4);
        memcpy(columns + FOUR / 2, &both, 4);
    }
    return columns;
}

/* Four positions of pairs of channels. The assembly knows the order of the fields, and keeps a copy of all. */
typedef struct {
    const int8_t *columns;
    const int8_t *turn; /* where the first turn of the loop over the quads behind the first would begin, but that it */
    int skipped;        /* skips so many bytes of code, */
    const int8_t *stop; /* and where its last turn ends */
    const mcu_pair *pair, *end;
    int8_t *out; /* of the first position */
    int cout;    /* from one position to the next */
    int shift;   /* 2 * zp_out + 1; with a residual its fraction bits */
    const int8_t *res;
    int32_t res_mult;
    const int8_t *weights;
    int32_t res_bias; /* what the residual's zero point, rounding and zp_out add before the shift */
    int plain;        /* none, and no channel is shifted left */
} mcu_four;

/* Two taps of four positions, of the columns at r0 + x, with two channels: dot products in r4..r7 and r8..r11, the next
 * weights at r12. Loads follow each other where that takes a cycle less. */
#if defined(MCU_RAW) /* the second channel's weights are those of both, see mcu_conv_pw_raw */
#define SECOND(w) ""
#define APART "sub r8, r4\n sub r9, r5\n sub r10, r6\n sub r11, r7\n"
enum { SECOND_BYTES = 8 }; /* less code a quad */
#else
#define SECOND(w) "sxtb16 " w ", " w ", ror #8\n"
#define APART ""
enum { SECOND_BYTES = 0 };
#endif
#define DOT(to, x, w, acc) "smlad " to ", " x ", " w ", " acc "\n"
#define WEIGHTS(x)                                                                                                      \
    "ldr.w r1, [r12], #4\n ldr.w r2, [r0, #" x "+8]\n ldr.w r3, [r0, #" x "+12]\n sxtb16 r14, r1\n" SECOND("r1")
#define TAPS(x)                                                                                                         \
    WEIGHTS(x) DOT("r6", "r2", "r14", "r6") DOT("r7", "r3", "r14", "r7") DOT("r10", "r2", "r1", "r10")                  \
    DOT("r11", "r3", "r1", "r11") "ldrd r2, r3, [r0, #" x "]\n" DOT("r4", "r2", "r14", "r4")                            \
    DOT("r5", "r3", "r14", "r5") DOT("r8", "r2", "r1", "r8") DOT("r9", "r3", "r1", "r9")
/* The same from biases in r4 and r8. */
#define FIRST_TAPS(x)                                                                                                   \
    WEIGHTS(x) DOT("r6", "r2", "r14", "r4") DOT("r7", "r3", "r14", "r4") DOT("r10", "r2", "r1", "r8")                   \
    DOT("r11", "r3", "r1", "r8") "ldrd r2, r3, [r0, #" x "]\n" DOT("r5", "r3", "r14", "r4")                             \
    DOT("r4", "r2", "r14", "r4") DOT("r9", "r3", "r1", "r8") DOT("r8", "r2", "r1", "r8")
#if defined(MCU_DUAL_ISSUE)
/* The same for a core that issues a load together with the multiplication before it (Cortex-M7): r14 has the second half
 * of a quad's weights in time. a, b: what the sums of a channel begin with. */
#define ITSELF(to) to
#define BIAS_A(to) "r4"
#define BIAS_B(to) "r8"
#define PAIRED(x, next, a, b)                                                                                           \
    "ldr.w r3, [r0, #" x "+12]\n sxtb16 r1, r14\n ldr.w r2, [r0, #" x "+8]\n" SECOND("r14")               \
    DOT("r7", "r3", "r1", a("r7")) DOT("r11", "r3", "r14", b("r11")) "ldr.w r3, [r0, #" x "+4]\n"                        \
    DOT("r6", "r2", "r1", a("r6")) DOT("r10", "r2", "r14", b("r10")) "ldr.w r2, [r0, #" x "]\n"                          \
    DOT("r9", "r3", "r14", b("r9")) DOT("r8", "r2", "r14", b("r8")) next DOT("r5", "r3", "r1", a("r5"))                   \
    DOT("r4", "r2", "r1", a("r4"))
#define BOTH(x, a, b)                                                                                                   \
    "ldr.w r14, [r12], #8\n" PAIRED(x, "ldr.w r14, [r12, #-4]\n", a, b) PAIRED(x "+16", "", ITSELF, ITSELF)
#define FIRST_QUAD BOTH("0", BIAS_A, BIAS_B)
#define QUAD(x) BOTH(x, ITSELF, ITSELF)
#define QUADS QUAD("0") QUAD("32") QUAD("64") "adds r0, #96\n"
enum { UNROLLED = 3, QUAD_BYTES = 120 - SECOND_BYTES };
#else
#define FIRST_QUAD FIRST_TAPS("0") TAPS("16")
#define QUAD(x) TAPS(x) TAPS(x "+16")
#define QUADS QUAD("0") QUAD("32") QUAD("64") QUAD("96") "adds r0, #128\n"
enum { UNROLLED = 4, QUAD_BYTES = 112 - SECOND_BYTES };
#endif
/* From a pair of channels at r0 to its constants behind the biases there and the dot products. */
#define DOTS                                                                                                            \
    "2: ldrd r4, r8, [r0], #8\n str r0, [sp, #16]\n ldr r0, [sp]\n" FIRST_QUAD                                       \
    "ldrd r0, r2, [sp, #4]\n add pc, r2\n nop.n\n"                                                                     \
    "1:\n" QUADS "ldr r1, [sp, #12]\n cmp r0, r1\n bne.w 1b\n ldr r0, [sp, #16]\n ldm r0!, {r1, r2, r3}\n"
#define FOUR_OF(op, a, b, c, d, rest) op(a, rest) op(b, rest) op(c, rest) op(d, rest)
#define LSL(a, by) "lsl " a ", " by "\n"
#define ASR(a, by) "asr " a ", " by "\n"
#define SSAT(a, of) "ssat " a ", #8, " a of "\n"
#define HIGH(a, mult) "smmla " a ", " a ", " mult ", r14\n"
/* The same rounded twice, of channels that are shifted left once; see mcu_requant_twice. */
#define HIGH_TWICE(a, mult) \
    "lsl " a ", " a ", #1\n smmulr " a ", " a ", " mult "\n add " a ", " a ", " a ", asr #31\n add " a ", r14, " a ", lsl #1\n"
#define HALF_BIAS(a, bias) "add " a ", " bias ", " a ", asr #1\n"
#define CHANNEL_A(op, rest) FOUR_OF(op, "r4", "r5", "r6", "r7", rest)
#define CHANNEL_B(op, rest) FOUR_OF(op, "r8", "r9", "r10", "r11", rest)
/* Results from r4..r11 to out; the next pair at r0. */
#define STORE                                                                                                           \
    "bfi r4, r8, #8, #8\n bfi r5, r9, #8, #8\n bfi r6, r10, #8, #8\n bfi r7, r11, #8, #8\n ldrd r1, r2, [sp, #24]\n"     \
    "add r3, r1, r2\n strh r4, [r1]\n strh r5, [r1, r2]\n strh r6, [r1, r2, lsl #1]\n strh r7, [r3, r2, lsl #1]\n"      \
    "ldr r2, [sp, #20]\n adds r1, #2\n str r1, [sp, #24]\n cmp r0, r2\n bne.w 2b\n add sp, #52\n pop {r4-r11, pc}"
#define BEGIN "push {r4-r11, r14}\n ldm r0, {r1-r12, r14}\n push {r1-r12, r14}\n mov r0, r5\n"

#if defined(MCU_TWICE)
#define HIGH_PLAIN HIGH_TWICE
#else
#define HIGH_PLAIN HIGH
#endif

/* No residual and no channel shifted left; see mcu_dsp.h. */
/* clang-format off */
static MCU_NAKED void four_plain(const mcu_four *t MCU_UNUSED) {
    __asm__(BEGIN DOTS); /* in two: no C compiler has to take more than 4,095 characters */
    __asm__(APART "ldr r14, [sp, #32]\n lsl r14, r14, r3\n" CHANNEL_A(HIGH_PLAIN, "r1") CHANNEL_A(ASR, "r3")
            "lsr r3, #8\n ldr r14, [sp, #32]\n lsl r14, r14, r3\n" CHANNEL_B(HIGH_PLAIN, "r2") CHANNEL_B(ASR, "r3")
            CHANNEL_A(SSAT, ", asr #1") CHANNEL_B(SSAT, ", asr #1") STORE);
}
/* clang-format on */

#if !defined(MCU_TWICE)
/* A position's residual r14 at r0 times r1, sum, shift by r3. */
#define ADD_RESIDUAL(a, b)                                                                                              \
    "ldrsb r14, [r0, #1]\n mla " b ", r14, r1, " b "\n ldrsb r14, [r0]\n mla " a ", r14, r1, " a "\n add r0, r2\n"      \
    ASR(a, "r3") ASR(b, "r3") SSAT(a, "") SSAT(b, "")

/* Any: as in mcu_result, zp_out in the bias. `out` may lie on `res`, any number of positions before it. */
/* clang-format off */
static MCU_NAKED void four_any(const mcu_four *t MCU_UNUSED) {
    __asm__(BEGIN DOTS);
    __asm__(APART "str r0, [sp, #16]\n lsr r14, r3, #16\n" CHANNEL_A(LSL, "r14") "lsr r14, r3, #24\n"
            CHANNEL_B(LSL, "r14") "mov r14, #1\n lsl r14, r14, r3\n" CHANNEL_A(HIGH, "r1") CHANNEL_A(ASR, "r3")
            "lsr r3, #8\n mov r14, #1\n lsl r14, r14, r3\n" CHANNEL_B(HIGH, "r2") CHANNEL_B(ASR, "r3")
            "ldr r2, [sp, #48]\n" CHANNEL_A(HALF_BIAS, "r2") CHANNEL_B(HALF_BIAS, "r2")
            "ldrd r2, r3, [sp, #28]\n ldrd r0, r1, [sp, #36]\n"
            ADD_RESIDUAL("r4", "r8") ADD_RESIDUAL("r5", "r9") ADD_RESIDUAL("r6", "r10") ADD_RESIDUAL("r7", "r11")
            "ldr r0, [sp, #36]\n adds r0, #2\n str r0, [sp, #36]\n ldr r0, [sp, #16]\n" STORE);
}
/* clang-format on */
#endif

/* Is no channel shifted left, or, of those that round twice, each as four_plain takes it? */
static int is_plain(const mcu_conv *op) {
#if defined(MCU_TWICE)
    return mcu_is_plain_twice(op, 1);
#else
    unsigned left = 0;
    for (const mcu_pair *pair = op->pairs, *end = pair + (op->cout + 1) / 2; pair != end; pair++)
        left |= pair->left[0] | pair->left[1];
    return !left;
#endif
}

/* A convolution's positions from columns of so many taps. */
static mcu_four four_of(const mcu_conv *op, const int8_t *columns, int taps, const int8_t *res) {
    const int others = (taps + 3) / 4 - 1, turns = mcu_max((others + UNROLLED - 1) / UNROLLED, 1);
    const int skipped = turns * UNROLLED - others, bits = res ? op->res_bits : 0;
    mcu_four t;
    t.columns = columns, t.turn = columns + (1 - skipped) * FOUR, t.skipped = skipped * QUAD_BYTES;
    t.stop = columns + (1 + others) * FOUR, t.cout = op->cout, t.plain = !res && is_plain(op);
    t.shift = t.plain ? 2 * op->zp_out + 1 : bits;
    t.res_mult = res ? op->res_mult : 0;
    t.res_bias = op->zp_out * (1 << bits) + (res ? (1 << (bits - 1)) - op->res_zp * op->res_mult : 0);
    return t;
}

static void run_pairs(mcu_four *t, const mcu_pair *end) {
    t->end = end;
#if defined(MCU_TWICE)
    four_plain(t);
#else
    if (t->plain)
        four_plain(t);
    else
        four_any(t);
#endif
}

/* Is there assembly for these channels? */
static inline int in_fours(const mcu_four *t) {
#if defined(MCU_TWICE)
    return t->plain;
#else
    (void)t;
    return 1;
#endif
}

/* The last one of an odd number of channels, beside one of zeros, by way of a buffer of both. */
static void last_channel(const mcu_conv *op, mcu_four t, const int8_t *res, int8_t *out) {
    const int c = op->cout - 1;
    int8_t both[8] = {0};
    for (int p = 0; res && p < 4; p++)
        both[2 * p] = res[p * op->cout + c];
    t.pair = op->pairs + c / 2, t.weights = op->weights + c * (t.stop - t.columns) / 8;
    t.out = both, t.res = both, t.cout = 2;
    run_pairs(&t, t.pair + 1);
    for (int p = 0; p < 4; p++)
        out[p * op->cout + c] = both[2 * p];
}

static void four_positions(const mcu_conv *op, mcu_four *t, const int8_t *res, int8_t *out) {
    t->pair = op->pairs, t->weights = op->weights, t->out = out, t->res = res ? res : out;
    if (op->cout > 1)
        run_pairs(t, op->pairs + op->cout / 2);
    if (op->cout & 1)
        last_channel(op, *t, res, out);
}

#endif

#if defined(__cplusplus)
}
#endif

#endif
