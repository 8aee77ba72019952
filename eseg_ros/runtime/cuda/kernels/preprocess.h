// From a camera image to the engine's input tensor, fused: decode, resize, order the channels, normalize, NCHW.
#pragma once

#include "image.h"

namespace eseg {

// Writes the three channels of the tensor's pixel (x, y), which lies inside it.
ESEG_FUNCTION void preprocess_pixel(const PreprocessParameters& p, int x, int y)
{
    const int column = x - p.left;
    const int row = y - p.top;
    float value[3] = {0.0f, 0.0f, 0.0f};
    if (column >= 0 && column < p.placed_width && row >= 0 && row < p.placed_height) {
        const Color color = sample(p.image, column, row, p.placed_width, p.placed_height);
        value[0] = (p.rgb ? color.red : color.blue) * p.scale[0] + p.offset[0];
        value[1] = color.green * p.scale[1] + p.offset[1];
        value[2] = (p.rgb ? color.blue : color.red) * p.scale[2] + p.offset[2];
    }
    const long long plane = static_cast<long long>(p.tensor_width) * p.tensor_height;
    long long index = static_cast<long long>(y) * p.tensor_width + x;
    for (int channel = 0; channel < 3; ++channel, index += plane) {
        if (p.half) {
            static_cast<Half*>(p.tensor)[index] = to_half(value[channel]);
        } else {
            static_cast<float*>(p.tensor)[index] = value[channel];
        }
    }
}

}  // namespace eseg
