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

/* Adds the candidates of one level. cls: [h][w][classes], box: [h][w][4], object: [h][w]. */
static void scan(const mcu_yolox *op, const mcu_yolox_level *level, const int8_t *const *maps, mcu_boxes *boxes) {
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
            mcu_boxes_add(boxes, mcu_box_of_cell(&level->grid, box + 4 * i, i / level->w, i % level->w, score, label));
    }
}

int mcu_yolox_boxes(const mcu_yolox *op, const int8_t *const *maps, mcu_box *boxes, int room) {
    mcu_boxes list = {boxes, 0, boxes ? mcu_min(op->candidates, room) : 0, op->iou, 0};
    for (int i = 0; i < op->levels; i++)
        scan(op, &op->level[i], maps + 3 * i, &list);
    return mcu_boxes_nms(boxes, list.n, op->most, op->iou);
}
