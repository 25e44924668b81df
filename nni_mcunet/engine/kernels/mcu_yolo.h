/* YOLOv3 boxes from int8 prediction maps, in integers. The numpy twin is yolo.py. */
#ifndef MCU_YOLO_H
#define MCU_YOLO_H
#include "mcu_boxes.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* One map, NHWC: [h][w][anchors][5 + classes], the 5 being x, y, width, height and objectness. */
typedef struct {
    int16_t h, w, stride, anchors;
    int16_t least_object, least_class; /* values that pass the thresholds; 128: none does */
    const int16_t *sigmoid;            /* [256] of value + 128, 1/32768 */
    const uint32_t *exp;               /* [256] of value + 128, 1/65536 */
    const int32_t *sizes;              /* [anchors][2] width, height, 1/256 pixel */
} mcu_yolo_map;

typedef struct {
    int16_t maps, classes, most, candidates; /* most: boxes kept; candidates: room of the list */
    int32_t iou;                             /* of two boxes of one class: above it the lesser is dropped; 1/32768 */
    const mcu_yolo_map *map;                 /* [maps] */
} mcu_yolo;

/* The best boxes by falling score, equals in the maps' order; returns their number, at most op->most. The candidates
 * are collected in `boxes` too: room for less than op->candidates limits their number. maps: [op->maps], boxes: [room]. Where
 * room <= 0 or boxes is null, 0. */
int mcu_yolo_boxes(const mcu_yolo *op, const int8_t *const *maps, mcu_box *boxes, int room);

#if defined(__cplusplus)
}
#endif

#endif
