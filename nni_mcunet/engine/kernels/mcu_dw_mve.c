/* The depth-wise convolution with vectors: a channel's rows side by side as bytes ("lines"), so that 16 bytes from a
 * window's corner on have as many of its rows as fit; the rows of a strip first, then its outputs, so that it runs in
 * place. */
#include "mcu_dw.h"
#include "mcu_dw_trio.h"
#if defined(MCU_MVE)

enum { MOST = 7, VECTOR = 16, SMALL = 64 }; /* rows and columns of a window; bytes; outputs of a map */

/* A strip of rows of outputs of one channel. The assembly knows the order of the fields, and keeps a copy of those from
 * weights on. */
typedef struct {
    int32_t mult[4];
    uint32_t upper[4], lower[4]; /* where four outputs go, and those of the row below */
    const int8_t *window;        /* the first one */
    int8_t *out;
    int some; /* outputs of a turn, up to 4 */
    const int8_t *weights;
    int vectors;        /* of a window, behind the first one */
    int32_t bias, left; /* as VSHL and VRSHL take them */
    int right, zp;
    int vector;           /* from one vector of a window to the next, */
    int below;            /* and to the window of the row below */
    int next, next_out;   /* from the end of a window to the next four, and those to the next */
    int fours;            /* in a row, */
    int again, again_out; /* of which the last ones go so far back */
    int down, down_out;   /* to the next two rows */
    int rows;
    int row, row_out; /* to the next one */
} mcu_lines;

/* Sums of four windows at p, one every `s` bytes, with weights in q0. */
#define WINDOWS(dot, p, s2, s3, s4, a, b, c, d)                                                                         \
    "vldrb.u8 q1, [" p "]\n vldrb.u8 q2, [" p ", #" s2 "]\n " dot " " a ", q0, q1\n vldrb.u8 q3, [" p ", #" s3 "]\n "   \
    dot " " b ", q0, q2\n vldrb.u8 q1, [" p ", #" s4 "]\n " dot " " c ", q0, q3\n add " p ", r11\n " dot " " d ", q0, q1\n"
#define TURN(dot, s2, s3, s4)                                                                                           \
    "vldrb.u8 q0, [r5], #16\n" WINDOWS(dot, "r1", s2, s3, s4, "r0", "r2", "r4", "r6")                                   \
    WINDOWS(dot, "r3", s2, s3, s4, "r8", "r10", "r12", "r14")

/* On the stack: weights 0, vectors 4, bias 8, left 12, right 16, zp 20, vector 24, below 28, next 32, next_out 36,
 * fours 40, again 44, again_out 48, down 52, down_out 56, rows 60, row 64, row_out 68; fours left 72, window 76, out 80. */
#define LINES(s2, s3, s4)                                                                                               \
    __asm__("push {r4-r11, r14}\n vpush {d8-d15}\n sub sp, #84\n vldrw.u32 q4, [r0]\n vldrw.u32 q5, [r0, #16]\n"        \
            "vldrw.u32 q6, [r0, #32]\n ldrd r1, r7, [r0, #48]\n ldr r2, [r0, #56]\n vctp.32 r2\n"                       \
            "add r12, r0, #60\n mov r14, sp\n ldm r12!, {r2-r6, r8-r11}\n stm r14!, {r2-r6, r8-r11}\n"                  \
            "ldm r12, {r2-r6, r8-r11}\n stm r14, {r2-r6, r8-r11}\n"                                                    \
            "1: strd r1, r7, [sp, #76]\n ldr r0, [sp, #40]\n str r0, [sp, #72]\n ldr r3, [sp, #28]\n add r3, r1\n"      \
            "2: ldrd r5, r9, [sp]\n ldr r11, [sp, #24]\n" TURN("vmladav.s8", s2, s3, s4) "subs r9, #1\n blt 4f\n"       \
            "3: " TURN("vmladava.s8", s2, s3, s4) "subs r9, #1\n bge 3b\n"                                             \
            "4: vmov q0[2], q0[0], r0, r4\n vmov q0[3], q0[1], r2, r6\n vmov q1[2], q1[0], r8, r12\n"                   \
            "vmov q1[3], q1[1], r10, r14\n ldrd r0, r2, [sp, #8]\n ldrd r4, r6, [sp, #16]\n"                            \
            "vadd.i32 q0, q0, r0\n vadd.i32 q1, q1, r0\n vshl.s32 q0, r2\n vshl.s32 q1, r2\n"                           \
             MCU_SCALE("q0", "q4", "q2") MCU_SCALE("q1", "q4", "q3") "vrshl.s32 q0, r4\n vrshl.s32 q1, r4\n"                       \
            "vqmovnb.s32 q0, q0\n vqmovnt.s32 q0, q1\n vqadd.s16 q0, q0, r6\n vqmovnb.s16 q0, q0\n"                     \
            "ldrd r0, r2, [sp, #32]\n ldr r4, [sp, #72]\n vshr.u32 q1, q0, #16\n add r1, r0\n add r3, r0\n"             \
            "vpstt\n vstrbt.32 q1, [r7, q6]\n vstrbt.32 q0, [r7, q5]\n add r7, r2\n subs r4, #1\n str r4, [sp, #72]\n"  \
            "cmp r4, #1\n bgt 2b\n blt 5f\n"                                                                           \
            "ldrd r0, r2, [sp, #44]\n sub r1, r0\n sub r3, r0\n sub r7, r2\n b 2b\n"                                    \
            "5: ldr r0, [sp, #60]\n ldrd r1, r7, [sp, #76]\n ldrd r2, r4, [sp, #52]\n ldrd r6, r8, [sp, #64]\n"         \
            "subs r0, #2\n str r0, [sp, #60]\n ble 6f\n add r1, r2\n add r7, r4\n cmp r0, #1\n bne 1b\n"                \
            "sub r1, r6\n sub r7, r8\n b 1b\n"                                                                         \
            "6: add sp, #84\n vpop {d8-d15}\n pop {r4-r11, pc}")

static MCU_NAKED void lines_s1(const mcu_lines *t MCU_UNUSED) { LINES("1", "2", "3"); }
static MCU_NAKED void lines_s2(const mcu_lines *t MCU_UNUSED) { LINES("2", "4", "6"); }

/* What all channels share. */
typedef struct {
    int rows, vectors; /* of a window: its rows in a vector, its vectors */
    int held, most;    /* rows of the buffer; of outputs of a strip */
    int8_t *weights, *lines;
    uint8_t at[64]; /* of each tap's weight in the vectors */
} mcu_shape;

static mcu_shape shape_of(const mcu_job *job) {
    const mcu_conv *op = job->op;
    mcu_shape shape;
    shape.rows = mcu_min((VECTOR - op->kw) / job->cols + 1, op->kh);
    shape.vectors = (op->kh + shape.rows - 1) / shape.rows;
    /* a vector at the end of the last line reaches behind it */
    shape.weights = job->ring, shape.lines = job->ring + VECTOR * shape.vectors;
    const int bytes = MCU_CONV_DW_SCRATCH(op->cin, op->kh, op->kw, job->cols) - VECTOR * (shape.vectors + 2);
    shape.held = bytes / job->cols, shape.most = (shape.held - op->kh) / op->sh + 1;
    for (int r = 0, t = 0; r < op->kh; r++)
        for (int q = 0; q < op->kw; q++)
            shape.at[t++] = (uint8_t)(r / shape.rows * VECTOR + r % shape.rows * job->cols + q);
    return shape;
}

/* Puts the weights of a channel into their vectors, which are zero elsewhere. */
static void place_weights(const mcu_shape *shape, const int8_t *weights, int taps) {
    for (int t = 0; t < taps; t += VECTOR) {
        const mve_pred16_t some = vctp8q((uint32_t)(taps - t));
        vstrbq_scatter_offset_p_s8(shape->weights, vldrbq_z_u8(shape->at + t, some), vldrbq_z_s8(weights + t, some),
                                   some);
    }
}

/* Window rows from..to-1 of channel c, row `from` at `line`. Padded columns hold zp_in from the start. */
static void load_lines(const mcu_job *job, int c, int from, int to, int8_t *line) {
    const mcu_axis *y = job->y, *x = job->x;
    const int cin = job->op->cin, cols = job->cols, n = job->hi - job->lo, first = y->first + from, end = y->first + to;
    const int top = mcu_min(mcu_max(first, 0), end), bottom = mcu_max(mcu_min(end, y->n_in), top);
    const uint16x8_t at = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)cin);
    const int turns = (n + 7) / 8, wide = x->n_in * cin - turns * 8 * cin, down = cols - turns * 8;
    const int8_t *value = job->in + (top * x->n_in + x->first + job->lo) * cin + c;
    int8_t *place = line + (top - first) * cols + job->lo;
    int rows = bottom - top;
    memset(line, job->op->zp_in, (size_t)((top - first) * cols));
    memset(line + (bottom - first) * cols, job->op->zp_in, (size_t)((end - bottom) * cols));
    if (n > 0 && rows > 0)
        __asm__ volatile("2: dlstp.16 lr, %[n]\n"
                         "1: vldrb.u16 q0, [%[value], %q[at]]\n vstrb.16 q0, [%[place]], #8\n add %[value], %[eight]\n"
                         "letp lr, 1b\n add %[value], %[wide]\n add %[place], %[down]\n subs %[rows], #1\n bne 2b"
                         : [rows] "+r"(rows), [value] "+r"(value), [place] "+l"(place)
                         : [n] "r"(n), [at] "w"(at), [eight] "r"(8 * cin), [wide] "r"(wide), [down] "r"(down)
                         : "lr", "q0", "cc", "memory");
}

/* A strip whose windows are 3x3 at steps of 1. weights: [3][3] of the channel */
static void run_trio(const mcu_job *job, const mcu_lines *t, const int8_t *weights) {
    mcu_trio trio_of;
    for (int p = 0; p < 4; p++) {
        trio_of.bias[p] = t->bias * (int32_t)(1u << t->left), trio_of.mult[p] = t->mult[p], trio_of.right[p] = t->right;
        trio_of.upper[p] = t->upper[p], trio_of.lower[p] = t->lower[p];
    }
    for (int i = 0; i < 8; i++)
        trio_of.weights[i] = weights[i] * (1 << t->left), trio_of.zp[i] = (int16_t)t->zp;
    trio_of.last = weights[8] * (1 << t->left), trio_of.next_out = t->next_out;
    trio_of.again = t->again, trio_of.again_out = t->again_out, trio_of.fours = t->fours;
    trio_of.window = t->window, trio_of.out = t->out, trio_of.rows = t->rows;
    trio_of.down = t->down, trio_of.down_out = t->down_out, trio_of.row = t->row, trio_of.row_out = t->row_out;
    trio_of.line = job->cols, trio_of.below = t->below, trio_of.some = t->some;
    trio(&trio_of);
}

/* Channel c. A strip is as many rows of outputs as the buffer has the input of: what the next one needs of that moves
 * up. */
static void one_channel(const mcu_job *job, const mcu_shape *shape, int c, mcu_lines *t) {
    const mcu_conv *op = job->op;
    const mcu_pair *pair = op->pairs + (c >> 1);
    const int kh = op->kh, sh = op->sh, taps = kh * op->kw, n = job->y->n_out, cols = job->cols,
              kept = mcu_max(kh - sh, 0);
    const int8_t *const weights = op->weights + c * taps;
    const int trio_fits = op->kh == 3 && op->kw == 3 && sh == 1 && job->step == 1;
    if (!trio_fits)
        place_weights(shape, weights, taps);
    t->bias = pair->bias[c & 1], t->left = pair->left[c & 1] - !MCU_LESS, t->right = -pair->right[c & 1] - MCU_LESS;
    t->mult[0] = t->mult[1] = t->mult[2] = t->mult[3] = pair->mult[c & 1];
    t->out = job->out + (job->y->dst * job->x->n_dst + job->x->dst) * op->cout + c;
    for (int i = 0, held = 0; i < n; i += shape->most, held = kept) { /* held: rows of the strip that the buffer has */
        const int high = mcu_min(shape->most, n - i), many = high > 1;
        load_lines(job, c, i * sh + held, i * sh + (high - 1) * sh + kh, shape->lines + held * cols);
        t->rows = high, t->below = many * sh * cols;
        for (int p = 0; p < 4; p++)
            t->lower[p] = t->upper[p] + (uint32_t)(many * t->row_out);
        if (trio_fits)
            run_trio(job, t, weights);
        else if (job->step == 1)
            lines_s1(t);
        else
            lines_s2(t);
        t->out += high * t->row_out;
        if (i + high < n)
            memmove(shape->lines, shape->lines + high * sh * cols, (size_t)(kept * cols));
    }
}

/* Eight channels at once, one output after the other, without the taps that lie outside: of maps of few positions, whose
 * windows reach into the padding. In scratch lies the input less its zero point, int16 [positions][8]. */
enum { EIGHT = 16 }; /* bytes a position */

static int few_positions(const mcu_job *job) { return job->y->n_in * job->x->n_in; }

static int is_small(const mcu_job *job) {
    const mcu_conv *op = job->op;
    return few_positions(job) * EIGHT <= MCU_CONV_DW_SCRATCH(op->cin, op->kh, op->kw, job->cols) &&
           job->x->n_out * job->y->n_out < SMALL;
}

/* Constants of eight channels: of those with an even place, of those with an odd one. */
typedef struct {
    mcu_lanes lanes[2];
    int16x8_t lo, hi;
    mve_pred16_t some; /* of 16 bits; the last ones are fewer */
    uint16x8_t away;   /* from the first channel's weights to those of each, or to its own where there is none */
} mcu_eight;

/* Sums of the taps in rows of n. x: int16 [][8] */
static inline void add_taps(const mcu_eight *k, const int8_t *x, int wide, const int8_t *w, int kw, int rows, int n,
                            int32x4_t *even, int32x4_t *odd) {
    int32x4_t a = *even, b = *odd;
    for (; rows > 0; rows--, x += wide, w += kw) {
        const int8_t *from = x, *tap = w;
        for (int q = n; q > 0; q--, tap++, from += EIGHT) {
            const int16x8_t weight = vldrbq_gather_offset_s16(tap, k->away);
            const int16x8_t value = vldrhq_s16((const int16_t *)(const void *)from);
            a = vaddq_s32(a, vmullbq_int_s16(value, weight)), b = vaddq_s32(b, vmulltq_int_s16(value, weight));
        }
    }
    *even = a, *odd = b;
}

static inline int32x4_t scaled(int32x4_t acc, const mcu_lanes *lanes) {
#if defined(MCU_TWICE)
    const int32x4_t high = vqrdmulhq_s32(vshlq_s32(acc, lanes->left), lanes->mult);
    return vrshlq_s32(vaddq_s32(high, vshrq_n_s32(high, 31)), lanes->right);
#else
    return vrshlq_s32(vmulhq_s32(vshlq_s32(acc, lanes->left), lanes->mult), lanes->right);
#endif
}

/* Every output of eight channels. */
static void few_outputs(const mcu_job *job, const mcu_eight *k, int c) {
    const mcu_conv *op = job->op;
    const mcu_axis *y = job->y, *x = job->x;
    const int8_t *const weights = op->weights + c * op->kh * op->kw;
    for (int i = 0; i < y->n_out; i++) {
        const int top = y->first + i * op->sh, r0 = mcu_max(-top, 0), r1 = mcu_min(op->kh, y->n_in - top);
        int8_t *out = job->out + ((y->dst + i) * x->n_dst + x->dst) * op->cout + c;
        for (int j = 0; j < x->n_out; j++, out += op->cout) {
            const int left = x->first + j * op->sw, q0 = mcu_max(-left, 0), q1 = mcu_min(op->kw, x->n_in - left);
            int32x4_t even = k->lanes[0].bias, odd = k->lanes[1].bias;
            if (q1 > q0)
                add_taps(k, job->ring + ((top + r0) * x->n_in + left + q0) * EIGHT, x->n_in * EIGHT,
                         weights + r0 * op->kw + q0, op->kw, r1 - r0, q1 - q0, &even, &odd);
            int16x8_t v = vqmovnbq_s32(vdupq_n_s16(0), scaled(even, &k->lanes[0]));
            v = vqaddq_n_s16(vqmovntq_s32(v, scaled(odd, &k->lanes[1])), op->zp_out);
            vstrbq_p_s16(out, vminq_s16(vmaxq_s16(v, k->lo), k->hi), k->some);
        }
    }
}

/* Biases without the input's zero point, which the input lacks. */
static void full_bias(const mcu_job *job, mcu_eight *k, int c) {
    const int taps = job->op->kh * job->op->kw;
    const int8_t *w = job->op->weights + c * taps;
    int16x8_t sum = vdupq_n_s16(0);
    for (const int8_t *end = w + taps; w != end; w++)
        sum = vaddq_s16(sum, vldrbq_gather_offset_s16(w, k->away));
    k->lanes[0].bias = vmlaq_n_s32(k->lanes[0].bias, vmovlbq_s16(sum), job->op->zp_in);
    k->lanes[1].bias = vmlaq_n_s32(k->lanes[1].bias, vmovltq_s16(sum), job->op->zp_in);
}

static void few_channels(const mcu_job *job) {
    const mcu_conv *op = job->op;
    mcu_eight k = {.lo = vdupq_n_s16(op->lo), .hi = vdupq_n_s16(op->hi)};
    const uint16x8_t away = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)(op->kh * op->kw));
    for (int c = 0; c < op->cout; c += 8) {
        const int8_t *from = job->in + c;
        int8_t *to = job->ring;
        k.some = vctp16q((uint32_t)(op->cout - c));
        k.away = vpselq_u16(away, vdupq_n_u16(0), k.some);
        for (int i = 0; i < 2; i++)
            k.lanes[i] = mcu_lanes_every(op->pairs + c / 2, i, (uint32_t)(op->cout - c + 1) / 2);
        for (int n = few_positions(job); n > 0; n--, from += op->cin, to += EIGHT)
            vstrhq_s16((int16_t *)(void *)to, vsubq_n_s16(vldrbq_z_s16(from, k.some), op->zp_in));
        full_bias(job, &k, c);
        few_outputs(job, &k, c);
    }
}

int MCU_ROUNDED(mcu_dw_has_vectors)(const mcu_job *job) {
    const mcu_conv *op = job->op;
#if defined(MCU_TWICE)
    if (!mcu_is_plain_twice(op, 31))
        return 0;
#endif
    return !job->res && op->kh <= MOST && op->kw <= MOST && ((job->step <= 2 && op->cin < 1 << 13) || is_small(job));
}

void MCU_ROUNDED(mcu_dw_vectors)(const mcu_job *job) {
    const mcu_conv *op = job->op;
    if (is_small(job)) {
        few_channels(job);
        return;
    }
    const int n = job->x->n_out, s = job->step, fours = (n + 3) / 4, over = n > 4 ? 4 * fours - n : 0;
    const mcu_shape shape = shape_of(job);
    mcu_lines t;
    for (int p = 0; p < 4; p++)
        t.upper[p] = (uint32_t)(p * op->cout);
    t.window = shape.lines, t.some = mcu_min(n, 4), t.weights = shape.weights, t.vectors = shape.vectors - 1;
    t.zp = op->zp_out, t.vector = shape.rows * job->cols;
    t.next = 4 * s - shape.vectors * t.vector, t.next_out = 4 * op->cout;
    t.fours = fours, t.again = over * s, t.again_out = over * op->cout;
    t.row = op->sh * job->cols, t.row_out = job->x->n_dst * op->cout, t.down = 2 * t.row, t.down_out = 2 * t.row_out;
    memset(shape.weights, 0, (size_t)(VECTOR * shape.vectors));
    memset(shape.lines, op->zp_in, (size_t)(shape.held * job->cols));
    for (int c = 0; c < op->cout; c++)
        one_channel(job, &shape, c, &t);
    for (int i = 0; i < job->y->n_out; i++)
        mcu_clamp_all(job->out + ((job->y->dst + i) * job->x->n_dst + job->x->dst) * op->cout, n * op->cout, op->lo,
                      op->hi);
}
#endif
