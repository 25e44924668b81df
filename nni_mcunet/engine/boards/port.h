/* What the program asks of the machine it runs on: mps2.c (the emulated boards), host.c or stm32.c (real boards). */
#ifndef MCU_PORT_H
#define MCU_PORT_H
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

void mcu_put(char c);
uint64_t mcu_count(void);       /* work done so far in mcu_unit; 0 where nothing counts */
extern const char mcu_unit[];   /* "cycles" on a board, "instructions" (in steps of 40) under QEMU */
uint32_t mcu_clock_hz(void);    /* of the core; 0 where no time can be told */
uint32_t mcu_stack_bytes(void); /* high-water mark so far; 0 where it is not measured */
void mcu_exit(int code);

#if defined(__cplusplus)
}
#endif

#endif
