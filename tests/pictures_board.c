/* As boards/main.c, but the picture comes as a JPEG or as camera lines (SOURCE), by a ready callback. */
#include "crc.h"
#include "mcu_jpeg.h"
#include "mcu_lines.h"
#include "print.h"
#include <string.h>

#define JPEG 1
#define LINES 2

extern const uint8_t data[], data_end[];

#if SOURCE == JPEG
static mcu_jpeg source;
static uint8_t band[MCU_JPEG_BAND_420];
static const uint8_t *at = data;

static size_t read_flash(void *user, uint8_t *dst, size_t n) {
    (void)user;
    const size_t left = (size_t)(data_end - at), got = left < n ? left : n;
    memcpy(dst, at, got);
    at += got;
    return got;
}

static void run(void) {
    source.read = read_flash, source.band = band, source.band_bytes = sizeof band, source.reduce = 1;
    mcu_jpeg_open(&source);
    mcu_run(mcu_read_jpeg, &source);
}
#else
static mcu_lines source;

static int next_line(void *user) { /* a camera that is polled */
    (void)user;
    mcu_lines_put(&source, data + source.line * 2 * MCU_INPUT_W);
    return 0;
}

static void run(void) {
    source.step = source.high_first = source.frames = 1, source.wait = next_line;
    mcu_lines_start(&source);
    mcu_lines_frame(&source);
    mcu_run(mcu_read_lines, &source);
}
#endif

int main(void) {
    run();
    uint32_t crc = 0xffffffffu;
    for (int i = 0; i < mcu_output_bytes(0); i++)
        crc = mcu_crc(crc, (uint8_t)mcu_output(0)[i]);
    mcu_print_pair("{\"output\": 0, \"crc32\": ", ~crc);
    mcu_print(", \"hex\": \"");
    mcu_print_hex(mcu_output(0), mcu_output_bytes(0));
    mcu_print("\"}\n{\"stack_bytes\": ");
    mcu_print_int(mcu_stack_bytes());
    mcu_print(", \"done\": true}\n");
    mcu_exit(source.error);
    return 0;
}
