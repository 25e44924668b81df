/* A board's program: a greeting, the picture that is built in, if any, then pictures from the serial line.
 *
 * The host sends frames: 'M' 'C', length (uint32, little-endian), the bytes, CRC-32 of length and bytes. One byte is a
 * command: 'h' for the greeting, 'p' to run the model. While it runs, the board asks for each tile of the picture in a
 * line {"read": [y, x, h, w]} and gets it as a frame of [h][w][MCU_INPUT_C] bytes, so that it keeps no frame. It asks again,
 * at most TRIES times, for what came damaged or not at all. Everything the board sends is a line of JSON. */
#define MCU_FRAME_HOLDS_Q
#include "crc.h"
#include "frame.h"
#include "print.h"
#include "report.h"
#include "stm32.h"

#define TRIES 3
extern const uint8_t mcu_picture[]; /* [MCU_INPUT_H][MCU_INPUT_W][MCU_INPUT_C], or nothing */
extern const uint32_t mcu_picture_bytes;

enum { RECEIVED, SILENT, DAMAGED };

static int get_word(uint32_t *word, uint32_t *crc) {
    *word = 0;
    for (int i = 0; i < 4; i++) {
        const int byte = mcu_get();
        if (byte < 0)
            return 0;
        *word |= (uint32_t)byte << 8 * i;
        *crc = mcu_crc(*crc, (uint8_t)byte);
    }
    return 1;
}

/* A frame of n bytes, each less `zero`, into dst: [n]. */
static int receive(int8_t *dst, uint32_t n, int zero) {
    int byte = mcu_get(), before = 0;
    for (; !(before == 'M' && byte == 'C'); before = byte, byte = mcu_get())
        if (byte < 0)
            return SILENT;
    uint32_t length, sent, crc = 0xffffffffu, ignored = 0;
    if (!get_word(&length, &crc) || length != n)
        return DAMAGED;
    for (uint32_t i = 0; i < n; i++) {
        byte = mcu_get();
        if (byte < 0)
            return DAMAGED;
        crc = mcu_crc(crc, (uint8_t)byte);
        dst[i] = (int8_t)(byte - zero);
    }
    return get_word(&sent, &ignored) && sent == ~crc ? RECEIVED : DAMAGED;
}

static void quiet(void) { /* until the line has been silent */
    while (mcu_get() >= 0) {
    }
}

/* A mcu_read_tile from the serial line; what it takes does not count as the model's work. */
static void read_serial(void *context, int y, int x, int h, int w, int8_t *dst) {
    (void)context;
    const uint64_t start = mcu_count();
    const int tile[] = {y, x, h, w};
    for (int try = 0; try < TRIES; try++) {
        for (int i = 0; i < 4; i++)
            mcu_print_pair(i ? ", " : "{\"read\": [", tile[i]);
        mcu_print("]}\n");
        const int got = receive(dst, (uint32_t)(h * w * MCU_INPUT_C), 128);
        if (got == RECEIVED) {
            mcu_uncount(start);
            return;
        }
        if (got == DAMAGED)
            quiet();
    }
    mcu_print("{\"error\": \"a tile of the picture did not come whole\"}\n");
    mcu_restart();
}

static void greet(void) {
    mcu_print_pair("{\"mcunet\": ", 1);
    mcu_print(", \"board\": \"" MCU_BOARD "\", \"model\": \"" MCU_MODEL "\"");
    mcu_print_pair(", \"clock_hz\": ", mcu_clock_hz());
    mcu_print("}\n");
}

int main(void) {
    mcu_board_start();
    greet();
    if (mcu_picture_bytes) {
        mcu_frame frame = {mcu_picture, MCU_INPUT_W};
        mcu_report(mcu_read_frame, &frame);
    }
    for (;;) {
        int8_t command;
        const int got = receive(&command, 1, 0);
        if (got == DAMAGED) {
            quiet();
            mcu_print("{\"error\": \"a damaged frame\"}\n");
        } else if (got == RECEIVED && command == 'h')
            greet();
        else if (got == RECEIVED && command == 'p')
            mcu_report(read_serial, 0);
    }
}
