/* The ready callbacks on this machine. Commands: frame|grey|rgb565|lines|jpeg FILE: runs the model on the picture in
 * FILE and writes each tile that it asked for (y, x, h, w as int32, then its bytes), -1, its outputs and the error as
 * int32. BOX_H and BOX_W in the environment: through mcu_read_letterbox, whose errors are 100 more. fuzz FILE: many JPEGs, each behind its length; writes one error an int32. */
#define MCU_FRAME_HOLDS_Q
#include "mcu_model.h"
#include "frame.h"
#include "mcu_frames.h"
#include "mcu_jpeg.h"
#include "mcu_lines.h"
#if defined(MCU_LETTERBOX)
#include "mcu_letterbox.h"
static mcu_letterbox box;
#endif
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint8_t *file;
static size_t file_bytes, file_at;
static mcu_read_tile source;

static void load(const char *name) {
    FILE *from = fopen(name, "rb");
    fseek(from, 0, SEEK_END);
    file_bytes = (size_t)ftell(from);
    rewind(from);
    file = malloc(file_bytes + 1); /* the sanitizer sees the end */
    if (fread(file, 1, file_bytes, from) != file_bytes)
        exit(3);
    fclose(from);
}

static void write_int(int32_t v) { fwrite(&v, 4, 1, stdout); }

static int number(const char *name, int otherwise) { return getenv(name) ? atoi(getenv(name)) : otherwise; }

static void show(void *context, int y, int x, int h, int w, int8_t *dst) {
    source(context, y, x, h, w, dst);
    const int32_t where[4] = {y, x, h, w};
    fwrite(where, 4, 4, stdout);
    fwrite(dst, 1, (size_t)(h * w * MCU_INPUT_C), stdout);
}

static void run(mcu_read_tile read, void *context) {
#if defined(MCU_LETTERBOX)
    if (getenv("BOX_H")) {
        box = (mcu_letterbox){read, context, number("BOX_H", 0), number("BOX_W", 0), 0};
        read = mcu_read_letterbox, context = &box;
    }
#endif
    source = read;
    mcu_run(show, context);
    write_int(-1);
    for (int i = 0; i < MCU_OUTPUTS; i++)
        fwrite(mcu_output(i), 1, (size_t)mcu_output_bytes(i), stdout);
    if (getenv("AGAIN")) { /* a row that the plan does not ask for again */
        int8_t row[MCU_INPUT_W * MCU_INPUT_C];
        memset(row, 1, sizeof row);
        read(context, number("AGAIN", 0), 0, 1, MCU_INPUT_W, row);
    }
}

/* A camera of CAMERA_H x CAMERA_W, polled: each wait puts a line and AHEAD more; the first frame is cut at line CUT. */
static mcu_lines lines;
static int camera_h, camera_w, camera_line, camera_frame;

static void camera_next(void) {
    if (camera_line == camera_h)
        camera_line = 0;
    if (!camera_line) {
        mcu_lines_frame(&lines);
        camera_frame++;
    }
    if (camera_frame == 1 && camera_line == number("CUT", -1))
        mcu_lines_overrun(&lines);
    uint8_t *line = malloc((size_t)(2 * camera_w));
    memcpy(line, file + 2 * camera_w * camera_line++, (size_t)(2 * camera_w));
    mcu_lines_put(&lines, line);
    free(line);
}

static int camera_wait(void *user) {
    if (camera_frame > number("TIMEOUT", 1000))
        return 1;
    for (int i = 0; i <= *(int *)user; i++)
        camera_next();
    return 0;
}

static int run_lines(void) {
    int ahead = number("AHEAD", 0);
    camera_h = number("CAMERA_H", MCU_INPUT_H), camera_w = number("CAMERA_W", MCU_INPUT_W);
    lines.first_line = number("ROW", 0), lines.first_column = number("COLUMN", 0), lines.step = number("STEP", 1);
    lines.high_first = number("HIGH", 1), lines.frames = number("FRAMES", 1);
#if defined(MCU_LETTERBOX)
    lines.width = number("LINES_W", 0);
#endif
    lines.wait = camera_wait, lines.user = &ahead;
    mcu_lines_start(&lines);
    run(mcu_read_lines, &lines);
    return lines.error;
}

static size_t read_some(void *user, uint8_t *dst, size_t n) {
    (void)user;
    const size_t left = file_bytes - file_at, some = n < 61 ? n : 61, got = left < some ? left : some;
    memcpy(dst, file + file_at, got);
    file_at += got;
    return got;
}

static int run_jpeg(void) {
    mcu_jpeg jpeg = {.read = read_some,
                     .reduce = number("REDUCE", 1),
                     .first_row = number("ROW", 0),
                     .first_column = number("COLUMN", 0),
                     .band_bytes = (size_t)number("BAND", 1 << 20)};
    if (mcu_jpeg_open(&jpeg) && jpeg.error != MCU_JPEG_BAND) /* first with no band at all, to learn its size */
        return jpeg.error;
    jpeg.band_bytes = (size_t)number("BAND", (int)jpeg.band_needed);
    jpeg.band = malloc(jpeg.band_bytes);
    memset(jpeg.band, 0x55, jpeg.band_bytes);
    file_at = 0;
    if (!mcu_jpeg_open(&jpeg))
        run(mcu_read_jpeg, &jpeg);
    free(jpeg.band);
    return jpeg.error;
}

/* Tiles of full width, down the picture: whatever is in the file, nothing but an error may come of it. */
static int fuzz_one(void) {
    static uint8_t band[MCU_JPEG_BAND(MCU_PICTURE_ROWS(1) + 16, MCU_INPUT_W + 30, 6)];
    static int8_t tile[MCU_INPUT_W * MCU_INPUT_C];
    mcu_jpeg jpeg = {.read = read_some, .reduce = 1, .band = band, .band_bytes = sizeof band};
    mcu_jpeg_open(&jpeg);
    for (int y = 0; y < MCU_INPUT_H; y++)
        mcu_read_jpeg(&jpeg, y, 0, 1, MCU_INPUT_W, tile);
    return jpeg.error;
}

static int fuzz(void) {
    uint8_t *all = file;
    const size_t end = file_bytes;
    for (size_t at = 0; at < end; at += 4 + file_bytes) {
        int32_t n;
        memcpy(&n, all + at, 4);
        file_bytes = (size_t)n, file_at = 0;
        file = malloc(file_bytes + 1);
        memcpy(file, all + at + 4, file_bytes);
        write_int(fuzz_one());
        free(file);
    }
    file = all;
    return 0;
}

int main(int count, char **words) {
    if (count != 3)
        return 2;
    load(words[2]);
    mcu_frame_bytes bytes = {file, number("STRIDE", MCU_INPUT_W), number("HIGH", 1)};
    int error = 0;
    mcu_frame whole = {file, number("STRIDE", MCU_INPUT_W)};
    if (!strcmp(words[1], "frame"))
        run(mcu_read_frame, &whole);
    else if (!strcmp(words[1], "grey"))
        run(mcu_read_grey, &bytes);
    else if (!strcmp(words[1], "rgb565"))
        run(mcu_read_rgb565, &bytes);
    else if (!strcmp(words[1], "lines"))
        error = run_lines();
    else if (!strcmp(words[1], "jpeg"))
        error = run_jpeg();
    else
        return fuzz();
#if defined(MCU_LETTERBOX)
    error += box.error ? 100 + box.error : 0;
#endif
    write_int(error);
    free(file);
    return 0;
}
