// From logits at the head's stride to the mask and its pictures, fused: upsample, argmax, confidence, colors, overlay.
//
// Logits are interpolated as in eseg_ros/runtime/postprocess.py: the same positions, in the same order of operations.
#pragma once

#include "image.h"

namespace eseg {

constexpr unsigned char UNDECIDED_ID = 255;
constexpr float LARGEST_LOGIT = 1e30f;

// Infinity becomes a large number, whose interpolation is no NaN, and NaN the least one, which never wins.
ESEG_FUNCTION float finite(float logit)
{
    const float not_nan = logit > -LARGEST_LOGIT ? logit : -LARGEST_LOGIT;
    return not_nan < LARGEST_LOGIT ? not_nan : LARGEST_LOGIT;
}

// Where mask pixel `pixel` lies on an axis of `size` logits; beyond the outer ones both are the same.
ESEG_FUNCTION Between place_on_logits(int pixel, float scale, float offset, int size)
{
    const float position = scale * (static_cast<float>(pixel) + 0.5f) + (offset - 0.5f);
    const float before = floorf(position);
    const int low = static_cast<int>(before);
    return {clamped(low, 0, size - 1), clamped(low + 1, 0, size - 1), position - before};
}

struct Decision {
    int winner;
    float confidence;  // softmax probability of the winner times 255, not rounded; 0 where nobody asked
};

// The class with the highest interpolated logit, the lowest id of equal ones.
template <class Logit, bool WITH_CONFIDENCE>
ESEG_FUNCTION Decision decide(const PostprocessParameters& p, int x, int y)
{
    const Between column = place_on_logits(x, p.scale_x, p.offset_x, p.logits_width);
    const Between row = place_on_logits(y, p.scale_y, p.offset_y, p.logits_height);
    const int upper_left = row.low * p.logits_width + column.low;
    const int upper_right = row.low * p.logits_width + column.high;
    const int lower_left = row.high * p.logits_width + column.low;
    const int lower_right = row.high * p.logits_width + column.high;
    const Logit* plane = static_cast<const Logit*>(p.logits);
    float best = -2.0f * LARGEST_LOGIT;  // below any logit
    float total = 0.0f;  // of exp(logit - best) over the classes so far
    int winner = 0;
    for (int class_id = 0; class_id < p.classes; ++class_id, plane += p.logits_width * p.logits_height) {
        const float upper = mix(
            finite(to_float(load(plane + upper_left))), finite(to_float(load(plane + upper_right))), column.weight);
        const float lower = mix(
            finite(to_float(load(plane + lower_left))), finite(to_float(load(plane + lower_right))), column.weight);
        const float value = mix(upper, lower, row.weight);
        const bool leads = value > best;
        if (WITH_CONFIDENCE) {
            const float ratio = expf(leads ? best - value : value - best);
            total = leads ? total * ratio + 1.0f : total + ratio;
        }
        if (leads) {
            best = value;
            winner = class_id;
        }
    }
    return {winner, WITH_CONFIDENCE ? 255.0f / total : 0.0f};
}

ESEG_FUNCTION Decision decide(const PostprocessParameters& p, int x, int y)
{
    if (p.with_confidence) {
        return p.half ? decide<Half, true>(p, x, y) : decide<float, true>(p, x, y);
    }
    return p.half ? decide<Half, false>(p, x, y) : decide<float, false>(p, x, y);
}

ESEG_FUNCTION unsigned char blend(float image, unsigned char color, float alpha)
{
    const float blended = rintf((1.0f - alpha) * image + alpha * static_cast<float>(color));
    return static_cast<unsigned char>(fminf(fmaxf(blended, 0.0f), 255.0f));
}

// Writes the mask's pixel (x, y), which lies inside it, and that of each picture that is wanted.
ESEG_FUNCTION void postprocess_pixel(const PostprocessParameters& p, int x, int y)
{
    const long long pixel = static_cast<long long>(y) * p.width + x;
    const Decision decision = decide(p, x, y);
    unsigned char id = load(&p.live->ids[decision.winner]);
    if (p.with_confidence) {
        const float confidence = rintf(decision.confidence);
        if (confidence < 255.0f * load(&p.live->threshold)) {
            id = UNDECIDED_ID;
        }
        if (p.confidence) {
            p.confidence[pixel] = static_cast<unsigned char>(confidence);
        }
    }
    p.mask[pixel] = id;
    if (!p.color_mask && !p.overlay) {
        return;
    }
    const unsigned char* entry = p.live->palette[id];
    const unsigned char color[3] = {load(entry), load(entry + 1), load(entry + 2)};
    if (p.color_mask) {
        for (int channel = 0; channel < 3; ++channel) {
            p.color_mask[3 * pixel + channel] = color[channel];
        }
    }
    if (p.overlay) {
        const Color image = sample(p.image, x, y, p.width, p.height);
        const float alpha = load(&p.live->alpha);
        p.overlay[3 * pixel] = blend(image.blue, color[0], alpha);
        p.overlay[3 * pixel + 1] = blend(image.green, color[1], alpha);
        p.overlay[3 * pixel + 2] = blend(image.red, color[2], alpha);
    }
}

}  // namespace eseg
