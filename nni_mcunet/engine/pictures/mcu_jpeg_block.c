/* The data of a JPEG's scan: Huffman codes (ITU-T T.81, annex F.2) and the inverse DCT. */
#include "mcu_jpeg.h"

/* clang-format off */
static const uint8_t ZIGZAG[64] = {
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
};
/* clang-format on */

/* Shifts in the next byte of the scan. A marker ends the data. */
static void fill(mcu_jpeg *jpeg) {
    const int byte = mcu_jpeg_byte(jpeg);
    if (byte == 0xff && mcu_jpeg_byte(jpeg) != 0)
        mcu_jpeg_fail(jpeg, MCU_JPEG_CORRUPT);
    jpeg->bits = jpeg->bits << 8 | (uint32_t)byte;
    jpeg->bit_count += 8;
}

static int take(mcu_jpeg *jpeg, int n) { /* n: 0..16 */
    while (jpeg->bit_count < n)
        fill(jpeg);
    jpeg->bit_count -= n;
    return (int)(jpeg->bits >> jpeg->bit_count & ((1u << n) - 1));
}

/* counts: codes of each length, [16]; symbols: in the order of their codes. */
static int symbol(mcu_jpeg *jpeg, const uint8_t *counts, const uint8_t *symbols) {
    for (int length = 0, code = 0, first = 0; length < 16; length++, code <<= 1, first <<= 1) {
        if (!jpeg->bit_count)
            fill(jpeg);
        code |= (int)(jpeg->bits >> --jpeg->bit_count & 1);
        if (code - first < counts[length])
            return symbols[code - first];
        first += counts[length];
        symbols += counts[length];
    }
    mcu_jpeg_fail(jpeg, MCU_JPEG_CORRUPT);
    return 0;
}

static int extend(mcu_jpeg *jpeg, int size) { /* F.2.2.1 */
    const int v = take(jpeg, size);
    return size && v < 1 << (size - 1) ? v - (1 << size) + 1 : v;
}

/* One dimension of libjpeg's jidctint.c (Loeffler, Ligtenberg and Moschytz 1989; constants times 2^13) on x[0],
 * x[step], ... Corrupt data may overflow: unsigned numbers do so without harm. */
static void idct(int32_t *x, int step, int shift) {
    const uint32_t x0 = (uint32_t)x[0], x1 = (uint32_t)x[step], x2 = (uint32_t)x[2 * step], x3 = (uint32_t)x[3 * step];
    const uint32_t x4 = (uint32_t)x[4 * step], x5 = (uint32_t)x[5 * step], x6 = (uint32_t)x[6 * step];
    const uint32_t x7 = (uint32_t)x[7 * step];
    const uint32_t turn = (x2 + x6) * 4433, e2 = turn - x6 * 15137, e3 = turn + x2 * 6270;
    const uint32_t e0 = (x0 + x4) << 13, e1 = (x0 - x4) << 13;
    const uint32_t even[4] = {e0 + e3, e1 + e2, e1 - e2, e0 - e3};
    const uint32_t z5 = (x7 + x3 + x5 + x1) * 9633, z3 = z5 - (x7 + x3) * 16069, z4 = z5 - (x5 + x1) * 3196;
    const uint32_t z1 = (x7 + x1) * 7373, z2 = (x5 + x3) * 20995;
    const uint32_t odd[4] = {x1 * 12299 - z1 + z4, x3 * 25172 - z2 + z3, x5 * 16819 - z2 + z4, x7 * 2446 - z1 + z3};
    const uint32_t half = 1u << (shift - 1);
    for (int i = 0; i < 4; i++) {
        x[i * step] = (int32_t)(even[i] + odd[i] + half) >> shift;
        x[(7 - i) * step] = (int32_t)(even[i] - odd[i] + half) >> shift;
    }
}

void mcu_jpeg_block(mcu_jpeg *jpeg, mcu_jpeg_component *component, int wanted) {
    const uint8_t *quant = jpeg->quant[component->quant];
    int32_t *block = jpeg->block;
    for (int i = 0; i < 64; i++)
        block[i] = 0;
    const int size = symbol(jpeg, jpeg->counts[0][component->dc], jpeg->dc[component->dc]);
    component->last = (int16_t)(component->last + extend(jpeg, size));
    block[0] = component->last * quant[0];
    for (int k = 1; k < 64 && !jpeg->error; k++) {
        const int code = symbol(jpeg, jpeg->counts[1][component->ac], jpeg->ac[component->ac]), run = code >> 4;
        if (!(code & 15) && run != 15)
            break;
        k += run;
        if (k > 63)
            mcu_jpeg_fail(jpeg, MCU_JPEG_CORRUPT);
        else
            block[ZIGZAG[k]] = extend(jpeg, code & 15) * quant[k];
    }
    if (!wanted)
        return;
    for (int i = 0; i < 8; i++)
        idct(block + i, 8, 11);
    for (int i = 0; i < 64; i += 8)
        idct(block + i, 1, 18);
}

void mcu_jpeg_restart(mcu_jpeg *jpeg) {
    jpeg->bit_count = 0; /* the rest of the byte is padding */
    int byte = mcu_jpeg_byte(jpeg);
    if (byte != 0xff)
        mcu_jpeg_fail(jpeg, MCU_JPEG_CORRUPT);
    while (byte == 0xff && !jpeg->error)
        byte = mcu_jpeg_byte(jpeg);
    if (byte != 0xd0 + jpeg->markers)
        mcu_jpeg_fail(jpeg, MCU_JPEG_CORRUPT);
    jpeg->markers = (jpeg->markers + 1) & 7;
    jpeg->until_restart = jpeg->restart;
    for (int i = 0; i < jpeg->components; i++)
        jpeg->component[i].last = 0;
}
