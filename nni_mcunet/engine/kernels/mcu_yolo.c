#include "mcu_yolo.h"
#include "mcu.h"

/* Half of size * exp(t), in 1/16 pixel. */
static int32_t half_length(int32_t size, uint32_t e) {
    uint64_t half = ((uint64_t)(uint32_t)size * e + (1u << 20)) >> 21;
    return half < 65535 ? (int32_t)half : 65535;
}

/* (cell + sigmoid) * stride, in 1/16 pixel. */
static int32_t centre(int cell, int16_t sigmoid, int stride) {
    return cell * stride * 16 + ((sigmoid * stride + (1 << 10)) >> 11);
}

/* The class c of the anchor a in the cell (y, x). v: [5 + classes]. */
static mcu_box box_of(const mcu_yolo_map *m, const int8_t *v, int y, int x, int a, int c) {
    const int32_t cx = centre(x, m->sigmoid[v[0] + 128], m->stride);
    const int32_t cy = centre(y, m->sigmoid[v[1] + 128], m->stride);
    const int32_t w = half_length(m->sizes[2 * a], m->exp[v[2] + 128]);
    const int32_t h = half_length(m->sizes[2 * a + 1], m->exp[v[3] + 128]);
    const int32_t score = (m->sigmoid[v[4] + 128] * m->sigmoid[v[5 + c] + 128] + (1 << 14)) >> 15;
    return mcu_box_at(cx, cy, w, h, score, c);
}

/* Adds the candidates of one map. map: [h][w][anchors][5 + classes]. */
static void scan(const mcu_yolo *op, const mcu_yolo_map *m, const int8_t *map, mcu_boxes *boxes) {
    for (int y = 0; y < m->h; y++)
        for (int x = 0; x < m->w; x++)
            for (int a = 0; a < m->anchors; a++, map += 5 + op->classes) {
                if (map[4] < m->least_object)
                    continue;
                for (int c = 0; c < op->classes; c++)
                    if (map[5 + c] >= m->least_class)
                        mcu_boxes_add(boxes, box_of(m, map, y, x, a, c));
            }
}

int mcu_yolo_boxes(const mcu_yolo *op, const int8_t *const *maps, mcu_box *boxes, int room) {
    mcu_boxes list = {boxes, 0, boxes ? mcu_min(op->candidates, room) : 0, op->iou, 0};
    for (int i = 0; i < op->maps; i++)
        scan(op, &op->map[i], maps[i], &list);
    return mcu_boxes_nms(boxes, list.n, op->most, op->iou);
}
