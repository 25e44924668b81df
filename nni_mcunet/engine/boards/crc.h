/* CRC-32 as zlib has it (polynomial 0x04c11db7, reflected), byte by byte: start with 0xffffffff, complement the end. */
#ifndef MCU_CRC_H
#define MCU_CRC_H
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

static inline uint32_t mcu_crc(uint32_t crc, uint8_t byte) {
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++)
        crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    return crc;
}

#if defined(__cplusplus)
}
#endif

#endif
