// What the kernels are told. The structs of eseg_ros/runtime/cuda/parameters.py, which documents every field.
#pragma once

namespace eseg {

// Camera encodings, in the order of ENCODINGS in parameters.py.
enum Encoding : int {
    BGR8,
    RGB8,
    BGRA8,
    RGBA8,
    MONO8,
    YUYV,
    UYVY,
    NV12,
    BAYER_RGGB8,
    BAYER_BGGR8,
    BAYER_GBRG8,
    BAYER_GRBG8,
};

struct ImageParameters {
    const unsigned char* data;
    int encoding;
    int width;
    int height;
    int step;
};

struct PreprocessParameters {
    ImageParameters image;
    void* tensor;
    int tensor_width;
    int tensor_height;
    int left;
    int top;
    int placed_width;
    int placed_height;
    int half;
    int rgb;
    float scale[3];
    float offset[3];
};

struct LiveParameters {
    float alpha;
    float threshold;
    unsigned char ids[256];
    unsigned char palette[256][3];
};

struct PostprocessParameters {
    const void* logits;
    const LiveParameters* live;
    ImageParameters image;
    unsigned char* mask;
    unsigned char* color_mask;
    unsigned char* overlay;
    unsigned char* confidence;
    int width;
    int height;
    int classes;
    int logits_width;
    int logits_height;
    int half;
    int with_confidence;
    float scale_x;
    float offset_x;
    float scale_y;
    float offset_y;
};

static_assert(sizeof(ImageParameters) == 24, "IMAGE of parameters.py");
static_assert(sizeof(PreprocessParameters) == 88, "PREPROCESS of parameters.py");
static_assert(sizeof(LiveParameters) == 1032, "LIVE of parameters.py");
static_assert(sizeof(PostprocessParameters) == 120, "POSTPROCESS of parameters.py");

}  // namespace eseg
