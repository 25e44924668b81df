#include "mcu_face.h"
#include "mcu.h"

/* face - max(background). v: [1 + background] */
static int lead(const int8_t *v, int background) {
    int best = v[1];
    for (int i = 2; i <= background; i++)
        best = mcu_max(best, v[i]);
    return v[0] - best;
}

/* Adds the candidates of one level. cls: [h][w][1 + background], box: [h][w][4]. */
static void scan(const mcu_face_level *level, const int8_t *cls, const int8_t *box, mcu_boxes *boxes) {
    const int w = level->w, channels = 1 + level->background, least = level->least;
    const int8_t *const end = cls + level->h * w * channels;
    for (const int8_t *v = cls; v != end; v += channels) {
        if (v[0] - v[1] < least) /* nearly every anchor ends here */
            continue;
        const int i = (int)(v - cls) / channels, d = lead(v, level->background);
        if (d < least)
            continue;
        const int score = level->score[d - least];
        mcu_boxes_add(boxes, mcu_box_of_cell(&level->grid, box + 4 * i, i / w, i % w, score, 0));
    }
}

int mcu_face_boxes(const mcu_face *op, const int8_t *const *maps, mcu_box *boxes, int room) {
    mcu_boxes list = {boxes, 0, boxes ? mcu_min(op->candidates, room) : 0, op->iou, 0};
    for (int i = 0; i < op->levels; i++)
        scan(&op->level[i], maps[2 * i], maps[2 * i + 1], &list);
    return mcu_boxes_nms(boxes, list.n, op->most, op->iou);
}
