/* STM32F410, F411 and F412, up to 100 MHz (RM0401, RM0383, RM0402): scale 1, flash behind the ART accelerator. */
#include "stm32f4f7.h"

void mcu_core_start(void) {}

void mcu_uart_enable(void) { enable_port(); }

uint32_t mcu_uart_hz(uint32_t core_hz) { /* PCLK2, or PCLK1: at most 50 MHz */
    return MCU_UART == 1 || core_hz == MCU_HSI_HZ ? core_hz : core_hz / 2;
}

uint32_t mcu_clock_start(void) {
    start_oscillator();
    RCC_PLLCFGR = PLLCFGR | 5u << 24 | 2u << 28; /* Q 5 and R 2 are not used */
    start_pll();
    MCU_REG(FLASH_ACR) = 1u << 12 | 1u << 11; /* DCRST, ICRST: allowed while the caches are off */
    MCU_REG(FLASH_ACR) = 1u << 10 | 1u << 9 | 1u << 8 | MCU_FLASH_WAIT; /* DCEN, ICEN, PRFTEN, LATENCY */
    mcu_wait(FLASH_ACR, 15, MCU_FLASH_WAIT, "FLASH: the wait states are not taken");
    take_pll(4u << 10); /* PPRE1: HCLK / 2, PPRE2: HCLK */
    return MCU_CORE_HZ;
}
