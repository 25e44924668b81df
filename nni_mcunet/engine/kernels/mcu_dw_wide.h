/* Rows of a depth-wise convolution with windows of 5x5 or 7x7: four outputs a pass over the rows of their windows, so that
 * words of inputs and taps serve several; two where one or two are left. */
#ifndef MCU_DW_WIDE_H
#define MCU_DW_WIDE_H
#include "mcu_dw.h"

#if defined(__cplusplus)
extern "C" {
#endif

#if defined(MCU_DSP)

/* Rows of windows of one channel: square ones of 3, 5 or 7, at steps of 1 or 2. All distances are in bytes. The assembly
 * knows the order of the fields; that of 3x3 windows keeps a copy of all up to `high`. */
typedef struct {
    int32_t bias, mult, half; /* as in mcu_dsp.h, with */
    uint32_t right;           /* one less than right; the left shift is in the weights and the bias */
    int step;                 /* to the next output */
    int count;                /* outputs of a row; in the copy the end of its fours of outputs */
    int span, form;           /* bytes of those, and how many outputs are left; or see strip_wide */
    const int8_t *rows;       /* int16 [][], where the first window begins */
    int stride, down;         /* to the next row, row of windows */
    int8_t *out;
    int line, high;    /* to the next row of outputs; rows of outputs */
    uint32_t taps[42]; /* [k][k - 1] or, at steps of 2, [k][(k + 1) / 2] */
} mcu_strip;

/* One row of the windows of four outputs with sums in r4..r7: its words at r0 and taps at r1, to both of the next row, which
 * begins r2 bytes on. At steps of 1 outputs 1 and 3 begin in the upper half of a word. */
#define MLA(kind, sum, x, w) kind " " sum ", " x ", " w ", " sum "\n"
#if defined(MCU_DUAL_ISSUE) /* a load beside each multiplication, see PAIRED in mcu_columns.h */
#define LOAD_WIDE(to, from) "ldr.w " to ", [" from "]\n"
#define FOUR5_S1    \
    LOAD_WIDE("r8", "r0, #0") LOAD_WIDE("r11", "r1, #0") LOAD_WIDE("r9", "r0, #4") LOAD_WIDE("r14", "r1, #8")    \
    MLA("smlad", "r4", "r8", "r11") LOAD_WIDE("r12", "r1, #4") MLA("smlatb", "r5", "r8", "r11") LOAD_WIDE("r10", "r0, #8")    \
    MLA("smlad", "r6", "r9", "r11") LOAD_WIDE("r8", "r0, #12") MLA("smlatb", "r7", "r9", "r11") LOAD_WIDE("r11", "r1, #12")    \
    MLA("smlad", "r5", "r9", "r12") MLA("smlad", "r7", "r10", "r12") "adds r1, #16\n" MLA("smlad", "r4", "r9", "r14")    \
    MLA("smlad", "r6", "r10", "r14") "add r0, r2\n" MLA("smlabt", "r4", "r10", "r11") MLA("smlad", "r5", "r10", "r11")    \
    MLA("smlabt", "r6", "r8", "r11") MLA("smlad", "r7", "r8", "r11")
#define FOUR5_S2    \
    LOAD_WIDE("r8", "r0, #0") LOAD_WIDE("r11", "r1, #0") LOAD_WIDE("r9", "r0, #4") LOAD_WIDE("r12", "r1, #4")    \
    MLA("smlad", "r4", "r8", "r11") LOAD_WIDE("r10", "r0, #8") MLA("smlad", "r5", "r9", "r11") LOAD_WIDE("r14", "r1, #8")    \
    MLA("smlad", "r4", "r9", "r12") LOAD_WIDE("r8", "r0, #12") MLA("smlad", "r6", "r10", "r11") LOAD_WIDE("r9", "r0, #16")    \
    MLA("smlad", "r5", "r10", "r12") "adds r1, #12\n" MLA("smlabb", "r4", "r10", "r14") LOAD_WIDE("r10", "r0, #20")    \
    MLA("smlad", "r7", "r8", "r11") "add r0, r2\n" MLA("smlad", "r6", "r8", "r12") MLA("smlad", "r7", "r9", "r12")    \
    MLA("smlabb", "r5", "r8", "r14") MLA("smlabb", "r6", "r9", "r14") MLA("smlabb", "r7", "r10", "r14")
#define FOUR7_S1    \
    LOAD_WIDE("r8", "r0, #0") LOAD_WIDE("r11", "r1, #0") LOAD_WIDE("r9", "r0, #4") LOAD_WIDE("r12", "r1, #4")    \
    MLA("smlad", "r4", "r8", "r11") LOAD_WIDE("r14", "r1, #8") MLA("smlatb", "r5", "r8", "r11") LOAD_WIDE("r10", "r0, #8")    \
    MLA("smlad", "r6", "r9", "r11") LOAD_WIDE("r8", "r0, #12") MLA("smlatb", "r7", "r9", "r11") LOAD_WIDE("r11", "r1, #12")    \
    MLA("smlad", "r5", "r9", "r12") MLA("smlad", "r7", "r10", "r12") LOAD_WIDE("r12", "r1, #16") MLA("smlad", "r4", "r9", "r14")    \
    LOAD_WIDE("r9", "r0, #16") MLA("smlad", "r6", "r10", "r14") LOAD_WIDE("r14", "r1, #20") MLA("smlad", "r5", "r10", "r11")    \
    "adds r1, #24\n" MLA("smlad", "r7", "r8", "r11") "add r0, r2\n" MLA("smlad", "r4", "r10", "r12")    \
    MLA("smlad", "r6", "r8", "r12") MLA("smlabt", "r4", "r8", "r14") MLA("smlad", "r5", "r8", "r14") MLA("smlabt", "r6", "r9", "r14")    \
    MLA("smlad", "r7", "r9", "r14")
#define FOUR7_S2    \
    LOAD_WIDE("r8", "r0, #0") LOAD_WIDE("r11", "r1, #0") LOAD_WIDE("r9", "r0, #4") LOAD_WIDE("r12", "r1, #4")    \
    MLA("smlad", "r4", "r8", "r11") LOAD_WIDE("r10", "r0, #8") MLA("smlad", "r5", "r9", "r11") LOAD_WIDE("r8", "r0, #12")    \
    MLA("smlad", "r4", "r9", "r12") LOAD_WIDE("r14", "r0, #16") MLA("smlad", "r6", "r10", "r11") LOAD_WIDE("r9", "r0, #20")    \
    MLA("smlad", "r5", "r10", "r12") MLA("smlad", "r7", "r8", "r11") LOAD_WIDE("r11", "r1, #8") MLA("smlad", "r6", "r8", "r12")    \
    MLA("smlad", "r7", "r14", "r12") LOAD_WIDE("r12", "r1, #12") MLA("smlad", "r4", "r10", "r11") LOAD_WIDE("r10", "r0, #24")    \
    MLA("smlad", "r5", "r8", "r11") "adds r1, #16\n" MLA("smlad", "r6", "r14", "r11") "add r0, r2\n"    \
    MLA("smlad", "r7", "r9", "r11") MLA("smlabb", "r4", "r8", "r12") MLA("smlabb", "r5", "r14", "r12") MLA("smlabb", "r6", "r9", "r12")    \
    MLA("smlabb", "r7", "r10", "r12")
#else
#define BEGIN_S1                                                                                                        \
    MLA("smlad", "r4", "r8", "r11") MLA("smlatb", "r5", "r8", "r11") MLA("smlad", "r6", "r9", "r11")                    \
    MLA("smlatb", "r7", "r9", "r11") MLA("smlad", "r5", "r9", "r12") MLA("smlad", "r7", "r10", "r12")                   \
    MLA("smlad", "r4", "r9", "r14") MLA("smlad", "r6", "r10", "r14")
#define FOUR5_S1                                                                                                        \
    "ldm r0, {r8, r9, r10}\n ldm.w r1!, {r11, r12, r14}\n" BEGIN_S1 "ldr r8, [r0, #12]\n ldr r11, [r1], #4\n add r0, r2\n" \
    MLA("smlabt", "r4", "r10", "r11") MLA("smlad", "r5", "r10", "r11") MLA("smlabt", "r6", "r8", "r11")                 \
    MLA("smlad", "r7", "r8", "r11")
#define FOUR7_S1                                                                                                        \
    "ldm r0, {r8, r9, r10}\n ldm.w r1!, {r11, r12, r14}\n" BEGIN_S1                                                       \
    "ldrd r8, r9, [r0, #12]\n ldm.w r1!, {r11, r12, r14}\n add r0, r2\n"                                                 \
    MLA("smlad", "r5", "r10", "r11") MLA("smlad", "r7", "r8", "r11") MLA("smlad", "r4", "r10", "r12")                   \
    MLA("smlad", "r6", "r8", "r12") MLA("smlabt", "r4", "r8", "r14") MLA("smlad", "r5", "r8", "r14")                    \
    MLA("smlabt", "r6", "r9", "r14") MLA("smlad", "r7", "r9", "r14")
#define FOUR5_S2                                                                                                        \
    "ldm r0, {r8, r9, r10}\n ldm.w r1!, {r11, r12, r14}\n" MLA("smlad", "r4", "r8", "r11")                                \
    MLA("smlad", "r5", "r9", "r11") MLA("smlad", "r6", "r10", "r11") MLA("smlad", "r4", "r9", "r12")                    \
    MLA("smlad", "r5", "r10", "r12") MLA("smlabb", "r4", "r10", "r14") "ldrd r8, r9, [r0, #12]\n ldr r10, [r0, #20]\n"    \
    "add r0, r2\n" MLA("smlad", "r7", "r8", "r11") MLA("smlad", "r6", "r8", "r12") MLA("smlad", "r7", "r9", "r12")       \
    MLA("smlabb", "r5", "r8", "r14") MLA("smlabb", "r6", "r9", "r14") MLA("smlabb", "r7", "r10", "r14")
#define FOUR7_S2                                                                                                        \
    "ldm r0, {r8, r9, r10}\n ldm.w r1!, {r11, r12}\n" MLA("smlad", "r4", "r8", "r11") MLA("smlad", "r5", "r9", "r11")     \
    MLA("smlad", "r6", "r10", "r11") MLA("smlad", "r4", "r9", "r12") MLA("smlad", "r5", "r10", "r12")                   \
    "ldrd r8, r14, [r0, #12]\n" MLA("smlad", "r7", "r8", "r11") MLA("smlad", "r6", "r8", "r12")                          \
    MLA("smlad", "r7", "r14", "r12") "ldm.w r1!, {r11, r12}\n" MLA("smlad", "r4", "r10", "r11")                          \
    MLA("smlad", "r5", "r8", "r11") MLA("smlad", "r6", "r14", "r11") "ldrd r9, r10, [r0, #20]\n add r0, r2\n"             \
    MLA("smlad", "r7", "r9", "r11") MLA("smlabb", "r4", "r8", "r12") MLA("smlabb", "r5", "r14", "r12")                  \
    MLA("smlabb", "r6", "r9", "r12") MLA("smlabb", "r7", "r10", "r12")
#endif
/* All rows of windows of 5 or 7, from the second of two on. */
#define ROWS(less, row) "movs r3, #" less "\n b.n 2f\n 1: " row "2: " row "subs r3, #2\n bge.n 1b\n b.w 5f\n"

/* The same of two outputs with sums in r4 and r5. */
#define TWO5_S1                                                                                                         \
    "ldm r0, {r6, r7, r8}\n ldm.w r1!, {r9, r10, r11, r12}\n" MLA("smlad", "r4", "r6", "r9")                              \
    MLA("smlatb", "r5", "r6", "r9") MLA("smlad", "r5", "r7", "r10") MLA("smlad", "r4", "r7", "r11")                     \
    MLA("smlad", "r5", "r8", "r12") MLA("smlabt", "r4", "r8", "r12")
#define TWO5_S2                                                                                                         \
    "ldm r0, {r6, r7, r8, r9}\n ldm.w r1!, {r10, r11, r12}\n" MLA("smlad", "r4", "r6", "r10")                             \
    MLA("smlad", "r5", "r7", "r10") MLA("smlad", "r4", "r7", "r11") MLA("smlad", "r5", "r8", "r11")                     \
    MLA("smlabb", "r4", "r8", "r12") MLA("smlabb", "r5", "r9", "r12")
#define TWO7_S1                                                                                                         \
    "ldm r0, {r6, r7, r8, r9}\n ldm.w r1!, {r10, r11, r12, r14}\n" MLA("smlad", "r4", "r6", "r10")                        \
    MLA("smlatb", "r5", "r6", "r10") MLA("smlad", "r5", "r7", "r11") MLA("smlad", "r4", "r7", "r12")                    \
    MLA("smlad", "r5", "r8", "r14") "ldm.w r1!, {r10, r11}\n" MLA("smlad", "r4", "r8", "r10")                            \
    MLA("smlad", "r5", "r9", "r11") MLA("smlabt", "r4", "r9", "r11")
#define TWO7_S2                                                                                                         \
    "ldm r0, {r6, r7, r8, r9, r10}\n ldm.w r1!, {r11, r12, r14}\n" MLA("smlad", "r4", "r6", "r11")                        \
    MLA("smlad", "r5", "r7", "r11") MLA("smlad", "r4", "r7", "r12") MLA("smlad", "r5", "r8", "r12")                     \
    MLA("smlad", "r4", "r8", "r14") MLA("smlad", "r5", "r9", "r14") "ldr r11, [r1], #4\n"                                \
    MLA("smlabb", "r4", "r9", "r11") MLA("smlabb", "r5", "r10", "r11")
#define PAIR(k, row) "movs r3, #" k "\n 1: " row "add r0, r2\n subs r3, #1\n bne.n 1b\n b.w 6f\n"

/* Sums times r1, with half a step r2; results. */
#if defined(MCU_TWICE)
#define HIGH_WIDE(a) "smmulr " a ", " a ", r1\n add " a ", " a ", " a ", asr #31\n add " a ", r2, " a ", lsl #1\n"
#else
#define HIGH_WIDE(a) "smmla " a ", " a ", r1, r2\n"
#endif
#define LAST_WIDE(a) "asr " a ", r1\n ssat " a ", #8, " a ", asr #1\n"
/* One of four places in the code by r3. */
#define PLACES(a, b, c, d)                                                                                              \
    "tbh [pc, r3, lsl #1]\n 8: .short (" a "f - 8b) / 2, (" b "f - 8b) / 2, (" c "f - 8b) / 2, (" d "f - 8b) / 2\n"

/* form: 0 and 1 for windows of 5 at steps of 1 and 2, 2 and 3 for those of 7. On the stack: t, form, where the first of four
 * windows begins and its output, how many are left of the row; rows left; where the row begins and its output; bytes of
 * four steps. */
/* clang-format off */
static MCU_NAKED void strip_wide(const mcu_strip *t MCU_UNUSED) {
    __asm__("push {r4-r11, r14}\n sub sp, #36\n ldr r1, [r0, #28]\n and r2, r1, #1\n adds r2, #1\n lsls r2, #3\n str r2, [sp, #32]\n"
            "strd r0, r1, [sp]\n ldr r2, [r0, #52]\n str r2, [sp, #20]\n ldr r2, [r0, #32]\n ldr r3, [r0, #44]\n"
            "3: strd r2, r3, [sp, #24]\n strd r2, r3, [sp, #8]\n ldr r1, [r0, #20]\n"
            "4: str r1, [sp, #16]\n ldr r4, [r0]\n ldr r2, [r0, #36]\n ldr r3, [sp, #4]\n cmp r1, #2\n add.w r1, r0, #56\n"
            "ldr r0, [sp, #8]\n mov r5, r4\n ble.w 7f\n mov r6, r4\n mov r7, r4\n" PLACES("11", "12", "13", "14"));
    __asm__("11: " ROWS("4", FOUR5_S1) "12: " ROWS("4", FOUR5_S2));
    __asm__("13: " ROWS("6", FOUR7_S1));
    __asm__("14: " ROWS("6", FOUR7_S2));
    __asm__("5: ldr r0, [sp]\n ldrd r1, r2, [r0, #4]\n" HIGH_WIDE("r4") HIGH_WIDE("r5") HIGH_WIDE("r6") HIGH_WIDE("r7")
            "ldrd r1, r2, [r0, #12]\n" LAST_WIDE("r4") LAST_WIDE("r5") LAST_WIDE("r6") LAST_WIDE("r7")
            "ldrd r3, r1, [sp, #12]\n strb r4, [r3]\n strb r5, [r3, r2]\n add r3, r3, r2, lsl #1\n strb r6, [r3]\n"
            "subs r1, #4\n it pl\n strbpl r7, [r3, r2]\n add r3, r3, r2, lsl #1\n str r3, [sp, #12]\n ldr r2, [sp, #8]\n"
            "ldr r3, [sp, #32]\n add r2, r3\n str r2, [sp, #8]\n cmp r1, #0\n bgt.w 4b\n"
            "9: ldr r1, [sp, #20]\n subs r1, #1\n str r1, [sp, #20]\n ldrd r2, r3, [sp, #24]\n ldr r1, [r0, #40]\n add r2, r1\n"
            "ldr r1, [r0, #48]\n add r3, r1\n bne.w 3b\n add sp, #36\n pop {r4-r11, pc}");
    __asm__("7: " PLACES("11", "12", "13", "14") "11: " PAIR("5", TWO5_S1) "12: " PAIR("5", TWO5_S2));
    __asm__("13: " PAIR("7", TWO7_S1) "14: " PAIR("7", TWO7_S2)
            "6: ldr r0, [sp]\n ldrd r1, r2, [r0, #4]\n" HIGH_WIDE("r4") HIGH_WIDE("r5") "ldrd r1, r2, [r0, #12]\n"
            LAST_WIDE("r4") LAST_WIDE("r5") "ldrd r3, r1, [sp, #12]\n strb r4, [r3]\n cmp r1, #2\n it eq\n strbeq r5, [r3, r2]\n"
            "b.w 9b\n");
}
/* clang-format on */

#endif

#if defined(__cplusplus)
}
#endif

#endif
