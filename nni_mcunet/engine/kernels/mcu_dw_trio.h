/* Windows of 3x3 at steps of 1 with vectors: four columns of two rows of outputs a turn, a multiplication by each weight. */
#ifndef MCU_DW_TRIO_H
#define MCU_DW_TRIO_H
#include "mcu_mve.h"

#if defined(__cplusplus)
extern "C" {
#endif

#if defined(MCU_MVE)

/* A strip of rows of outputs of one channel. The assembly knows the order of the fields, and keeps a copy of those from
 * last on. bias and weights are shifted left as the sums are to be. */
typedef struct {
    int32_t bias[4], mult[4];
    uint32_t upper[4]; /* where four outputs go */
    int32_t right[4];  /* as VRSHL takes it */
    int32_t weights[8], last;
    int next_out; /* from four outputs to the next */
    int left;     /* used in the copy */
    int again, again_out, fours;
    const int8_t *window;
    int8_t *out;
    int down, down_out, rows, row, row_out;
    int line, below; /* to the next line, and from the third to the fourth */
    int unused;
    int16_t zp[8];
    uint32_t lower[4]; /* where those of the row below go */
    int some;          /* outputs of a turn, up to 4 */
} mcu_trio;

/* A line at p times u, v, w for the upper outputs, and times x, y, z for those below. */
#define MULTIPLY(q, value, by) "vmla.s32 " q ", " value ", " by "\n"
#define LOAD_FIRST(p) "vldrb.s32 q2, [" p "], #4\n"
#define LOAD_SECOND(p) "vldrb.s32 q3, [" p ", #-3]\n"
#define LOAD_THIRD(p) "vldrb.s32 q2, [" p ", #-2]\n"
#define ONE_LINE(p, q, u, v, w)                                                                                         \
    LOAD_FIRST(p) MULTIPLY(q, "q2", u) LOAD_SECOND(p) MULTIPLY(q, "q3", v) LOAD_THIRD(p) MULTIPLY(q, "q2", w)
#define TWO_LINES(p, u, v, w, x, y, z)                                                                                  \
    LOAD_FIRST(p) MULTIPLY("q0", "q2", u) MULTIPLY("q1", "q2", x) LOAD_SECOND(p) MULTIPLY("q0", "q3", v)                \
    MULTIPLY("q1", "q3", y) LOAD_THIRD(p) MULTIPLY("q0", "q2", w) MULTIPLY("q1", "q2", z)
#define COPY_VECTOR "vldrw.u32 q0, [r1], #16\n vstrw.32 q0, [r2], #16\n"

/* Lines at r0..r3, weights in r4..r12, outputs at r14. On the stack: last 0, next_out 4, left 8, again 12, again_out 16,
 * fours 20, window 24, out 28, down 32, down_out 36, rows 40, row 44, row_out 48, line 52, below 56, zp 64, lower 80. */
static MCU_NAKED void trio(const mcu_trio *t MCU_UNUSED) {
    __asm__(
        "push {r4-r11, r14}\n vpush {d8-d15}\n sub sp, #96\n vldrw.u32 q4, [r0]\n vldrw.u32 q5, [r0, #16]\n"
        "vldrw.u32 q6, [r0, #32]\n vldrw.u32 q7, [r0, #48]\n ldr r1, [r0, #192]\n vctp.32 r1\n"
        "add r1, r0, #96\n mov r2, sp\n" COPY_VECTOR COPY_VECTOR COPY_VECTOR COPY_VECTOR COPY_VECTOR COPY_VECTOR
        "add r1, r0, #64\n ldm r1, {r4-r11}\n ldrd r0, r14, [sp, #24]\n"
        "1: strd r0, r14, [sp, #24]\n ldr r1, [sp, #20]\n str r1, [sp, #8]\n ldrd r12, r3, [sp, #52]\n"
        "add r1, r0, r12\n add r2, r1, r12\n add r3, r2\n"
        "2: ldr r12, [sp]\n vmov q0, q4\n vmov q1, q4\n" ONE_LINE("r0", "q0", "r4", "r5", "r6") TWO_LINES(
            "r1", "r7", "r8", "r9", "r4", "r5", "r6") TWO_LINES("r2", "r10", "r11", "r12", "r7", "r8", "r9")
            ONE_LINE("r3", "q1", "r10", "r11", "r12") MCU_SCALE("q0", "q5", "q2") MCU_SCALE(
                "q1", "q5",
                "q3") "vrshl.s32 q0, q0, q7\n vrshl.s32 q1, q1, q7\n"
                      "vqmovnb.s32 q0, q0\n vqmovnt.s32 q0, q1\n vldrw.u32 q2, [sp, #64]\n vqadd.s16 q0, q0, q2\n"
                      "vqmovnb.s16 q0, q0\n vshr.u32 q1, q0, #16\n vldrw.u32 q2, [sp, #80]\n ldr r12, [sp, #4]\n"
                      "vpstt\n vstrbt.32 q1, [r14, q2]\n vstrbt.32 q0, [r14, q6]\n add r14, r12\n ldr r12, [sp, #8]\n"
                      "subs r12, #1\n str r12, [sp, #8]\n cmp r12, #1\n bgt 2b\n blt 5f\n ldr r12, [sp, #12]\n sub "
                      "r0, r12\n"
                      "sub r1, r12\n sub r2, r12\n sub r3, r12\n ldr r12, [sp, #16]\n sub r14, r12\n b 2b\n"
                      "5: ldr r12, [sp, #40]\n subs r12, #2\n str r12, [sp, #40]\n ble 6f\n ldrd r0, r14, [sp, #24]\n"
                      "ldrd r1, r2, [sp, #32]\n add r0, r1\n add r14, r2\n cmp r12, #1\n bne 1b\n ldrd r1, r2, [sp, "
                      "#44]\n"
                      "sub r0, r1\n sub r14, r2\n b 1b\n"
                      "6: add sp, #96\n vpop {d8-d15}\n pop {r4-r11, pc}");
}

#endif

#if defined(__cplusplus)
}
#endif

#endif
