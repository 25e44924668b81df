/* The header of a JPEG: its markers (ITU-T T.81, annex B) up to the data of the scan. */
#include "mcu_jpeg.h"

int mcu_jpeg_fail(mcu_jpeg *jpeg, int error) {
    if (!jpeg->error)
        jpeg->error = error;
    return jpeg->error;
}

int mcu_jpeg_byte(mcu_jpeg *jpeg) {
    if (jpeg->input_at == jpeg->input_end) {
        const size_t n = jpeg->error ? 0 : jpeg->read(jpeg->user, jpeg->input, MCU_JPEG_INPUT);
        jpeg->input_at = 0;
        jpeg->input_end = (uint16_t)(n <= MCU_JPEG_INPUT ? n : 0);
        if (!jpeg->input_end) {
            mcu_jpeg_fail(jpeg, MCU_JPEG_END);
            return 0;
        }
    }
    return jpeg->input[jpeg->input_at++];
}

static int word(mcu_jpeg *jpeg) {
    const int high = mcu_jpeg_byte(jpeg);
    return high << 8 | mcu_jpeg_byte(jpeg);
}

static void check(mcu_jpeg *jpeg, int good, int error) {
    if (!good)
        mcu_jpeg_fail(jpeg, error);
}

static void skip(mcu_jpeg *jpeg, int n) {
    while (n-- > 0 && !jpeg->error)
        mcu_jpeg_byte(jpeg);
}

static void quant_tables(mcu_jpeg *jpeg, int n) {
    for (; n >= 65 && !jpeg->error; n -= 65) {
        const int id = mcu_jpeg_byte(jpeg);
        check(jpeg, id >> 4 == 0, MCU_JPEG_UNSUPPORTED); /* 16 bits: not baseline */
        for (int i = 0; i < 64; i++)
            jpeg->quant[id & 3][i] = (uint8_t)mcu_jpeg_byte(jpeg);
        check(jpeg, (id & 15) < 4, MCU_JPEG_CORRUPT);
        jpeg->seen |= (uint8_t)(1 << (id & 3));
    }
    check(jpeg, n == 0, MCU_JPEG_CORRUPT);
}

static void huffman_tables(mcu_jpeg *jpeg, int n) {
    while (n >= 17 && !jpeg->error) {
        const int id = mcu_jpeg_byte(jpeg), ac = id >> 4 & 1, table = id & 1;
        uint8_t *counts = jpeg->counts[ac][table], *symbols = ac ? jpeg->ac[table] : jpeg->dc[table];
        int total = 0, first = 0;
        check(jpeg, (id & 0xee) == 0, MCU_JPEG_CORRUPT); /* baseline: two tables a class */
        for (int i = 0; i < 16; i++, first <<= 1) {
            counts[i] = (uint8_t)mcu_jpeg_byte(jpeg);
            total += counts[i];
            first += counts[i];
            check(jpeg, first <= 2 << i, MCU_JPEG_CORRUPT);
        }
        n -= 17 + total;
        check(jpeg, n >= 0 && total <= (ac ? 256 : 12), MCU_JPEG_CORRUPT);
        for (int i = 0; i < total && !jpeg->error; i++) {
            symbols[i] = (uint8_t)mcu_jpeg_byte(jpeg);
            check(jpeg, (symbols[i] & 15) <= (ac ? 10 : 11) && (ac || symbols[i] < 16), MCU_JPEG_CORRUPT);
        }
        jpeg->seen |= (uint8_t)(1 << (4 + 2 * ac + table));
    }
    check(jpeg, n == 0, MCU_JPEG_CORRUPT);
}

static void frame(mcu_jpeg *jpeg, int n, uint8_t *ids) {
    check(jpeg, !jpeg->components, MCU_JPEG_CORRUPT); /* one frame */
    check(jpeg, mcu_jpeg_byte(jpeg) == 8, MCU_JPEG_UNSUPPORTED);
    jpeg->height = word(jpeg);
    jpeg->width = word(jpeg);
    const int components = mcu_jpeg_byte(jpeg);
    check(jpeg, n == 6 + 3 * components && jpeg->width, MCU_JPEG_CORRUPT);
    check(jpeg, jpeg->height && (components == 1 || components == 3), MCU_JPEG_UNSUPPORTED);
    for (int i = 0; i < components && !jpeg->error; i++) {
        mcu_jpeg_component *part = &jpeg->component[i];
        ids[i] = (uint8_t)mcu_jpeg_byte(jpeg);
        const int factors = mcu_jpeg_byte(jpeg), quant = mcu_jpeg_byte(jpeg);
        part->h = (uint8_t)(components == 1 ? 1 : factors >> 4); /* a single component has no other to differ from */
        part->v = (uint8_t)(components == 1 ? 1 : factors & 15);
        part->quant = quant & 3;
        check(jpeg, quant < 4, MCU_JPEG_CORRUPT);
        const int most = i ? 1 : 2;
        check(jpeg, part->h >= 1 && part->h <= most && part->v >= 1 && part->v <= most, MCU_JPEG_UNSUPPORTED);
    }
    check(jpeg, components == 1 || ids[0] != 'R' || ids[1] != 'G' || ids[2] != 'B', MCU_JPEG_UNSUPPORTED);
    jpeg->components = components;
}

static void scan(mcu_jpeg *jpeg, int n, const uint8_t *ids) {
    const int components = mcu_jpeg_byte(jpeg);
    check(jpeg, jpeg->components && n == 4 + 2 * components, MCU_JPEG_CORRUPT);
    check(jpeg, components == jpeg->components, MCU_JPEG_UNSUPPORTED); /* one scan of all */
    for (int i = 0; i < components && !jpeg->error; i++) {
        mcu_jpeg_component *part = &jpeg->component[i];
        check(jpeg, mcu_jpeg_byte(jpeg) == ids[i], MCU_JPEG_CORRUPT);
        const int tables = mcu_jpeg_byte(jpeg);
        part->dc = tables >> 4 & 1;
        part->ac = tables & 1;
        const int needed = 1 << part->quant | 16 << part->dc | 64 << part->ac;
        check(jpeg, (tables & 0xee) == 0 && (jpeg->seen & needed) == needed, MCU_JPEG_CORRUPT);
    }
    const int first = mcu_jpeg_byte(jpeg), last = mcu_jpeg_byte(jpeg), bits = mcu_jpeg_byte(jpeg);
    check(jpeg, first == 0 && last == 63 && bits == 0, MCU_JPEG_UNSUPPORTED); /* all of it at once */
}

/* Adobe's segment says how three channels are coded: 1 is YCbCr, which is also what this returns of other segments. */
static int adobe(mcu_jpeg *jpeg, int n) {
    static const uint8_t NAME[5] = {'A', 'd', 'o', 'b', 'e'};
    int same = n >= 12, byte = 1;
    for (int i = 0; i < 12 && i < n && !jpeg->error; i++) {
        byte = mcu_jpeg_byte(jpeg);
        same = same && (i >= 5 || byte == NAME[i]);
    }
    skip(jpeg, n - 12);
    return same ? byte : 1;
}

static int marker(mcu_jpeg *jpeg) {
    int byte = mcu_jpeg_byte(jpeg);
    check(jpeg, byte == 0xff, MCU_JPEG_CORRUPT);
    while (byte == 0xff && !jpeg->error)
        byte = mcu_jpeg_byte(jpeg);
    return byte;
}

/* Segments up to the scan's data. */
static void segments(mcu_jpeg *jpeg) {
    uint8_t ids[3] = {0, 0, 0};
    int transform = 1;
    check(jpeg, marker(jpeg) == 0xd8, MCU_JPEG_CORRUPT);
    while (!jpeg->error) {
        const int kind = marker(jpeg), n = word(jpeg) - 2;
        check(jpeg, n >= 0, MCU_JPEG_CORRUPT);
        if (kind == 0xc0)
            frame(jpeg, n, ids);
        else if (kind == 0xc4)
            huffman_tables(jpeg, n);
        else if (kind == 0xdb)
            quant_tables(jpeg, n);
        else if (kind == 0xdd) {
            check(jpeg, n == 2, MCU_JPEG_CORRUPT);
            jpeg->restart = jpeg->until_restart = word(jpeg);
        } else if (kind == 0xda) {
            scan(jpeg, n, ids);
            check(jpeg, transform == 1 || jpeg->components == 1, MCU_JPEG_UNSUPPORTED);
            return;
        } else if (kind == 0xee)
            transform = adobe(jpeg, n);
        else if (kind >= 0xe0) /* applications' and comments */
            skip(jpeg, n);
        else
            mcu_jpeg_fail(jpeg, kind > 0xc0 && kind < 0xd0 ? MCU_JPEG_UNSUPPORTED : MCU_JPEG_CORRUPT);
    }
}

/* The first row or column behind the network's picture. A letterboxed one may end with the JPEG. */
static int behind(int first, int side, int whole) {
#if defined(MCU_LETTERBOX)
    return first < whole && first + side > whole ? whole : first + side;
#else
    (void)whole;
    return first + side;
#endif
}

/* Divides the band among the components. */
static void layout(mcu_jpeg *jpeg) {
    mcu_jpeg_component *luma = jpeg->component;
    const int reduce = jpeg->reduce;
    check(jpeg, reduce == 1 || reduce == 2 || reduce == 4 || reduce == 8, MCU_JPEG_SIZE);
    if (jpeg->error)
        return;
    const int mcu_h = jpeg->mcu_h = 8 * luma->v / reduce, mcu_w = jpeg->mcu_w = 8 * luma->h / reduce;
    const int wide = jpeg->width / reduce, high = jpeg->height / reduce;
    const int last_column = behind(jpeg->first_column, MCU_INPUT_W, wide);
    const int inside = last_column <= wide && behind(jpeg->first_row, MCU_INPUT_H, high) <= high;
    check(jpeg, inside && jpeg->first_row >= 0 && jpeg->first_column >= 0, MCU_JPEG_SIZE);
    jpeg->across = (jpeg->width + 8 * luma->h - 1) / (8 * luma->h);
    jpeg->left = jpeg->first_column / mcu_w;
    jpeg->right = (last_column + mcu_w - 1) / mcu_w;
    /* A band that begins inside an MCU holds part of one more. */
    int rows = jpeg->first_row % mcu_h ? MCU_PICTURE_ROWS(1) + mcu_h - 1 : MCU_PICTURE_ROWS(mcu_h);
    rows = (rows + luma->v - 1) / luma->v * luma->v;
    jpeg->band_needed = 0;
    for (int i = 0; i < (MCU_INPUT_C == 1 ? 1 : jpeg->components); i++) {
        mcu_jpeg_component *part = &jpeg->component[i];
        part->width = (jpeg->right - jpeg->left) * part->h * 8 / reduce;
        part->rows = rows * part->v / luma->v;
        part->band = jpeg->band + jpeg->band_needed;
        jpeg->band_needed += (size_t)(part->width * part->rows);
    }
    check(jpeg, jpeg->band_needed <= jpeg->band_bytes, MCU_JPEG_BAND);
}

int mcu_jpeg_open(mcu_jpeg *jpeg) {
    jpeg->error = MCU_JPEG_OK;
    jpeg->components = jpeg->restart = jpeg->until_restart = jpeg->markers = jpeg->done = 0;
    jpeg->bit_count = jpeg->input_at = jpeg->input_end = jpeg->seen = 0;
    for (int i = 0; i < 3; i++) {
        jpeg->component[i].last = 0;
        jpeg->component[i].band = 0;
    }
    segments(jpeg);
    layout(jpeg);
    return jpeg->error;
}
