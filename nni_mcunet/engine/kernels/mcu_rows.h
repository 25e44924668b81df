/* Two positions of four channels at once, in assembly: dot products of 16 taps each, from weights in rows, see
 * mcu_conv_pw_rows in mcu.h. */
#ifndef MCU_ROWS_H
#define MCU_ROWS_H
#include "mcu_mve.h"

#if defined(__cplusplus)
extern "C" {
#endif

#if defined(MCU_MVE)

/* Positions of four channels. The assembly knows the order of the fields, and keeps a copy of those from weights on. */
typedef struct {
    mcu_lanes lanes;
    const int8_t *x, *second; /* of the first position and of the next one */
    int8_t *out;
    int left; /* positions behind the first one */
    const int8_t *weights;
    int blocks;       /* of 16 taps, behind the first ones */
    int turn;         /* from the end of a position's taps to the position behind the next one */
    int zp;           /* zp_out */
    int cout;         /* from one output position to the next */
    int first, width; /* the first taps, and with the zeros behind them */
    const int8_t *res;
    int32_t res_mult, res_add; /* add: what its zero point adds */
    int res_bits;              /* as VRSHL takes them */
} mcu_row_job;

/* Taps of both positions at r1 and r3 with those of four channels at r5: sums in r0, r2, r4, r6 and r8, r10, r12, r14. */
#define ROW(dot, w, a, b) dot " " a ", q0, " w "\n" dot " " b ", q1, " w "\n"
#define LOAD_ROW(type, w, by) "vldrb." type " " w ", [r5], #" by "\n"
#define ALL_ROWS(dot, type, by)                                                                                         \
    "vldrb." type " q0, [r1], #" by "\n vldrb." type " q1, [r3], #" by "\n" LOAD_ROW(type, "q2", by)                    \
    LOAD_ROW(type, "q3", by) ROW(dot, "q2", "r0", "r8") LOAD_ROW(type, "q2", by) ROW(dot, "q3", "r2", "r10")            \
    LOAD_ROW(type, "q3", by) ROW(dot, "q2", "r4", "r12") ROW(dot, "q3", "r6", "r14")
/* The first taps, 16, 8 or any number. */
#define FIRST_16 ALL_ROWS("vmladav.s8", "u8", "16")
#define FIRST_8 ALL_ROWS("vmladav.s16", "s16", "8")
#define SOME_ROW(w, a, b) "vpst\n vldrbt.u8 " w ", [r5]\n add r5, r14\n" ROW("vmladav.s8", w, a, b)
#define FIRST_ANY                                                                                                       \
    "ldrd r0, r14, [sp, #20]\n vctp.8 r0\n vpstt\n vldrbt.u8 q0, [r1]\n vldrbt.u8 q1, [r3]\n add r1, r0\n add r3, r0\n"  \
    SOME_ROW("q2", "r0", "r8") SOME_ROW("q3", "r2", "r10") SOME_ROW("q2", "r4", "r12") SOME_ROW("q3", "r6", "r14")

/* The end of both positions in q0 and q1. */
#define BOTH_ROWS(text) text("q0") text("q1")
#define ADD_BIAS(q) "vadd.i32 " q ", " q ", q4\n"
#define SCALE(q) "vshl.s32 " q ", " q ", q7\n" MCU_SCALE(q, "q5", "q2") "vrshl.s32 " q ", " q ", q6\n"
#define ROWS_RESIDUAL                                                                                                   \
    "ldrd r0, r2, [sp, #28]\n ldrd r4, r6, [sp, #36]\n ldr r8, [sp, #16]\n vldrb.s32 q2, [r0]\n add r0, r8\n"           \
    "vldrb.s32 q3, [r0]\n add r0, r8\n str r0, [sp, #28]\n vmla.s32 q0, q2, r2\n vmla.s32 q1, q3, r2\n"                 \
    "vadd.i32 q0, q0, r4\n vadd.i32 q1, q1, r4\n vrshl.s32 q0, r6\n vrshl.s32 q1, r6\n"

/* On the stack: weights, blocks, turn, zp, cout, first, width, res, res_mult, res_add, res_bits. An odd last position
 * goes as two, the second of which lies on the first. */
#define ROWS(first, end)                                                                                                \
    __asm__("push {r4-r11, r14}\n vpush {d8-d15}\n vldrw.u32 q4, [r0]\n vldrw.u32 q5, [r0, #16]\n"                      \
            "vldrw.u32 q6, [r0, #32]\n vldrw.u32 q7, [r0, #48]\n add r12, r0, #80\n ldm r12, {r1-r11}\n"                \
            "push {r1-r11}\n ldrd r1, r3, [r0, #64]\n ldrd r7, r11, [r0, #72]\n cmp r11, #0\n beq 5f\n"                 \
            "2: ldrd r5, r9, [sp]\n" first "subs r9, #1\n blt 4f\n"                                                     \
            "3: " ALL_ROWS("vmladava.s8", "u8", "16") "subs r9, #1\n bge 3b\n"                                          \
            "4: vmov q0[2], q0[0], r0, r4\n vmov q0[3], q0[1], r2, r6\n vmov q1[2], q1[0], r8, r12\n"                   \
            "vmov q1[3], q1[1], r10, r14\n" BOTH_ROWS(ADD_BIAS) BOTH_ROWS(SCALE) end                                                    \
            "ldrd r0, r2, [sp, #8]\n ldr r4, [sp, #16]\n vqmovnb.s32 q0, q0\n vqmovnt.s32 q0, q1\n"                     \
            "vqadd.s16 q0, q0, r2\n vqmovnb.s16 q0, q0\n add r1, r0\n add r3, r0\n vstrb.32 q0, [r7]\n add r7, r4\n"    \
            "vshr.u32 q0, q0, #16\n subs r11, #2\n vstrb.32 q0, [r7]\n add r7, r4\n bgt 2b\n bne 6f\n"                  \
            "5: mov r3, r1\n movs r4, #0\n str r4, [sp, #16]\n b 2b\n"                                                  \
            "6: add sp, #44\n vpop {d8-d15}\n pop {r4-r11, pc}")

/* Of any convolution, the two most frequent numbers of first taps by themselves, and with a residual. */
static MCU_NAKED void rows_16(const mcu_row_job *t MCU_UNUSED) { ROWS(FIRST_16, ""); }
static MCU_NAKED void rows_8(const mcu_row_job *t MCU_UNUSED) { ROWS(FIRST_8, ""); }
static MCU_NAKED void rows_any(const mcu_row_job *t MCU_UNUSED) { ROWS(FIRST_ANY, ""); }
#if !defined(MCU_TWICE)
static MCU_NAKED void rows_residual(const mcu_row_job *t MCU_UNUSED) { ROWS(FIRST_ANY, ROWS_RESIDUAL); }
#endif

#endif

#if defined(__cplusplus)
}
#endif

#endif
