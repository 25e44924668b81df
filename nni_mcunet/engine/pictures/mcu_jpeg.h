/* A ready mcu_read_tile for a baseline JPEG from flash, an SD card or a camera: decoded a row of its blocks at a time,
 * as the network asks for it, into a band of the rows that the plan may still ask for.
 *
 * Reads 8-bit baseline Huffman files of one scan: grey, or YCbCr at 4:4:4, 4:2:2, 4:4:0 or 4:2:0, with restart
 * intervals. Refuses everything else (progressive, arithmetic, 12-bit, CMYK) with an error code. The inverse DCT and
 * the colours are those of libjpeg's "islow", bit for bit; chroma is replicated, not smoothed. No malloc. */
#ifndef MCU_JPEG_H
#define MCU_JPEG_H
#include "mcu_model.h"
#include <stddef.h>

#if defined(__cplusplus)
extern "C" {
#endif

enum {
    MCU_JPEG_OK,
    MCU_JPEG_END,         /* the data ended, or reading it failed */
    MCU_JPEG_CORRUPT,     /* no JPEG, or not as the standard has it */
    MCU_JPEG_UNSUPPORTED, /* a JPEG of another kind, see above */
    MCU_JPEG_SIZE,        /* the network's picture is not inside the reduced one, or `reduce` is none of its four.
                             With MCU_LETTERBOX the JPEG may be smaller: mcu_read_letterbox reads it */
    MCU_JPEG_BAND,        /* band_bytes are too few: band_needed says how many it takes */
    MCU_JPEG_ORDER,       /* rows were asked for that the band has let go */
};

/* Bytes of band that suffice for a file's sampling, where first_row and first_column are multiples of 16; for others
 * MCU_JPEG_BAND(MCU_PICTURE_ROWS(1) + 16, MCU_INPUT_W + 30, halves) does. halves: half samples a pixel, 2 for grey,
 * 3 for 4:2:0, 4 for 4:2:2 and 4:4:0, 6 for 4:4:4. A grey network keeps only luma. */
#define MCU_JPEG_UP(n, m) (((n) + (m) - 1) / (m) * (m))
#define MCU_JPEG_BAND(rows, columns, halves) ((rows) * (columns) * (MCU_INPUT_C == 1 ? 2 : (halves)) / 2)
#define MCU_JPEG_BAND_GREY MCU_JPEG_BAND(MCU_PICTURE_ROWS(8), MCU_JPEG_UP(MCU_INPUT_W, 8), 2)
#define MCU_JPEG_BAND_444 MCU_JPEG_BAND(MCU_PICTURE_ROWS(8), MCU_JPEG_UP(MCU_INPUT_W, 8), 6)
#define MCU_JPEG_BAND_422 MCU_JPEG_BAND(MCU_PICTURE_ROWS(8), MCU_JPEG_UP(MCU_INPUT_W, 16), 4)
#define MCU_JPEG_BAND_440 MCU_JPEG_BAND(MCU_PICTURE_ROWS(16), MCU_JPEG_UP(MCU_INPUT_W, 8), 4)
#define MCU_JPEG_BAND_420 MCU_JPEG_BAND(MCU_PICTURE_ROWS(16), MCU_JPEG_UP(MCU_INPUT_W, 16), 3)

#define MCU_JPEG_INPUT 128 /* bytes asked of `read` at once */

typedef struct {
    uint8_t h, v, quant, dc, ac; /* sampling factors and tables */
    int16_t last;                /* DC of the block before */
    int width, rows;             /* of its part of the band */
    uint8_t *band;               /* [rows][width], row r of it at r % rows */
} mcu_jpeg_component;

typedef struct {
    /* To be filled in before mcu_jpeg_open: */
    size_t (*read)(void *user, uint8_t *dst, size_t n); /* up to n bytes of the file into dst; 0: no more */
    void *user;
    uint8_t *band;
    size_t band_bytes;
    int first_row, first_column; /* of the network's picture in the reduced JPEG */
    int reduce;                  /* 1, 2, 4 or 8: the mean of so many pixels each way becomes one */
    /* For the caller to read: */
    int error; /* one of the above, after mcu_jpeg_open and after mcu_run */
    int height, width;
    size_t band_needed;
    /* Its own: */
    mcu_jpeg_component component[3];
    int components, restart, until_restart, markers;
    int mcu_h, mcu_w, across; /* reduced pixels of an MCU; MCUs beside each other */
    int left, right, done;    /* MCU columns kept; rows of MCUs decoded */
    uint32_t bits;
    int bit_count;
    uint16_t input_at, input_end;
    uint8_t input[MCU_JPEG_INPUT];
    uint8_t quant[4][64];
    uint8_t counts[2][2][16], dc[2][12], ac[2][256]; /* counts: [DC, AC][table][length - 1] */
    uint8_t seen;                                    /* tables: bit 0..3 quant, 4..5 DC, 6..7 AC */
    int32_t block[64];
} mcu_jpeg;

/* Reads the header, up to the picture's data. Returns the error. */
int mcu_jpeg_open(mcu_jpeg *jpeg);

/* context: a mcu_jpeg that is open, dst: [h][w][MCU_INPUT_C]; after an error the tile is grey. */
void mcu_read_jpeg(void *context, int y, int x, int h, int w, int8_t *dst);

/* Only for mcu_jpeg*.c. A byte of the file; 0 and an error where there is none. */
int mcu_jpeg_byte(mcu_jpeg *jpeg);
int mcu_jpeg_fail(mcu_jpeg *jpeg, int error);
/* Decodes the next block of a component into jpeg->block: pixels, not yet clamped, where `wanted`. */
void mcu_jpeg_block(mcu_jpeg *jpeg, mcu_jpeg_component *component, int wanted);
/* Ends a restart interval: the next is about to begin. */
void mcu_jpeg_restart(mcu_jpeg *jpeg);

#if defined(__cplusplus)
}
#endif

#endif
