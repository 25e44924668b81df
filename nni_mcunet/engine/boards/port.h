/* What main.c asks of the machine it runs on: mps2.c (the emulated boards) or host.c. */
#ifndef MCU_PORT_H
#define MCU_PORT_H
#include <stdint.h>

void mcu_put(char c);
uint64_t mcu_instructions(void); /* executed so far, in steps of 40; 0 where nothing counts them */
uint32_t mcu_stack_bytes(void);  /* high-water mark so far; 0 where it is not measured */
void mcu_exit(int code);

#endif
