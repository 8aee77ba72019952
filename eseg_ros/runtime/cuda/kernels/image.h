// Camera images of every encoding, pixel by pixel, as the 8-bit BGR that OpenCV's cvtColor makes of them.
#pragma once

#include "parameters.h"
#include "portable.h"

namespace eseg {

struct Color {
    float blue;
    float green;
    float red;
};

ESEG_FUNCTION int clamped(int value, int least, int most)
{
    return value < least ? least : value > most ? most : value;
}

ESEG_FUNCTION float mix(float first, float second, float weight) { return first + weight * (second - first); }

ESEG_FUNCTION Color mix(const Color& first, const Color& second, float weight)
{
    return {
        mix(first.blue, second.blue, weight),
        mix(first.green, second.green, weight),
        mix(first.red, second.red, weight),
    };
}

// A place along one axis: `weight` of the way from element `low` to element `high`.
struct Between {
    int low;
    int high;
    float weight;
};

// Where the centre of target pixel `target` lies on the source: (target + 0.5) * source_size / target_size - 0.5, not
// before the first pixel and not behind the last. As a fraction over 2 * target_size it needs no rounding; sizes up to
// 32767 fit.
ESEG_FUNCTION Between place_between(int target, int target_size, int source_size)
{
    const int denominator = 2 * target_size;
    const int numerator = (2 * target + 1) * source_size - target_size;
    if (numerator < 0) {
        return {0, 0, 0.0f};
    }
    const int low = numerator / denominator;
    const int rest = numerator - low * denominator;
    const int high = low + 1 < source_size ? low + 1 : low;
    return {low, high, static_cast<float>(rest) / static_cast<float>(denominator)};
}

// BT.601 in video range, in OpenCV's fixed point: 1.164, 2.018, -0.391, -0.813, 1.596 times 2^20.
ESEG_FUNCTION Color color_of_yuv(int y, int u, int v)
{
    const int shift = 20;
    const int half = 1 << (shift - 1);
    const int luma = (y > 16 ? y - 16 : 0) * 1220542;
    u -= 128;
    v -= 128;
    return {
        static_cast<float>(clamped((luma + half + 2116026 * u) >> shift, 0, 255)),
        static_cast<float>(clamped((luma + half - 409993 * u - 852492 * v) >> shift, 0, 255)),
        static_cast<float>(clamped((luma + half + 1673527 * v) >> shift, 0, 255)),
    };
}

// The readers: `at` gives the color of a pixel inside the image.

ESEG_FUNCTION const unsigned char* row_of(const ImageParameters& image, int y)
{
    return image.data + static_cast<long long>(image.step) * y;
}

// CHANNELS bytes a pixel: grey, or blue, green, red and perhaps alpha; red and blue are exchanged later where needed.
template <int CHANNELS>
struct Packed {
    static ESEG_FUNCTION Color at(const ImageParameters& image, int x, int y)
    {
        const unsigned char* pixel = row_of(image, y) + CHANNELS * x;
        return {
            static_cast<float>(load(pixel)),
            static_cast<float>(load(pixel + (CHANNELS > 1 ? 1 : 0))),
            static_cast<float>(load(pixel + (CHANNELS > 1 ? 2 : 0))),
        };
    }
};

// Two pixels in four bytes with common chroma: Y U Y V, or U Y V Y.
struct Yuv422 {
    static ESEG_FUNCTION Color at(const ImageParameters& image, int x, int y)
    {
        const int luma = image.encoding == UYVY ? 1 : 0;
        const unsigned char* row = row_of(image, y);
        const unsigned char* chroma = row + 2 * (x & ~1) + 1 - luma;
        return color_of_yuv(load(row + 2 * x + luma), load(chroma), load(chroma + 2));
    }
};

// A plane of luma, then rows of interleaved chroma, U first, at half the size.
struct Nv12 {
    static ESEG_FUNCTION Color at(const ImageParameters& image, int x, int y)
    {
        const unsigned char* chroma = row_of(image, image.height + y / 2) + (x & ~1);
        return color_of_yuv(load(row_of(image, y) + x), load(chroma), load(chroma + 1));
    }
};

// One channel a pixel, in tiles of 2x2: red, blue in the other row and column, green elsewhere; what is missing is the
// mean of the nearest pixels that have it. A pixel on the border takes the color of its neighbour inside; where there
// is no inside, the image is black.
struct Bayer {
    static ESEG_FUNCTION Color at(const ImageParameters& image, int x, int y)
    {
        if (image.width < 3 || image.height < 3) {
            return {0.0f, 0.0f, 0.0f};
        }
        x = clamped(x, 1, image.width - 2);
        y = clamped(y, 1, image.height - 2);
        const unsigned char* here = row_of(image, y) + x;
        const unsigned char* above = here - image.step;
        const unsigned char* below = here + image.step;
        const bool red_row = (y & 1) == (image.encoding == BAYER_BGGR8 || image.encoding == BAYER_GBRG8);
        const bool red_column = (x & 1) == (image.encoding == BAYER_BGGR8 || image.encoding == BAYER_GRBG8);
        const float own = static_cast<float>(load(here));
        if (red_row == red_column) {
            const float green = mean(load(above), load(below), load(here - 1), load(here + 1));
            const float across = mean(load(above - 1), load(above + 1), load(below - 1), load(below + 1));
            return red_row ? Color{across, green, own} : Color{own, green, across};
        }
        const float beside = mean(load(here - 1), load(here + 1));
        const float over = mean(load(above), load(below));
        return red_row ? Color{over, own, beside} : Color{beside, own, over};
    }

  private:
    static ESEG_FUNCTION float mean(int a, int b) { return static_cast<float>((a + b + 1) >> 1); }
    static ESEG_FUNCTION float mean(int a, int b, int c, int d) { return static_cast<float>((a + b + c + d + 2) >> 2); }
};

template <class Reader>
ESEG_FUNCTION Color interpolate(const ImageParameters& image, const Between& column, const Between& row)
{
    if (column.weight == 0.0f && row.weight == 0.0f) {  // for all pixels alike where the image has the target's size
        return Reader::at(image, column.low, row.low);
    }
    const Color upper =
        mix(Reader::at(image, column.low, row.low), Reader::at(image, column.high, row.low), column.weight);
    const Color lower =
        mix(Reader::at(image, column.low, row.high), Reader::at(image, column.high, row.high), column.weight);
    return mix(upper, lower, row.weight);
}

// The image resized to width x height, bilinearly with half-pixel centres, at (x, y); 0 to 255, not rounded.
ESEG_FUNCTION Color sample(const ImageParameters& image, int x, int y, int width, int height)
{
    const Between column = place_between(x, width, image.width);
    const Between row = place_between(y, height, image.height);
    Color color = {0.0f, 0.0f, 0.0f};
    switch (image.encoding) {
        case BGR8:
        case RGB8:
            color = interpolate<Packed<3>>(image, column, row);
            break;
        case BGRA8:
        case RGBA8:
            color = interpolate<Packed<4>>(image, column, row);
            break;
        case MONO8:
            color = interpolate<Packed<1>>(image, column, row);
            break;
        case YUYV:
        case UYVY:
            color = interpolate<Yuv422>(image, column, row);
            break;
        case NV12:
            color = interpolate<Nv12>(image, column, row);
            break;
        case BAYER_RGGB8:
        case BAYER_BGGR8:
        case BAYER_GBRG8:
        case BAYER_GRBG8:
            color = interpolate<Bayer>(image, column, row);
            break;
    }
    if (image.encoding == RGB8 || image.encoding == RGBA8) {
        return {color.red, color.green, color.blue};
    }
    return color;
}

}  // namespace eseg
