/* $nucleo.$discovery
 * USART1 is at 0x40011000, USART2 at 0x40004400, USART3 at 0x40004800; GPIOx every 0x400, from $gpio on. */
#ifndef MCU_CONFIG_H
#define MCU_CONFIG_H
#define $family
#define MCU_BOARD "$board"
#define MCU_MODEL "$model" /* the first bytes of the SHA-256 of its sources */
#define MCU_HSI_HZ ${hsi}u
#define MCU_PLL_M ${pll_m}u /* the core's clock is MCU_HSI_HZ / M * N / P */
#define MCU_PLL_N ${pll_n}u
#define MCU_PLL_P ${pll_p}u
#define MCU_CORE_HZ ${clock_hz}u
#define MCU_FLASH_WAIT ${wait_states}u /* wait states */
#define MCU_BAUD 115200
#define MCU_UART $uart
#define MCU_USART ${usart_base}u /* USART$uart */
#define MCU_TX_GPIO ${tx_gpio}u /* P$tx, function 7 */
#define MCU_TX_PIN $tx_pin
#define MCU_RX_GPIO ${rx_gpio}u /* P$rx, function 7 */
#define MCU_RX_PIN $rx_pin
#endif
