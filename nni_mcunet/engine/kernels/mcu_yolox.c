#include "mcu_yolox.h"
#include "mcu.h"

/* The first of the greatest. v: [classes] */
static int best_class(const int8_t *v, int classes) {
    int best = 0;
    for (int c = 1; c < classes; c++)
        if (v[c] > v[best])
            best = c;
    return best;
}

/* Adds the candidates of one level to n boxes. cls: [h][w][classes], box: [h][w][4], object: [h][w], boxes: [room]. */
static int scan(const mcu_yolox *op, const mcu_yolox_level *level, const int8_t *const *maps, mcu_box *boxes, int n,
                int room) {
    const int8_t *const cls = maps[0], *const box = maps[1], *const object = maps[2];
    for (int i = 0; i < level->h * level->w; i++) {
        if (object[i] < level->least_object) /* nearly every cell ends here */
            continue;
        const int8_t *const v = cls + i * op->classes;
        const int label = best_class(v, op->classes);
        if (v[label] < level->least_class)
            continue;
        const int32_t sure = level->object[object[i] - level->least_object] * level->cls[v[label] - level->least_class];
        const int32_t score = (sure + (1 << 14)) >> 15;
        if (score >= op->least)
            n = mcu_boxes_insert(boxes, n, room,
                                 mcu_box_of_cell(&level->grid, box + 4 * i, i / level->w, i % level->w, score, label));
    }
    return n;
}

int mcu_yolox_boxes(const mcu_yolox *op, const int8_t *const *maps, mcu_box *boxes, int room) {
    int n = 0;
    if (!boxes)
        return 0;
    for (int i = 0; i < op->levels; i++)
        n = scan(op, &op->level[i], maps + 3 * i, boxes, n, mcu_min(op->candidates, room));
    return mcu_boxes_nms(boxes, n, op->most, op->iou);
}
