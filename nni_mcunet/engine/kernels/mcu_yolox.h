/* YOLOX boxes from int8 class, box and object maps, in integers. The numpy twin is yolox.py. */
#ifndef MCU_YOLOX_H
#define MCU_YOLOX_H
#include "mcu_boxes.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* One level: one prediction a cell, three maps, NHWC: [h][w][classes], [h][w][4] (dx, dy, log width, log height) and
 * [h][w] (an object's logit). */
typedef struct {
    int16_t h, w;
    int16_t least_object, least_class; /* values without which no score passes the threshold; 128: none does */
    const int16_t *object;             /* [128 - least_object] of value - least_object, sigmoid, 1/32768 */
    const int16_t *cls;                /* [128 - least_class] of value - least_class, sigmoid, 1/32768 */
    mcu_grid grid;
} mcu_yolox_level;

typedef struct {
    int16_t levels, classes, most, candidates; /* most: boxes kept; candidates: room of the list */
    int32_t least;                             /* score that passes the threshold; 1/32768 */
    int32_t iou;                               /* of two boxes of one class: above it the lesser is dropped; 1/32768 */
    const mcu_yolox_level *level;              /* [levels] */
} mcu_yolox;

/* The best boxes by falling score, equals in the maps' order; returns their number, at most op->most. A cell has its
 * best class only, the first of equals. The candidates are collected in `boxes` too: room for less than op->candidates
 * limits their number. maps: [3 * op->levels], the three maps of each level in turn; boxes: [room]. Where room <= 0 or
 * boxes is null, 0. */
int mcu_yolox_boxes(const mcu_yolox *op, const int8_t *const *maps, mcu_box *boxes, int room);

#if defined(__cplusplus)
}
#endif

#endif
