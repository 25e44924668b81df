/* STM32F746, up to 216 MHz (RM0385): over-drive, caches. The ART accelerator serves
 * only the flash at 0x00200000 (AN4667), the caches that at 0x08000000, where the program lies. */
#include "cache_m7.h"
#include "stm32f4f7.h"

#define RCC_DCKCFGR2 MCU_REG(RCC + 0x90)

void mcu_core_start(void) { mcu_caches_start(); }

void mcu_uart_enable(void) {
    RCC_DCKCFGR2 |= 2u << (MCU_UART - 1) * 2; /* USARTxSEL: HSI */
    enable_port();
}

uint32_t mcu_uart_hz(uint32_t core_hz) {
    (void)core_hz;
    return MCU_HSI_HZ;
}

uint32_t mcu_clock_start(void) {
    start_oscillator();
    RCC_PLLCFGR = PLLCFGR | 9u << 24 | 1u << 29; /* Q 9 is not used; bit 29 is 1 (as in ST's __HAL_RCC_PLL_CONFIG) */
    start_pll();
    PWR_CR |= 1u << 16; /* ODEN */
    mcu_wait(PWR_CSR, 1u << 16, 1u << 16, "PWR: over-drive does not start");
    PWR_CR |= 1u << 17; /* ODSWEN */
    mcu_wait(PWR_CSR, 1u << 17, 1u << 17, "PWR: over-drive does not switch");
    MCU_REG(FLASH_ACR) = 1u << 11;                           /* ARTRST: allowed while the accelerator is off */
    MCU_REG(FLASH_ACR) = 1u << 9 | 1u << 8 | MCU_FLASH_WAIT; /* ARTEN, PRFTEN, LATENCY */
    mcu_wait(FLASH_ACR, 15, MCU_FLASH_WAIT, "FLASH: the wait states are not taken");
    take_pll(5u << 10 | 4u << 13); /* PPRE1: HCLK / 4, PPRE2: HCLK / 2 */
    return MCU_CORE_HZ;
}
