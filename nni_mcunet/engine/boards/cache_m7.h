/* The Cortex-M7's caches, and its MPU against speculation. */
#ifndef MCU_CACHE_M7_H
#define MCU_CACHE_M7_H
void mcu_caches_start(void); /* both invalidated, then on */
#endif
