/* What stm32.c (UART, cycle counter), the file of the family (clock, caches) and serve.c share. Registers have the
 * names of ST's reference manuals and Arm's. */
#ifndef MCU_STM32_H
#define MCU_STM32_H
#include "config.h" /* of the project: board, family, UART */
#include <stdint.h>

#if defined(__cplusplus)
extern "C" {
#endif

#define MCU_REG(address) (*(volatile uint32_t *)(address))
#define MCU_SILENCE_MS 1000

/* Of the family, called in this order: */
void mcu_core_start(void);              /* caches, errata */
void mcu_uart_enable(void);             /* clocks of the UART and its pins */
uint32_t mcu_uart_hz(uint32_t core_hz); /* what the UART divides */
uint32_t mcu_clock_start(void);         /* PLL from the internal oscillator, no crystal; returns the core's Hz */

/* Of stm32.c: */
void mcu_board_start(void);
void mcu_wait(uint32_t reg, uint32_t mask, uint32_t wanted, const char *what); /* until reg & mask is so, or mcu_fail */
void mcu_fail(const char *what);                                               /* an error line, and the end */
int mcu_get(void);                /* the next byte, or -1 after MCU_SILENCE_MS without one */
void mcu_uncount(uint64_t since); /* what mcu_count() has counted since is not the model's work */
void mcu_restart(void);           /* reset */

#if defined(__cplusplus)
}
#endif

#endif
