/* Rows of two channels as int16, out of a map of bytes, for the depth-wise convolution. */
#ifndef MCU_WIDEN_H
#define MCU_WIDEN_H
#include "mcu_dsp.h"

#if defined(__cplusplus)
extern "C" {
#endif

#if defined(MCU_DSP)

static inline void store16(int8_t *to, int v) {
    const int16_t half = (int16_t)v;
    memcpy(to, &half, 2);
}

/* Input of one or two channels and its place in the buffer. from: [rows][n][cin], to: int16 [rows][2][n]. */
typedef struct {
    const int8_t *from;
    int cin, wide; /* bytes to the next value, row */
    int8_t *to;
    int stride; /* bytes to the next row; half of it to the second channel */
    int n, rows;
} mcu_area;

static __attribute__((noinline)) void widen_one(const mcu_area *m) {
    for (int r = 0; r < m->rows; r++)
        for (int i = 0; i < m->n; i++)
            store16(m->to + r * m->stride + 2 * i, m->from[r * m->wide + i * m->cin]);
}

/* Value i of each row of two channels. */
static void widen_column(const mcu_area *m, int i) {
    const int wide = m->wide, stride = m->stride, apart = m->stride >> 1;
    const int8_t *from = m->from + i * m->cin;
    int8_t *to = m->to + 2 * i;
    for (int r = m->rows; r > 0; r--, from += wide, to += stride)
        store16(to, from[0]), store16(to + apart, from[1]);
}

/* Two positions of two channels: both values of a channel as a word of its line. */
#define WIDEN_TWO                                                                                                       \
    "ldrh %[u], [%[x]]\n ldrh %[v], [%[x], %[c]]\n add %[x], %[x], %[c], lsl #1\n pkhbt %[u], %[u], %[v], lsl #16\n"    \
    "sxtb16 %[v], %[u], ror #8\n sxtb16 %[u], %[u]\n str %[v], [%[to], %[apart]]\n str %[u], [%[to]], #4\n"

/* Words are aligned where an odd first value goes by itself. */
static void widen_two(const mcu_area *m) {
    const int head = (uintptr_t)m->to >> 1 & 1, pairs = (m->n - head) / 2;
    if (head)
        widen_column(m, 0);
    if ((m->n - head) & 1)
        widen_column(m, m->n - 1);
    const int8_t *x = m->from + head * m->cin;
    int8_t *to = m->to + 2 * head;
    int rows = m->rows;
    uint32_t n, u, v;
    __asm__ volatile("2: lsrs %[n], %[pairs], #1\n bcc 3f\n" WIDEN_TWO "3: beq 4f\n"
                     "1: " WIDEN_TWO WIDEN_TWO "subs %[n], #1\n bne 1b\n"
                     "4: add %[x], %[wide]\n add %[to], %[down]\n subs %[rows], #1\n bne 2b\n"
                     : [x] "+r"(x), [to] "+r"(to), [rows] "+r"(rows), [n] "=&r"(n), [u] "=&r"(u), [v] "=&r"(v)
                     : [c] "r"(m->cin), [apart] "r"(m->stride / 2), [pairs] "r"(pairs),
                       [wide] "r"(m->wide - 2 * pairs * m->cin), [down] "r"(m->stride - 4 * pairs)
                     : "cc", "memory");
}

static __attribute__((noinline)) void fill(int8_t *line, int v, int n) { /* line: int16 [n] */
    const uint32_t both = mcu_pair16(v, v);
    for (; n > 1; n -= 2, line += 4)
        memcpy(line, &both, 4);
    if (n)
        store16(line, v);
}

/* Copies words to a lower address. */
static void move_up(int8_t *to, const int8_t *from, int bytes) {
    int fours = bytes >> 4;
    if (fours)
        __asm__ volatile("1: ldmia %[from]!, {r4, r5, r6, r8}\n stmia %[to]!, {r4, r5, r6, r8}\n subs %[n], #1\n"
                         "bne 1b\n"
                         : [to] "+r"(to), [from] "+r"(from), [n] "+r"(fours)
                         :
                         : "r4", "r5", "r6", "r8", "cc", "memory");
    for (bytes &= 15; bytes > 0; bytes -= 4, to += 4, from += 4)
        memcpy(to, from, 4);
}

#endif

#if defined(__cplusplus)
}
#endif

#endif
