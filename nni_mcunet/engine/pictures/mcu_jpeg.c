/* The bands of a JPEG: rows of MCUs decoded as they are asked for, and tiles out of them. */
#include "mcu_jpeg.h"
#include "mcu_pixel.h"
#include <string.h>

static int clamp(int v) { return v < 0 ? 0 : v > 255 ? 255 : v; }

/* Pixel i, j of a block of 8 / reduce: the mean of those that become one. */
static uint8_t mean(const int32_t *block, int reduce, int i, int j) {
    int sum = reduce * reduce / 2;
    for (int a = i * reduce; a < (i + 1) * reduce; a++)
        for (int b = j * reduce; b < (j + 1) * reduce; b++)
            sum += clamp(block[8 * a + b] + 128);
    return (uint8_t)(sum / (reduce * reduce));
}

/* The block into the band, from row y of the component on and column x of its part. */
static void store(const mcu_jpeg *jpeg, const mcu_jpeg_component *part, int y, int x) {
    const int reduce = jpeg->reduce, size = 8 / reduce;
    for (int i = 0; i < size; i++) {
        uint8_t *row = part->band + (y + i) % part->rows * part->width + x;
        for (int j = 0; j < size; j++)
            row[j] = reduce == 1 ? (uint8_t)clamp(jpeg->block[8 * i + j] + 128) : mean(jpeg->block, reduce, i, j);
    }
}

/* The blocks of one component in the MCU of column `at`. */
static void decode_component(mcu_jpeg *jpeg, mcu_jpeg_component *part, int at) {
    const int size = 8 / jpeg->reduce, below = (jpeg->done + 1) * jpeg->mcu_h > jpeg->first_row;
    const int wanted = part->band && below && at >= jpeg->left && at < jpeg->right;
    for (int v = 0; v < part->v; v++)
        for (int h = 0; h < part->h && !jpeg->error; h++) {
            mcu_jpeg_block(jpeg, part, wanted);
            if (wanted)
                store(jpeg, part, (jpeg->done * part->v + v) * size, ((at - jpeg->left) * part->h + h) * size);
        }
}

static void decode_row(mcu_jpeg *jpeg) {
    for (int at = 0; at < jpeg->across && !jpeg->error; at++) {
        if (jpeg->restart && !jpeg->until_restart--) {
            mcu_jpeg_restart(jpeg);
            jpeg->until_restart--;
        }
        for (int c = 0; c < jpeg->components; c++)
            decode_component(jpeg, &jpeg->component[c], at);
    }
    jpeg->done++;
}

/* Row y of a component in the band, [width]; sampled at 1 / 2^shift of luma's columns. */
static const uint8_t *band_row(const mcu_jpeg *jpeg, const mcu_jpeg_component *part, int y, int *shift) {
    *shift = jpeg->component[0].h - part->h; /* factors are 1 or 2 */
    return part->band + (y >> (jpeg->component[0].v - part->v)) % part->rows * part->width;
}

static int8_t *grey_row(const mcu_jpeg *jpeg, int y, int x, int w, int8_t *dst) {
    int shift;
    const uint8_t *luma = band_row(jpeg, &jpeg->component[0], y, &shift);
    for (int i = x; i < x + w; i++)
        dst = mcu_pixel(luma[i], luma[i], luma[i], dst);
    return dst;
}

/* JFIF's YCbCr (ITU-R BT.601, full range), with libjpeg's constants times 2^16. */
static int8_t *colour_row(const mcu_jpeg *jpeg, int y, int x, int w, int8_t *dst) {
    int none, shift;
    const uint8_t *luma = band_row(jpeg, &jpeg->component[0], y, &none);
    const uint8_t *blue = band_row(jpeg, &jpeg->component[1], y, &shift);
    const uint8_t *red = band_row(jpeg, &jpeg->component[2], y, &shift);
    for (int i = x; i < x + w; i++) {
        const int cb = blue[i >> shift] - 128, cr = red[i >> shift] - 128;
        const int r = luma[i] + ((91881 * cr + 32768) >> 16), b = luma[i] + ((116130 * cb + 32768) >> 16);
        const int g = luma[i] + ((-22554 * cb - 46802 * cr + 32768) >> 16);
        dst = mcu_pixel(clamp(r), clamp(g), clamp(b), dst);
    }
    return dst;
}

void mcu_read_jpeg(void *context, int y, int x, int h, int w, int8_t *dst) {
    mcu_jpeg *jpeg = context;
    y += jpeg->first_row;
    x += jpeg->first_column;
#if defined(MCU_LETTERBOX)
    if (y + h > jpeg->height / jpeg->reduce || x + w > jpeg->width / jpeg->reduce)
        mcu_jpeg_fail(jpeg, MCU_JPEG_SIZE); /* beyond the JPEG: mcu_read_letterbox asks for what is in it */
#endif
    x -= jpeg->left * jpeg->mcu_w;
    while (!jpeg->error && jpeg->done * jpeg->mcu_h < y + h)
        decode_row(jpeg);
    if (y < jpeg->done * jpeg->mcu_h - jpeg->component[0].rows)
        mcu_jpeg_fail(jpeg, MCU_JPEG_ORDER);
    if (jpeg->error) {
        memset(dst, 0, (size_t)(h * w * MCU_INPUT_C));
        return;
    }
    for (int i = y; i < y + h; i++)
        dst = (jpeg->component[1].band ? colour_row : grey_row)(jpeg, i, x, w, dst);
}
