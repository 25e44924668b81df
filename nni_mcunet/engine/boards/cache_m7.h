/* The Cortex-M7's caches, and its MPU against speculation. */
#ifndef MCU_CACHE_M7_H
#define MCU_CACHE_M7_H

#if defined(__cplusplus)
extern "C" {
#endif

void mcu_caches_start(void); /* both invalidated, then on */

#if defined(__cplusplus)
}
#endif

#endif
