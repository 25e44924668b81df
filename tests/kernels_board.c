/* Runs each kernel of the DSP extension beside its plain twin (compiled again as plain_*) on random layers, compares
 * whole buffers, and counts the instructions per MAC of a few shapes. */
#include "mcu.h"
#include "print.h"
#include <string.h>

typedef void kernel(const mcu_conv *, const mcu_axis *, const mcu_axis *, const int8_t *, const int8_t *, int8_t *,
                    int8_t *);
kernel plain_conv_pw, plain_conv_dense, plain_conv_dw, plain_conv_group, plain_conv_pw_twice, plain_conv_dense_twice,
    plain_conv_dw_twice;
void plain_add(const mcu_sum *, const mcu_axis *, const mcu_axis *, const int8_t *, const int8_t *, int8_t *);
static kernel *const raw_fast[] = {mcu_conv_pw_raw, mcu_conv_dense_raw};
static kernel *const rows_fast[] = {mcu_conv_pw_rows, mcu_conv_dense_rows};
static kernel *const twice_fast[] = {mcu_conv_pw_twice, mcu_conv_dense_twice, mcu_conv_dw_twice};
static kernel *const twice_rows_fast[] = {mcu_conv_pw_twice_rows, mcu_conv_dense_twice_rows};
static kernel *const plain_twice[] = {plain_conv_pw_twice, plain_conv_dense_twice, plain_conv_dw_twice};
static kernel *const fast[] = {mcu_conv_pw, mcu_conv_dense, mcu_conv_dw, mcu_conv_group};
static kernel *const plain[] = {plain_conv_pw, plain_conv_dense, plain_conv_dw, plain_conv_group};

enum { SIZE = 1 << 16, CHANNELS = 256 };
static int8_t weights[SIZE], in[2][SIZE], out[2][SIZE], res[SIZE], scratch[1 << 14];
static mcu_pair pairs[CHANNELS / 2];
static uint32_t state = 1;

static int below(int n) {
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    return (int)(state >> 8) % n;
}

static void fill(int8_t *bytes) { /* bytes: [SIZE] */
    for (int i = 0; i < SIZE; i++)
        bytes[i] = (int8_t)below(256);
}

static mcu_axis axis(int n_out, int k, int s, int padded) {
    mcu_axis a = {0};
    const int crop = below(3);
    a.n_out = (int16_t)n_out;
    a.first = (int16_t)(padded ? -below(k + 2) : crop); /* some first windows lie outside */
    a.n_in = (int16_t)((n_out - 1) * s + k + a.first + (padded ? -below(k) : crop));
    a.n_in = (int16_t)mcu_max(a.n_in, 1);
    a.dst = (int16_t)below(2), a.n_dst = (int16_t)(n_out + a.dst);
    a.res = (int16_t)below(2), a.n_res = (int16_t)(n_out + a.res);
    return a;
}

/* Random weights as packed: zeros behind the last tap. */
static int8_t *pack(int pairs, int taps) {
    static int8_t packed[SIZE];
    const int quads = (taps + 3) / 4;
    memcpy(packed, weights, SIZE);
    for (int p = 0; p < pairs; p++)
        for (int t = taps; t < 4 * quads; t++)
            for (int c = 0; c < 2; c++)
                packed[8 * (p * quads + t / 4) + t % 2 * 4 + (t & 2) + c] = 0;
    return packed;
}

/* The same layer as mcu_conv_pw_raw takes it; changes what it cannot have. */
static mcu_conv raw_of(const mcu_conv *op, int8_t *packed) {
    static int8_t raw_weights[SIZE];
    static mcu_pair raw_pairs[CHANNELS / 2];
    mcu_conv raw = *op;
    for (int i = 0; i < SIZE; i += 2) {
        if (packed[i + 1] == -128)
            packed[i + 1] = 127;
        raw_weights[i] = packed[i], raw_weights[i + 1] = (int8_t)(packed[i + 1] - (packed[i] < 0));
    }
    for (int c = 0; c < CHANNELS / 2; c++) {
        mcu_pair *pair = pairs + c;
        pair->right[1] = (uint8_t)mcu_min(pair->right[1], 13);
        raw_pairs[c] = *pair;
        raw_pairs[c].bias[1] = 256 * pair->bias[1] + pair->bias[0];
        raw_pairs[c].right[1] = (uint8_t)(pair->right[1] + 8 - pair->left[1]), raw_pairs[c].left[1] = 0;
    }
    raw.weights = raw_weights, raw.pairs = raw_pairs;
    return raw;
}

/* The same layer as mcu_conv_pw_rows takes it. */
static mcu_conv rows_of(const mcu_conv *op, const int8_t *packed, int taps) {
    static int8_t rows[SIZE];
    const int step = MCU_ROUND4(taps), first = (taps - 1) % 16 + 1, width = MCU_ROUND4(first),
              all = (op->cout + 1) & ~1;
    mcu_conv same = *op;
    memset(rows, 0, sizeof rows);
    for (int c = 0; c < op->cout; c++)
        for (int t = 0; t < taps; t++) {
            const int at = c & 3, some = mcu_min(all - (c - at), 4), u = t - first;
            const int block = some * width + u / 16 * 16 * some + at * 16 + u % 16;
            rows[(c - at) * step + (u < 0 ? at * width + t : block)] =
                packed[8 * ((c >> 1) * step / 4 + t / 4) + t % 2 * 4 + (t & 2) + (c & 1)];
        }
    same.weights = rows;
    return same;
}

/* Shifts of a case: often none to the left; a depth-wise one's may be too far for its fast version. */
static void shifts(int most) {
    const int some = below(2);
    for (int c = 0; c < CHANNELS; c++) {
        pairs[c / 2].left[c & 1] = (uint8_t)(some ? mcu_max(below(most + 4) - 3, 0) : 0);
        pairs[c / 2].right[c & 1] = (uint8_t)(below(9) ? 3 + below(9) : 21);
    }
}

/* A 1x1 convolution's whole output over its input, the nearest before or behind it that mcu_conv_pw allows. */
static int over_differs(const mcu_conv *op, int in_rows, int rows, int cols) {
    const mcu_axis y = {.n_in = (int16_t)rows, .n_out = (int16_t)rows, .n_dst = (int16_t)rows};
    const mcu_axis x = {.n_in = (int16_t)cols, .n_out = (int16_t)cols, .n_dst = (int16_t)cols};
    const int n = rows * cols, c = op->cout, d = op->cin;
    const int before = mcu_max(c, n * (c - d) + d), behind = mcu_max(d, n * (d - c) + c);
    int8_t *const from = in[1] + SIZE / 2, *const to = from + (below(2) ? behind : -before);
    memcpy(from, in[0], (size_t)(n * d));
    plain_conv_pw(op, &y, &x, in[0], 0, out[1], scratch);
    if (in_rows) {
        const mcu_conv same = rows_of(op, op->weights, d);
        mcu_conv_pw_rows(&same, &y, &x, from, 0, to, scratch);
    } else
        mcu_conv_pw(op, &y, &x, from, 0, to, scratch);
    return memcmp(to, out[1], (size_t)(n * c)) != 0;
}

/* One of the functions that run the layer: where it has what that of a form takes, often this. */
static kernel *function_of(const mcu_conv *op, int kind, const int8_t *skip, int positions) {
    int left = 0;
    for (int c = 0; c < op->cout; c++)
        left = mcu_max(left, op->pairs[c / 2].left[c & 1]);
    if (kind == 0 && positions == 1)
        return mcu_conv_pw_one;
    if (kind == 2 && op->kh > 1 && left <= 8 && !skip && below(2))
        return mcu_conv_dw_fast;
    return fast[kind];
}

static int differs(int kind, int groups, int cin, int cout, int k, int s, int rows, int cols) {
    const int lo = below(2) ? -128 : below(256) - 128, packed_pairs = groups * ((cout / groups + 1) / 2);
    int8_t *const packed = kind == 2 ? weights : pack(packed_pairs, k * k * cin / groups);
    const mcu_conv op = {.cin = (int16_t)cin,
                         .cout = (int16_t)cout,
                         .groups = (int16_t)groups,
                         .kh = (uint8_t)k,
                         .kw = (uint8_t)k,
                         .sh = (uint8_t)s,
                         .sw = (uint8_t)s,
                         .zp_in = (int8_t)below(256),
                         .zp_out = (int8_t)below(256),
                         .lo = (int8_t)lo,
                         .hi = (int8_t)(below(2) ? 127 : lo + below(128 - lo)),
                         .res_zp = (int8_t)below(256),
                         .res_bits = 4,
                         .res_mult = below(40),
                         .pairs = pairs,
                         .weights = packed};
    shifts(kind == 2 ? 10 : 2);
    if (kind == 0 && below(2))
        return over_differs(&op, below(2), rows, cols);
    mcu_axis y = axis(rows, k, s, kind), x = axis(cols, k, s, kind);
    if (below(2)) /* packed rows, which kernels take for one */
        x.dst = x.res = 0, x.n_dst = x.n_res = x.n_out;
    if (kind == 2 && x.n_dst == x.n_out && x.n_out <= x.n_in && y.first > -k) { /* in place */
        y.dst = 0, y.n_dst = y.n_out;
        memcpy(in[1], in[0], SIZE);
        function_of(&op, kind, 0, rows * cols)(&op, &y, &x, in[0], 0, in[0], scratch);
        plain[kind](&op, &y, &x, in[1], 0, in[1], scratch);
        const int wrong = memcmp(in[0], in[1], SIZE) != 0;
        fill(in[0]);
        return wrong;
    }
    const int8_t *skip = below(2) ? res : 0;
    memcpy(out[1], out[0], SIZE);
    memset(scratch, 85, sizeof scratch);
    const int form = kind < 2 ? below(5) : kind == 2 ? 3 * below(2) : 0;
    if (form > 2) {                                     /* without residual */
        for (int c = 0; c < CHANNELS && kind == 2; c++) /* as the fast versions take them */
            pairs[c / 2].left[c & 1] = (uint8_t)mcu_max(pairs[c / 2].left[c & 1], 1);
        const mcu_conv same = form == 3 ? op : rows_of(&op, packed, k * k * cin);
        (form == 3 ? twice_fast : twice_rows_fast)[kind](&same, &y, &x, in[0], 0, out[0], scratch);
        plain_twice[kind](&op, &y, &x, in[0], 0, out[1], scratch);
        return memcmp(out[0], out[1], SIZE) != 0;
    }
    if (form == 2) {
        const mcu_conv same = rows_of(&op, packed, k * k * cin);
        rows_fast[kind](&same, &y, &x, in[0], skip, out[0], scratch);
    } else if (form == 1) {
        const mcu_conv raw = raw_of(&op, packed);
        raw_fast[kind](&raw, &y, &x, in[0], skip, out[0], scratch);
    } else
        function_of(&op, kind, skip, rows * cols)(&op, &y, &x, in[0], skip, out[0], scratch);
    plain[kind](&op, &y, &x, in[0], skip, out[1], scratch);
    return memcmp(out[0], out[1], SIZE) != 0;
}

static int add_differs(int c, int rows, int cols) {
    const int lo = below(2) ? -128 : below(256) - 128, bits = 1 + below(16);
    const mcu_sum op = {.mult_a = below(2 << bits),
                        .mult_b = below(2 << bits),
                        .bias = below(200 << bits) - (100 << bits),
                        .c = (int16_t)c,
                        .bits = (uint8_t)bits,
                        .zp_out = (int8_t)below(256),
                        .lo = (int8_t)lo,
                        .hi = (int8_t)(lo + below(128 - lo))};
    const mcu_axis y = axis(rows, 1, 1, 0), x = axis(cols, 1, 1, 0);
    memcpy(out[1], out[0], SIZE);
    mcu_add(&op, &y, &x, in[0], res, out[0]);
    plain_add(&op, &y, &x, in[0], res, out[1]);
    return memcmp(out[0], out[1], SIZE) != 0;
}

static void count(const char *name, int kind, int cin, int cout, int k, int s, int size) {
    const mcu_conv op = {.cin = (int16_t)cin,
                         .cout = (int16_t)cout,
                         .kh = (uint8_t)k,
                         .kw = (uint8_t)k,
                         .sh = (uint8_t)s,
                         .sw = (uint8_t)s,
                         .zp_in = -128,
                         .lo = -128,
                         .hi = 127,
                         .weights = weights,
                         .pairs = pairs};
    const int n = (size + s - 1) / s;
    const mcu_axis a = {(int16_t)size, (int16_t)(-(k / 2)), (int16_t)n, (int16_t)n, 0, 0, 0};
    const uint64_t start = mcu_count();
    fast[kind](&op, &a, &a, in[0], 0, out[0], scratch);
    const int64_t done = (int64_t)(mcu_count() - start);
    const int64_t macs = (int64_t)n * n * cout * k * k * (kind == 2 ? 1 : cin);
    mcu_print("{\"shape\": \"");
    mcu_print(name);
    mcu_print("\", \"per_1000_macs\": ");
    mcu_print_int(done * 1000 / macs);
    mcu_print("}\n");
}

int main(void) {
    int cases = 0, wrong = 0;
    fill(weights), fill(in[0]), fill(res), fill(out[0]);
    for (int c = 0; c < CHANNELS; c++) {
        mcu_pair *pair = pairs + c / 2;
        pair->bias[c & 1] = below(20000) - 10000, pair->mult[c & 1] = (1 << 30) + below(1 << 30);
    }
    for (; cases < 800; cases++) {
        const int kind = below(4), rgb = kind == 1 && below(3) == 0, s = kind ? 1 + below(2) : 1;
        const int k = rgb ? 3 : kind ? 1 + 2 * below(4) : 1;
        const int groups = kind == 3 ? 1 + below(4) : 1, most = kind == 3 ? 9 : kind == 0 ? 70 : 19;
        const int cin = rgb ? 3 : groups * (1 + below(most)), cout = kind == 2 ? cin : groups * (1 + below(most));
        const int tall = kind == 2 && below(3) == 0; /* more rows than scratch has room for */
        wrong += differs(kind, groups, cin, cout, k, s, tall ? 30 + below(20) : 1 + below(8), 1 + below(tall ? 6 : 13));
        wrong += add_differs(1 + below(19), 1 + below(7), 1 + below(7));
    }
    mcu_print("{\"cases\": ");
    mcu_print_int(cases);
    mcu_print(", \"wrong\": ");
    mcu_print_int(wrong);
    mcu_print("}\n");
    memset(pairs, 0, sizeof pairs);
    count("1x1 8->48, 20x20", 0, 8, 48, 1, 1, 20);
    count("1x1 16->96, 20x20", 0, 16, 96, 1, 1, 20);
    count("1x1 48->16, 20x20", 0, 48, 16, 1, 1, 20);
    count("1x1 96->96, 10x10", 0, 96, 96, 1, 1, 10);
    count("1x1 96->160, 5x5", 0, 96, 160, 1, 1, 5);
    count("3x3 s2 3->16, 80x80", 1, 3, 16, 3, 2, 80);
    count("3x3 16->16, 20x20", 1, 16, 16, 3, 1, 20);
    count("3x3 16->16, 32x32", 1, 16, 16, 3, 1, 32);
    count("3x3 32->32, 16x16", 1, 32, 32, 3, 1, 16);
    count("3x3 64->64, 8x8", 1, 64, 64, 3, 1, 8);
    count("dw 3x3 x48, 20x20", 2, 48, 48, 3, 1, 20);
    count("dw 3x3 s2 x48, 20x20", 2, 48, 48, 3, 2, 20);
    count("dw 5x5 x48, 20x20", 2, 48, 48, 5, 1, 20);
    count("dw 7x7 x48, 20x20", 2, 48, 48, 7, 1, 20);
    count("dw 7x7 x240, 5x5", 2, 240, 240, 7, 1, 5);
    count("dw 3x3 x240, 3x3", 2, 240, 240, 3, 1, 3);
    mcu_print("{\"done\": true}\n");
    mcu_exit(0);
    return 0;
}
