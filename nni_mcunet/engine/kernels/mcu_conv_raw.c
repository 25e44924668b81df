/* The 1x1 and dense convolutions of mcu_conv.c with weights that are multiplied two channels at once. */
#define MCU_RAW
#include "mcu_conv.c"
