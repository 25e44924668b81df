/* The depth-wise convolution with the DSP extension: rows of two channels as int16, so that SMLAD multiplies two
 * neighbouring columns, two to four outputs at once; the rows of a strip first, then its outputs, so that it runs in place. */
#include "mcu_dw_few.h"
#include "mcu_dw_wide.h"
#include "mcu_widen.h"
#if defined(MCU_DSP)

/* A row of taps times 2^left: at steps of 1 taps 0 and 1, 1 and 2, ...; at steps of 2 taps 0 and 1, 2 and 3, ... */
static inline __attribute__((always_inline)) void pair_taps(const int8_t *w, int left, int k, int s, uint32_t *taps) {
    int32_t tap[8] = {0};
#pragma GCC unroll 8
    for (int q = 0; q < k; q++)
        tap[q] = w[q];
    if (left)
#pragma GCC unroll 8
        for (int q = 0; q < k; q++)
            tap[q] = mcu_shl(tap[q], (uint32_t)left);
#pragma GCC unroll 8
    for (int q = 0; q + (s == 1) < k; q += s)
        *taps++ = mcu_pair16(tap[q], tap[q + 1]);
}

/* One row of four outputs of a 3x3 window, sums in r2, r5, r12 and r14, which has the bias at first: words at r0, which
 * `move` takes to the next row, u, v: its taps; a, b, c: what the other sums begin with. At steps of 2 the third taps of
 * two rows share r7. from, more, at: how they are loaded. TWO3_*: the same of two outputs with sums in r5, at first the
 * bias, and r12. */
#if defined(MCU_DUAL_ISSUE)
/* The words lie in r3, r4 and, at steps of 2, r9. next3, next4, next9: loads of what these have next, each beside a
 * multiplication; see PAIRED in mcu_columns.h. */
#define LOAD(to, from) "ldr.w " to ", [" from "\n"
#define FOUR3_S1(u, v, a, b, c, at, move, next3, next4)                                                                 \
    "smlatb r5, r3, " u ", " b "\n smlad r2, r3, " u ", " a "\n" LOAD("r3", at) "smlad r12, r4, " u ", " c "\n"          \
    "smlatb r14, r4, " u ", r14\n" move "smlabt r12, r3, " v ", r12\n smlad r14, r3, " v ", r14\n" next3                \
    "smlabt r2, r4, " v ", r2\n smlad r5, r4, " v ", r5\n" next4
#define FOUR3_S2(u, third, v, a, b, c, from, more, at, move, next3, next4, next9)                                                       \
    "smlad r2, r3, " u ", " a "\n" LOAD("r3", "r0, #12]") "smlad r5, r4, " u ", " b "\n" third " r2, r4, " v ", r2\n"      \
    LOAD("r4", at) "smlad r12, r9, " u ", " c "\n" move third " r5, r9, " v ", r5\n" next9                       \
    "smlad r14, r3, " u ", r14\n" third " r12, r3, " v ", r12\n" next3 third " r14, r4, " v ", r14\n" next4
#define TWO3_S1(u, v, b, move, next3, next4)                                                                            \
    "smlatb r12, r3, " u ", " b "\n" move "smlad r5, r3, " u ", r5\n" next3 "smlabt r5, r4, " v ", r5\n"                 \
    "smlad r12, r4, " v ", r12\n" next4
#define TWO3_S2(u, third, v, b, move, next3, next4, next9)                                                              \
    "smlad r12, r4, " u ", " b "\n" move "smlad r5, r3, " u ", r5\n" next3 third " r5, r4, " v ", r5\n" next4           \
    third " r12, r9, " v ", r12\n" next9
#define BEGIN3 LOAD("r3", "r0]") LOAD("r4", "r0, #4]")
#define BEGIN3_S2 BEGIN3 LOAD("r9", "r0, #8]")
#define LOAD3(offset, next) LOAD("r3", "sp, #" offset "]") LOAD("r4", "sp, #" next "]")
#define SCALE3 "" /* r3 and r4 have it */
#else
#define LOAD(to, from) ""
#define FOUR3_S1(u, v, a, b, c, at, move, next3, next4)                                                                 \
    "ldrd r3, r4, [r0]\n smlatb r5, r3, " u ", " b "\n smlad r2, r3, " u ", " a "\n ldr r3, [" at "\n"                   \
    "smlad r12, r4, " u ", " c "\n smlatb r14, r4, " u ", r14\n smlabt r12, r3, " v ", r12\n"                           \
    "smlad r14, r3, " v ", r14\n smlabt r2, r4, " v ", r2\n smlad r5, r4, " v ", r5\n" move
#define FOUR3_S2(u, third, v, a, b, c, from, more, at, move, next3, next4, next9)                                                       \
    "ldm " from ", {r3, r4, r9}\n smlad r2, r3, " u ", " a "\n smlad r5, r4, " u ", " b "\n smlad r12, r9, " u ", " c "\n"      \
    third " r2, r4, " v ", r2\n ldrd r3, r4, [r0" more "\n" third " r5, r9, " v ", r5\n"                                  \
    "smlad r14, r3, " u ", r14\n" third " r12, r3, " v ", r12\n" third " r14, r4, " v ", r14\n" move
#define TWO3_S1(u, v, b, move, next3, next4)                                                                            \
    "ldrd r3, r4, [r0]\n smlatb r12, r3, " u ", " b "\n smlad r5, r3, " u ", r5\n smlabt r5, r4, " v ", r5\n"            \
    "smlad r12, r4, " v ", r12\n" move
#define TWO3_S2(u, third, v, b, move, next3, next4, next9)                                                              \
    "ldm r0, {r3, r4, r9}\n smlad r12, r4, " u ", " b "\n smlad r5, r3, " u ", r5\n" third " r5, r4, " v ", r5\n"        \
    third " r12, r9, " v ", r12\n" move
#define BEGIN3 ""
#define BEGIN3_S2 ""
#define LOAD3(offset, next) "ldrd r3, r4, [sp, #" offset "]\n"
#define SCALE3 LOAD3("4", "8")
#endif
#define DOWN3 "add r0, r1\n"
#define UP3 "sub r0, r0, r1, lsl #1\n" /* two rows */
#define FOURS3_S1                                                                                                       \
    "ldr r14, [sp]\n" BEGIN3 FOUR3_S1("r6", "r7", "r14", "r14", "r14", "r0, #8]", DOWN3, LOAD("r3", "r0]"), LOAD("r4", "r0, #4]")) \
    FOUR3_S1("r8", "r9", "r2", "r5", "r12", "r0, #8]", DOWN3, LOAD("r3", "r0]"), LOAD("r4", "r0, #4]"))                    \
    FOUR3_S1("r10", "r11", "r2", "r5", "r12", "r0, #8]!", UP3, LOAD("r3", "sp, #4]"), LOAD("r4", "sp, #8]"))
#define FOURS3_S2                                                                                                       \
    "ldr r14, [sp]\n" BEGIN3_S2                                                                                        \
    FOUR3_S2("r6", "smlabb", "r7", "r14", "r14", "r14", "r0", ", #12]", "r0, #16]", DOWN3, LOAD("r3", "r0]"), LOAD("r4", "r0, #4]"), LOAD("r9", "r0, #8]")) \
    FOUR3_S2("r8", "smlabt", "r7", "r2", "r5", "r12", "r0", ", #12]", "r0, #16]", DOWN3, LOAD("r3", "r0]"), LOAD("r4", "r0, #4]"), LOAD("r9", "r0, #8]")) \
    FOUR3_S2("r10", "smlabb", "r11", "r2", "r5", "r12", "r0!", "], #4", "r0, #16]!", UP3, LOAD("r3", "sp, #4]"), LOAD("r4", "sp, #8]"), "")
#define TWOS3_S1                                                                                                        \
    "ldr r5, [sp]\n" BEGIN3 TWO3_S1("r6", "r7", "r5", DOWN3, LOAD("r3", "r0]"), LOAD("r4", "r0, #4]"))                    \
    TWO3_S1("r8", "r9", "r12", DOWN3, LOAD("r3", "r0]"), LOAD("r4", "r0, #4]"))                                           \
    TWO3_S1("r10", "r11", "r12", UP3 "adds r0, #4\n", LOAD("r3", "sp, #4]"), LOAD("r4", "sp, #8]"))
#define TWOS3_S2                                                                                                        \
    "ldr r5, [sp]\n" BEGIN3_S2                                                                                         \
    TWO3_S2("r6", "smlabb", "r7", "r5", DOWN3, LOAD("r3", "r0]"), LOAD("r4", "r0, #4]"), LOAD("r9", "r0, #8]"))            \
    TWO3_S2("r8", "smlabt", "r7", "r12", DOWN3, LOAD("r3", "r0]"), LOAD("r4", "r0, #4]"), LOAD("r9", "r0, #8]"))           \
    TWO3_S2("r10", "smlabb", "r11", "r12", UP3 "adds r0, #8\n", LOAD("r3", "sp, #4]"), LOAD("r4", "sp, #8]"), "")
/* A sum times r3, with half a step r4; a result of it by the shift r3. */
#if defined(MCU_TWICE)
#define HIGH3(a) \
    "smmulr " a ", " a ", r3\n add " a ", " a ", " a ", asr #31\n add " a ", r4, " a ", lsl #1\n"
#else
#define HIGH3(a) "smmla " a ", " a ", r3, r4\n"
#endif
#define SHIFT3(a) "asr " a ", r3\n"
#define LAST3(a) "ssat " a ", #8, " a ", asr #1\n"
/* Taps in r6..r11, the strip at sp: fours of a row first, up to the end at sp + 20, then twos of the rest; sp + 56: the
 * output at hand. */
#define STRIP3(taps, fours, twos)                                                                                       \
    __asm__("push {r4-r11, r14}\n sub sp, #60\n mov r1, sp\n ldm r0!, {r2-r8}\n stm r1!, {r2-r8}\n"                     \
            "ldm r0!, {r2-r8}\n stm r1!, {r2-r8}\n ldm r0, {r6-r11}\n" taps                                            \
            "1: ldrd r0, r1, [sp, #32]\n ldrd r4, r3, [sp, #40]\n add r4, r0\n str r4, [sp, #32]\n ldr r4, [sp, #48]\n"  \
            "add r4, r3\n str r4, [sp, #44]\n ldr r4, [sp, #24]\n add r4, r3\n str r4, [sp, #20]\n str r3, [sp, #56]\n"  \
            "cmp r3, r4\n beq.w 3f\n"                                                                                  \
            "2: " fours SCALE3 HIGH3("r2") HIGH3("r5") HIGH3("r12") HIGH3("r14") LOAD3("12", "16")                      \
            SHIFT3("r2") SHIFT3("r5") SHIFT3("r12") SHIFT3("r14") LAST3("r2") LAST3("r5") LAST3("r12") LAST3("r14")     \
            "ldr r3, [sp, #56]\n strb r2, [r3]\n strb r5, [r3, r4]\n add r3, r3, r4, lsl #1\n strb r12, [r3]\n"          \
            "strb r14, [r3, r4]\n add r3, r3, r4, lsl #1\n str r3, [sp, #56]\n ldr r4, [sp, #20]\n cmp r3, r4\n"         \
            "bne.w 2b\n");                                                                                             \
    __asm__("3: ldr r2, [sp, #28]\n cmp r2, #0\n beq.w 4f\n mov r14, r3\n"                                              \
            "5: " twos SCALE3 HIGH3("r5") HIGH3("r12") LOAD3("12", "16") SHIFT3("r5") SHIFT3("r12") LAST3("r5")         \
            LAST3("r12") "strb r5, [r14]\n subs r2, #2\n it pl\n strbpl r12, [r14, r4]\n add r14, r14, r4, lsl #1\n"      \
            "bgt.w 5b\n"                                                                                               \
            "4: ldr r3, [sp, #52]\n subs r3, #1\n str r3, [sp, #52]\n bne.w 1b\n add sp, #60\n pop {r4-r11, pc}")

static MCU_NAKED void strip3_s1(const mcu_strip *t MCU_UNUSED) { STRIP3("", FOURS3_S1, TWOS3_S1); }

static MCU_NAKED void strip3_s2(const mcu_strip *t MCU_UNUSED) {
    STRIP3("pkhbt r7, r7, r9, lsl #16\n", FOURS3_S2, TWOS3_S2);
}

/* What is compiled for one size of windows and step. */
typedef struct {
    void (*taps)(const int8_t *weights, int left, uint32_t *taps); /* weights: [k][k] */
    void (*strip)(const mcu_strip *);
} mcu_version;

#define TAPS(k, s)                                                                                                      \
    static void taps##k##_s##s(const int8_t *weights, int left, uint32_t *taps) {                                       \
        for (int r = 0; r < k; r++)                                                                                     \
            pair_taps(weights + k * r, left, k, s, taps + r * (s == 1 ? k - 1 : (k + 1) / 2));                          \
    }
/* clang-format off */
TAPS(3, 1) TAPS(3, 2) TAPS(5, 1) TAPS(5, 2) TAPS(7, 1) TAPS(7, 2)

static const mcu_version versions[3][2] = {{{taps3_s1, strip3_s1}, {taps3_s2, strip3_s2}},
                                           {{taps5_s1, strip_wide}, {taps5_s2, strip_wide}},
                                           {{taps7_s1, strip_wide}, {taps7_s2, strip_wide}}};
/* clang-format on */

/* Window rows from..to-1 of channel c and the next one, row `from` at `line`. Padded columns hold zp_in from the start,
 * as do padded rows where rows do not move. */
static __attribute__((noinline)) void widen_rows(const mcu_job *job, int c, int from, int to, int8_t *line, int stride,
                                                 int moves) {
    const int cin = job->op->cin, first = job->y->first + from, end = job->y->first + to;
    const int top = mcu_max(first, 0), bottom = mcu_min(end, job->y->n_in), above = mcu_min(top, end) - first;
    const int below = end - mcu_max(bottom, mcu_min(top, end));
    const mcu_area m = {job->in + (top * job->x->n_in + job->x->first + job->lo) * cin + c,
                        cin,
                        job->x->n_in * cin,
                        line + above * stride + 2 * job->lo,
                        stride,
                        job->hi - job->lo,
                        bottom - top};
    if (moves) {
        fill(line, job->op->zp_in, above * stride / 2);
        fill(line + (end - first - below) * stride, job->op->zp_in, below * stride / 2);
    }
    if (m.n <= 0 || m.rows <= 0)
        return;
    if (c + 1 < cin)
        widen_two(&m);
    else
        widen_one(&m);
}

/* Constants of channel c, whose row of outputs 0 begins at out. */
static void begin_channel(const mcu_job *job, int c, mcu_strip *t, const mcu_version *version) {
    const mcu_conv *op = job->op;
    const mcu_pair *pair = op->pairs + (c >> 1);
    const int k = op->kh, left = pair->left[c & 1];
    t->bias = pair->bias[c & 1] * (int32_t)(1u << left);
    t->mult = pair->mult[c & 1], t->right = pair->right[c & 1];
    t->half = (2 * op->zp_out + 1) * (1 << t->right);
    version->taps(op->weights + c * k * k, left, t->taps);
    t->out = job->out + (job->y->dst * job->x->n_dst + job->x->dst) * op->cout + c;
}

/* Channel c and, where there is one, the next. A strip is as many rows of outputs as the buffer has the input of: what
 * the next one needs of that moves up. */
static void two_channels(const mcu_job *job, int c, mcu_strip *t, const mcu_version *version) {
    const mcu_axis *y = job->y;
    const int k = job->op->kh, s = job->op->sh, most = (MCU_DW_ROWS(k, job->cols) - k) / s + 1;
    const int channels = mcu_min(job->op->cout - c, 2), stride = t->stride;
    for (int a = 0; a < channels; a++)
        begin_channel(job, c + a, t + a, version);
    for (int i = 0, held = 0; i < y->n_out; i += most) { /* held: rows of the strip that the buffer has */
        const int high = mcu_min(most, y->n_out - i), rows = (high - 1) * s + k;
        widen_rows(job, c, i * s + held, i * s + rows, job->ring + held * stride, stride, y->n_out > most);
        for (int a = 0; a < channels; a++) {
            t[a].high = high;
            version->strip(t + a);
            t[a].out += high * t[a].line;
        }
        held = k - s;
        if (i + most < y->n_out)
            move_up(job->ring, job->ring + most * s * stride, held * stride);
    }
}

int MCU_ROUNDED(mcu_dw_is_fast)(const mcu_conv *op) {
    if (op->kh != op->kw || (op->kw != 3 && op->kw != 5 && op->kw != 7) || op->sw > 2 || op->sh > 2)
        return 0;
#if defined(MCU_TWICE)
    return mcu_is_plain_twice(op, 8);
#else
    for (int c = 0; c < op->cout; c++) /* weights times 2^left in 16 bits */
        if (op->pairs[c >> 1].left[c & 1] > 8)
            return 0;
    return 1;
#endif
}

/* Channels from c on, and the clamp of all. */
static __attribute__((noinline)) void strips(const mcu_job *job, int c) {
    const mcu_conv *op = job->op;
    const mcu_axis *y = job->y, *x = job->x;
    const int odd = x->n_out & 1, line = 2 * (((x->n_out + odd - 1) * op->sw + op->kw + 1) & ~1);
    mcu_strip t[2];
    for (int a = 0; a < 2; a++) {
        t[a].rows = job->ring + a * line, t[a].step = op->cout, t[a].line = x->n_dst * op->cout;
        t[a].form = op->kw == 3 ? x->n_out & 3 : op->kw - 5 + op->sw - 1;
        t[a].span = (x->n_out & ~3) * op->cout, t[a].count = x->n_out;
        t[a].stride = 2 * line, t[a].down = op->sh * t[a].stride;
    }
    if (c < op->cout)
        fill(job->ring, op->zp_in, MCU_DW_ROWS(op->kh, job->cols) * line);
    for (; c < op->cout; c += 2)
        two_channels(job, c, t, &versions[op->kw / 2 - 1][op->sw - 1]);
    for (int i = 0; i < y->n_out; i++)
        mcu_clamp_all(job->out + ((y->dst + i) * x->n_dst + x->dst) * op->cout, x->n_out * op->cout, op->lo, op->hi);
}

/* The frame of few_channels is off the stack when strips begins. */
void MCU_ROUNDED(mcu_dw_fast)(const mcu_job *job) { strips(job, few_channels(job)); }
#endif
