/* Just enough printing for a report of JSON lines. */
#ifndef MCU_PRINT_H
#define MCU_PRINT_H
#include "port.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* Called from many places, or from none. */
#define MCU_CALLED __attribute__((noinline, unused))

static MCU_CALLED void mcu_print(const char *text) {
    while (*text)
        mcu_put(*text++);
}

/* The inside of a JSON string. */
static inline void mcu_print_json(const char *text) {
    for (; *text; text++)
        if ((uint8_t)*text < 32 || *text == '"' || *text == '\\') {
            mcu_print("\\u00");
            mcu_put("0123456789abcdef"[(uint8_t)*text >> 4]);
            mcu_put("0123456789abcdef"[*text & 15]);
        } else
            mcu_put(*text);
}

static MCU_CALLED void mcu_print_int(int64_t v) {
    char digits[20];
    int n = 0;
    if (v < 0)
        mcu_put('-');
    do
        digits[n++] = (char)('0' + (v % 10 < 0 ? -(v % 10) : v % 10));
    while (v /= 10);
    while (n)
        mcu_put(digits[--n]);
}

static MCU_CALLED void mcu_print_pair(const char *name, int64_t value) {
    mcu_print(name);
    mcu_print_int(value);
}

static inline void mcu_print_hex(const int8_t *bytes, int n) { /* bytes: [n] */
    for (int i = 0; i < n; i++) {
        mcu_put("0123456789abcdef"[(uint8_t)bytes[i] >> 4]);
        mcu_put("0123456789abcdef"[bytes[i] & 15]);
    }
}

#if defined(__cplusplus)
}
#endif

#endif
